"""The disks under catalog and nodes: room, kind of file system, who shares one, how long a sync takes."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.checks.finding import Finding, Subject, bad, ok, warn

CATALOG = "catalog"
_CATALOG_FREE_MIN = 64 << 20
_CATALOG_FREE_LOW = 1 << 30
_NODE_FREE_FACTOR = 2
_SYNCS = 16
_SYNC_BYTES = 4096
_SLOW_S = 0.02
_IN_MEMORY = frozenset(("tmpfs", "ramfs"))
_REMOTE = frozenset(("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs"))
_FLEETING = frozenset(("overlay", "aufs"))


@dataclass(frozen=True, slots=True)
class Homes:
    """Where the store's data lies: directory by node, and that of the catalog."""

    catalog: Path
    nodes: Mapping[str, Path]

    def all(self) -> dict[str, Path]:
        """By name, without directories that are not there."""
        every = {CATALOG: self.catalog, **self.nodes}
        return {name: path for name, path in every.items() if path.is_dir()}


def space(subject: Subject, homes: Homes) -> Iterator[Finding]:
    """Room for what comes. Below its reserve a node takes no new blocks."""
    from compose.cli.figures import size_text

    if homes.catalog.is_dir():
        free = shutil.disk_usage(homes.catalog).free
        detail = f"{size_text(free)} free for the catalog"
        do = "free space on that disk: a full one stops every write, also deletes"
        if free < _CATALOG_FREE_MIN:
            yield bad("disk space", detail, do)
        elif free < _CATALOG_FREE_LOW:
            yield warn("disk space", detail, do)
        else:
            yield ok("disk space", detail)
    reserve = subject.settings.node_reserve_bytes
    for name, path in homes.nodes.items():
        if not path.is_dir():
            do = f"mount its disk; if it is lost for good: trivet node recover {name} --lost"
            yield bad("disk space", f"the directory of {name} is gone: {path}", do)
            continue
        free = shutil.disk_usage(path).free
        detail = f"{size_text(free)} free for {name}"
        if free < reserve:
            detail += f", less than its reserve of {size_text(reserve)}: it takes no new objects"
            yield bad("disk space", detail, "delete objects, or add a node (trivet node add DIR)")
        elif free < _NODE_FREE_FACTOR * reserve:
            do = f"it takes no new objects below {size_text(reserve)}: add a node (trivet node add DIR)"
            yield warn("disk space", detail, do)
        else:
            yield ok("disk space", detail)


def shared(_subject: Subject, homes: Homes) -> Iterator[Finding]:
    """Nodes on one disk die together."""
    by_device: dict[int, list[str]] = {}
    for name, path in homes.nodes.items():
        if path.is_dir():
            by_device.setdefault(path.stat().st_dev, []).append(name)
    together = [names for names in by_device.values() if len(names) > 1]
    for names in together:
        yield warn(
            "shared disks",
            f"{', '.join(names)} lie on one disk: its loss is the loss of all of them",
            "trivet node add DIR on disks of their own, then trivet node drain the others",
        )
    if by_device and not together:
        yield ok("shared disks", "each node has a disk of its own")


def file_systems(_subject: Subject, homes: Homes) -> Iterator[Finding]:
    """Kinds that forget, or that a database should not lie on."""
    mounts = _mounts()
    kinds = {name: _kind_of(path.resolve(), mounts) for name, path in homes.all().items()}
    fine = True
    for name, kind in kinds.items():
        if kind in _IN_MEMORY:
            fine = False
            yield bad("file systems", f"{name} lies in memory ({kind})", "a reboot forgets it: use a disk")
        elif kind in _FLEETING:
            fine = False
            do = "it is gone with its container: mount a volume there"
            yield warn("file systems", f"{name} lies in the layer of a container ({kind})", do)
        elif name == CATALOG and (kind in _REMOTE or kind.startswith("fuse.")):
            fine = False
            do = "SQLite needs true locks and shared memory: put the data directory on a local disk"
            yield bad("file systems", f"the catalog lies on {kind}", do)
    if kinds and fine:
        yield ok("file systems", ", ".join(sorted(set(kinds.values()))))


def _mounts() -> list[tuple[Path, str]]:
    """(mount point, kind), in the order in which they were mounted."""
    mounts = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        mounts.append((Path(point.encode().decode("unicode_escape")), kind))
    return mounts


def _kind_of(path: Path, mounts: list[tuple[Path, str]]) -> str:
    """Of the deepest mount that the path is below; the last one there hides the others."""
    kinds = [
        (len(point.parts), at, kind) for at, (point, kind) in enumerate(mounts) if path.is_relative_to(point)
    ]
    return max(kinds)[2] if kinds else "unknown"


def sync_speed(_subject: Subject, homes: Homes) -> Iterator[Finding]:
    """How long each disk takes to make a page durable: every PUT waits for it."""
    seen: set[int] = set()
    for name, path in homes.all().items():
        device = path.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        try:
            median_s, worst_s = measured_sync_s(path)
        except OSError as error:
            yield bad(
                "sync speed",
                f"the disk of {name} can't be written: {error.strerror}",
                "see its kernel messages (dmesg), free space, or mount it writable",
            )
            continue
        detail = f"disk of {name}: {median_s * 1000:.2f} ms a sync, {worst_s * 1000:.2f} ms the slowest of {_SYNCS}"
        if median_s > _SLOW_S:
            do = "every write waits for it: a disk with a power-safe cache is faster, or others keep this one busy"
            yield warn("sync speed", detail, do)
        else:
            yield ok("sync speed", detail)


def measured_sync_s(directory: Path) -> tuple[float, float]:
    """Median and maximum of some writes of a page with fdatasync, in a file without a name. Raises OSError."""
    page = os.urandom(_SYNC_BYTES)
    took_s = []
    with tempfile.TemporaryFile(dir=directory) as file:  # O_TMPFILE: a crash leaves nothing behind
        for _ in range(_SYNCS):
            began_s = time.perf_counter()
            os.write(file.fileno(), page)
            os.fdatasync(file.fileno())
            took_s.append(time.perf_counter() - began_s)
    return statistics.median(took_s), max(took_s)
