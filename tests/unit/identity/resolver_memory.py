"""What a resolver says it takes, and what the process took: two numbers, bytes an identifier.

Run as a process of its own: an allocator that has freed memory gives that out again first, and
then what a resolver takes does not show.
"""

import gc
import os
import sys
from pathlib import Path

from cdp._matcher import KIND_IDENTIFY, Resolver
from cdp.app import rules_json
from cdp.config import Identity
from cdp.domain.identifier import NAMESPACE_CODE

USER, EMAIL, ANONYMOUS = (NAMESPACE_CODE[name] for name in ("user_id", "email", "anonymous_id"))


def new_resolver():
    return Resolver(b"a key of the tests", rules_json(Identity()))


def tell(resolver, people):
    resolver.resolve(
        [
            (
                n,
                KIND_IDENTIFY,
                0,
                [(USER, f"u-{n}"), (ANONYMOUS, f"device-{n}"), (EMAIL, f"u{n}@gmail.com")],
            )
            for n in people
        ]
    )


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main(people):
    tell(new_resolver(), range(1_000))  # the tables of phone numbers, once for all resolvers
    resolver = new_resolver()
    gc.collect()
    before = resident_bytes()
    for start in range(0, people, 1_000):
        tell(resolver, range(start, start + 1_000))
    gc.collect()
    found = resolver.statistics()
    nodes = found["nodes"]
    print(found["memory_bytes"] / nodes, (resident_bytes() - before) / nodes)


if __name__ == "__main__":
    main(int(sys.argv[1]))
