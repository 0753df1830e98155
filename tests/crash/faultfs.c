/* Storage faults for one directory tree, by LD_PRELOAD.
 *
 *   FAULTFS_ROOT=/path           only files below it are touched
 *   FAULTFS_LOG=/path            one line for each sync that succeeded ("S inode size", "D directory")
 *                                and each rename ("R to", after the old target was kept beside the log)
 *   FAULTFS_FAIL=op:n:errno[:+]  the nth call of op fails; with "+", every later one too
 *   FAULTFS_KILL=op:n            the process dies in the nth call of op, half-way through if it writes
 *
 * op is write, sync, rename or any. The log is written with raw system calls, so it outlives the
 * process and is not itself subject to faults.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum op { WRITE, SYNC, RENAME, OPS };
static const char *const op_names[] = {"write", "sync", "rename"};
enum verdict { PASS, FAIL, DIE };

struct fault { char op[16]; long at; int error; int sticky; };

static const char *root;
static int log_fd = -1;
static struct fault failing, killing;
static long counts[OPS + 1];

static void parse(struct fault *fault, const char *text) {
    char plus = 0;
    if (text && sscanf(text, "%15[^:]:%ld:%d:%c", fault->op, &fault->at, &fault->error, &plus) >= 2)
        fault->sticky = plus == '+';
}

__attribute__((constructor)) static void start(void) {
    root = getenv("FAULTFS_ROOT");
    parse(&failing, getenv("FAULTFS_FAIL"));
    parse(&killing, getenv("FAULTFS_KILL"));
    const char *path = getenv("FAULTFS_LOG");
    if (path) log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);
}

static void note(const char *format, ...) {
    char line[PATH_MAX + 64];
    va_list arguments;
    if (log_fd < 0) return;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (void)!syscall(SYS_write, log_fd, line, (size_t)size);
}

static int below_root(const char *path) { return root && !strncmp(path, root, strlen(root)); }

static int ours(int fd, char *path) {
    char link[64];
    if (!root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below_root(path);
}

static int hits(const struct fault *fault, enum op op, long nth, long nth_any) {
    long n = !strcmp(fault->op, "any") ? nth_any : !strcmp(fault->op, op_names[op]) ? nth : 0;
    return fault->at && n && (n == fault->at || (fault->sticky && n > fault->at));
}

static enum verdict judge(enum op op) {
    long nth = __atomic_add_fetch(&counts[op], 1, __ATOMIC_SEQ_CST);
    long nth_any = __atomic_add_fetch(&counts[OPS], 1, __ATOMIC_SEQ_CST);
    if (hits(&killing, op, nth, nth_any)) return DIE;
    if (!hits(&failing, op, nth, nth_any)) return PASS;
    note("F %s\n", op_names[op]);
    errno = failing.error;
    return FAIL;
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define NEXT(result, name, ...) \
    static result (*next)(__VA_ARGS__); \
    if (!next) next = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(ssize_t, write, int, const void *, size_t);
    char path[PATH_MAX];
    if (!ours(fd, path)) return next(fd, data, size);
    enum verdict verdict = judge(WRITE);
    if (verdict == FAIL) return -1;
    if (verdict == DIE) { (void)!next(fd, data, size / 2); die(); }
    return next(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    char path[PATH_MAX];
    if (!ours(fd, path)) return next(fd, data, size, at);
    enum verdict verdict = judge(WRITE);
    if (verdict == FAIL) return -1;
    if (verdict == DIE) { (void)!next(fd, data, size / 2, at); die(); }
    return next(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

static int synced(int fd, int (*really)(int)) {
    char path[PATH_MAX];
    struct stat status;
    if (!ours(fd, path)) return really(fd);
    enum verdict verdict = judge(SYNC);
    if (verdict == FAIL) return -1;
    if (verdict == DIE) die();
    /* The size from before: what is appended while the disk works is not promised. */
    int known = !fstat(fd, &status);
    int result = really(fd);
    if (result || !known) return result;
    if (S_ISDIR(status.st_mode)) note("D %s\n", path);
    else note("S %lu %lld\n", (unsigned long)status.st_ino, (long long)status.st_size);
    return result;
}

int fsync(int fd) { NEXT(int, fsync, int); return synced(fd, next); }

int fdatasync(int fd) { NEXT(int, fdatasync, int); return synced(fd, next); }

static void keep_old(const char *target, long number) {
    char old[PATH_MAX], data[65536];
    snprintf(old, sizeof old, "%s.old.%ld", getenv("FAULTFS_LOG"), number);
    int from = syscall(SYS_openat, AT_FDCWD, target, O_RDONLY);
    if (from < 0) return;
    int to = syscall(SYS_openat, AT_FDCWD, old, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t size = syscall(SYS_read, from, data, sizeof data);
    if (size > 0) (void)!syscall(SYS_write, to, data, (size_t)size);
    close(from);
    close(to);
}

int rename(const char *from, const char *to) {
    NEXT(int, rename, const char *, const char *);
    static long number;
    if (!below_root(to)) return next(from, to);
    enum verdict verdict = judge(RENAME);
    if (verdict == FAIL) return -1;
    if (verdict == DIE) die();
    long mine = __atomic_add_fetch(&number, 1, __ATOMIC_SEQ_CST);
    if (log_fd >= 0) keep_old(to, mine);
    int result = next(from, to);
    if (!result) note("R %ld %s\n", mine, to);
    return result;
}
