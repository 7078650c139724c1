"""The machine that something was measured on, without its name."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import msgspec

SYNC_ROUNDS = 200


class Machine(msgspec.Struct, frozen=True):
    """What figures depend on."""

    cpu: str
    cores: int
    """That this process may use."""
    memory_bytes: int
    kernel: str
    python: str
    fdatasync_4k_ms: float
    """Mean time of one 4 KiB append with its fdatasync, where the store's data lies; 0 when it lies elsewhere."""

    @property
    def words(self) -> str:
        text = f"{self.cores} cores ({self.cpu}), {self.memory_bytes / (1 << 30):.1f} GiB of memory, "
        text += f"{self.kernel}, Python {self.python}"
        if self.fdatasync_4k_ms:
            text += f"; one 4 KiB append and fdatasync: {self.fdatasync_4k_ms:.2f} ms"
        return text


def this_machine(sync_ms: float = 0.0) -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        fdatasync_4k_ms=round(sync_ms, 3),
    )


def sync_ms(folder: Path) -> float:
    """Mean time of one 4 KiB append with fdatasync in `folder`: what the disk itself allows."""
    path = folder / "sync-probe"
    with path.open("wb", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(SYNC_ROUNDS):
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
        took = time.perf_counter() - began
    path.unlink()
    return took * 1000 / SYNC_ROUNDS


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
