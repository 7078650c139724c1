"""A disk that remembers the order of things, and every state in which a power cut may leave it.

Promised is only what POSIX promises: what a file's sync covered is there; a name is there once its directory
was synced. All else that was asked for since may have happened or not, in any combination, and a write may have
reached the disk in part, sector by sector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.crash.recorder import Event

SECTOR_BYTES: Final = 512
_TRUNCATE: Final = b""


class _File:
    """One inode. `pending`: (event number, offset, data; no data: cut to that length)."""

    __slots__ = ("durable", "pending")

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[tuple[int, int, bytes]] = []

    def settle(self, until: int) -> None:
        content = bytearray(self.durable)
        for number, offset, data in self.pending:
            if number <= until:
                _apply(content, offset, data)
        self.durable = bytes(content)
        self.pending = [each for each in self.pending if each[0] > until]


class Disk:
    """Takes events in order; `states` are the crashes possible after the last one taken."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}  # as the running program sees them
        self._durable: dict[str, _File] = {}
        self._renames: list[tuple[str, str | None, _File]] = []  # (name, name to take away, file), not synced

    def take(self, number: int, event: Event) -> None:
        """Do what the program asked for; `number` counts all events, from 1."""
        match event.kind:
            case "create":
                if event.path not in self._names:
                    file = self._names[event.path] = _File()
                    self._renames.append((event.path, None, file))
            case "write":
                self._names[event.path].pending.append((number, event.offset, event.data))
            case "write_through":
                file = self._names[event.path]
                content = bytearray(file.durable)
                _apply(content, event.offset, event.data)
                file.durable = bytes(content)
            case "truncate":
                self._names[event.path].pending.append((number, event.offset, _TRUNCATE))
            case "sync" if event.path in self._names:
                self._names[event.path].settle(event.began)
            case "sync":
                self._sync_dir(event.path)
            case "rename":
                file = self._names.pop(event.path)
                self._names[event.target] = file
                self._renames.append((event.target, event.path, file))
            case "unlink":
                file = self._names.pop(event.path)
                self._renames.append(("", event.path, file))

    def _sync_dir(self, directory: str) -> None:
        def lies_there(path: str) -> bool:
            return path.rpartition("/")[0] == directory

        durable = {path: file for path, file in self._durable.items() if not lies_there(path)}
        durable.update((path, file) for path, file in self._names.items() if lies_there(path))
        self._durable = durable
        self._renames = [each for each in self._renames if not lies_there(each[0] or each[1] or "")]

    def states(self, random: Random, samples: int) -> Iterator[dict[str, bytes]]:
        """Path to content: nothing unsynced arrived, all of it did, and `samples` random mixtures."""
        yield self._state(None, arrived=False)
        if self._renames or any(file.pending for file in self._names.values()):
            yield self._state(None, arrived=True)
            for _ in range(samples):
                yield self._state(random, arrived=False)

    def _state(self, random: Random | None, *, arrived: bool) -> dict[str, bytes]:
        names = dict(self._durable)
        for name, gone, file in self._renames:
            if arrived if random is None else random.random() < 0.5:
                if gone is not None:
                    names.pop(gone, None)
                if name:
                    names[name] = file
        return {path: _content(file, random, arrived=arrived) for path, file in names.items()}


def _content(file: _File, random: Random | None, *, arrived: bool) -> bytes:
    content = bytearray(file.durable)
    for _, offset, data in file.pending:
        fate = random.random() if random is not None else float(not arrived)
        if fate < 0.4:
            _apply(content, offset, data)
        elif fate < 0.8 and random is not None and data:
            _tear(content, offset, data, random)
    return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes) -> None:
    if not data:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _tear(content: bytearray, offset: int, data: bytes, random: Random) -> None:
    at = 0
    while at < len(data):
        stop = min(len(data), at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES)
        if random.random() < 0.5:
            _apply(content, offset + at, data[at:stop])
        at = stop


def crashes(
    events: Sequence[Event], random: Random, samples: int
) -> Iterator[tuple[list[bytes], dict[str, bytes]]]:
    """(marks made before, files) of every distinct crash state, from an empty directory on."""
    disk = Disk()
    seen: set[tuple[int, bytes]] = set()
    marks: list[bytes] = []
    for number, event in enumerate(events, 1):
        if event.kind == "mark":
            marks.append(event.data)
        else:
            disk.take(number, event)
        for state in disk.states(random, samples):
            digest = hashlib.blake2b()
            for path, content in sorted(state.items()):
                digest.update(path.encode() + b"\0" + hashlib.blake2b(content).digest())
            key = (len(marks), digest.digest())
            if key not in seen:
                seen.add(key)
                yield list(marks), state


def lay_out(state: dict[str, bytes], directory: Path) -> None:
    """Write the files of a crash state below a directory."""
    for path, content in state.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
