"""What a disk may hold after the power went: images of a directory, made from a log of its syncs.

The shim (faultfs.c) notes each sync that succeeded, with the file's size, and each rename. An
image keeps what was synced and decides by chance about the rest: the end of a file that was not
synced is kept, cut, zeroed (the size grew, the data did not arrive) or garbage; a file that was
never synced may be missing; a rename after the last sync of its directory may not have happened.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


def build_shim(directory: Path) -> Path:
    """Compiles the shim; raises FileNotFoundError where there is no C compiler."""
    shim = directory / "faultfs.so"
    command = ["cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", str(shim), str(HERE / "faultfs.c")]
    subprocess.run([*command, "-ldl"], check=True)
    return shim


def shim_environment(shim: Path, root: Path, log: Path, **faults: str) -> dict[str, str]:
    """The environment of a process whose files below `root` are subject to faults."""
    return {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "FAULTFS_ROOT": str(root),
        "FAULTFS_LOG": str(log),
        **{f"FAULTFS_{name.upper()}": text for name, text in faults.items()},
    }


@dataclass
class Syncs:
    """What is known to be durable."""

    sizes: dict[int, int] = field(default_factory=dict)  # inode -> bytes
    undoable: dict[str, Path] = field(default_factory=dict)  # target -> its content before


def read_syncs(log: Path) -> Syncs:
    syncs = Syncs()
    for line in log.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "S":
            inode, size = rest.split()
            syncs.sizes[int(inode)] = int(size)
        elif kind == "D":
            gone = [target for target in syncs.undoable if os.path.dirname(target) == rest]
            for target in gone:
                del syncs.undoable[target]
        elif kind == "R":
            number, target = rest.split(" ", 1)
            # Only the first rename since the directory was synced tells what is on disk.
            syncs.undoable.setdefault(target, Path(f"{log}.old.{number}"))
    return syncs


FATES = ("kept", "cut", "cut", "zeroed", "garbage")


def power_cut(source: Path, image: Path, syncs: Syncs, rng, fates=FATES) -> int:
    """Makes an image; returns how many bytes did not survive."""
    shutil.rmtree(image, ignore_errors=True)
    lost = 0
    for file in sorted(source.rglob("*")):
        target = image / file.relative_to(source)
        if file.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        content = file.read_bytes()
        kept = _survives(file, content, syncs, rng, fates)
        if kept is not None:
            target.write_bytes(kept)
        lost += len(content) - len(kept or b"")
    return lost


def _survives(file: Path, content: bytes, syncs: Syncs, rng, fates) -> bytes | None:
    old = syncs.undoable.get(str(file))
    if old is not None and rng.random() < 0.5:
        return old.read_bytes() if old.exists() else None
    inode = file.stat().st_ino
    if inode not in syncs.sizes and rng.random() < 0.5:
        return None
    synced = min(syncs.sizes.get(inode, 0), len(content))
    return content[:synced] + _end(content[synced:], rng, fates)


def _end(end: bytes, rng, fates) -> bytes:
    kept = rng.randint(0, len(end))
    fate = rng.choice(fates)
    if fate == "kept":
        return end
    if fate == "zeroed":
        return end[:kept] + b"\0" * (len(end) - kept)
    if fate == "garbage":
        return end[:kept] + rng.randbytes(min(512, len(end) - kept))
    return end[:kept]
