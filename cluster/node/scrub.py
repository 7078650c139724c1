"""The scrub: reads all live records of a node again and again from the disk, at a set rate, and checks them.

A pass first walks the index for blocks whose segment file is gone, then the segments in the order of the log,
each from its first live record to its last. What fails is looked at once more by the Checker and lands in the
list of damaged blocks. Reads go past the page cache: they see what the disk holds (S2) and push nothing out.

`scrub.json` remembers the segment to go on with after a restart; it is derived data. No thread and no clock of
its own: `step` does a bounded piece of work and says how long to rest.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import lmdb
import msgspec

from cluster.log_names import index_key
from cluster.node.damage import DamageList
from cluster.node.files import FileLayer
from cluster.node.identity import SEGMENT_DIR
from cluster.node.index import Index
from cluster.node.index_entry import Entry, unpack_entry
from cluster.node.records import BlockUnreadable, DamageReport, Records, check_record
from cluster.node.segment import read_table, segment_numbers, segment_path, unpack_entries
from cluster.node.verify import Checker
from codec.block import BlockCorrupt, RecordType, record_bytes

log = logging.getLogger("trivet.node")

SCRUB_FILE: Final = "scrub.json"
SCRUB_FORMAT: Final = 1
_WINDOW_BYTES: Final = 1 << 20  # read at once; a larger record by itself
_WINDOW_RECORDS: Final = 64  # checked at once: well under a millisecond in which requests wait for the GIL
_PAGE_ENTRIES: Final = 200  # of the index, walked in one step
_RECORD_COST_BYTES: Final = 4096  # what a record counts against the rate besides its bytes: its share of CPU
_ENTRY_COST_BYTES: Final = 64  # the same of an index entry that is walked over

Live = tuple[bytes, Entry]  # index key, and where its record lies


class _Position(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    segment: int  # the pass goes on with this one


class Scrubber:
    """`step` belongs to one thread; the counters may be read by any."""

    def __init__(
        self,
        directory: Path,
        files: FileLayer,
        *,
        index: Index,
        records: Records,
        checker: Checker,
        damaged: DamageList,
        report: DamageReport,
        cluster_id: bytes,
        bytes_per_s: int,
        pause_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._path = directory / SCRUB_FILE
        self._segments = directory / SEGMENT_DIR
        self._files = files
        self._index = index
        self._records = records
        self._checker = checker
        self._damaged = damaged
        self._report = report
        self._cluster_id = cluster_id
        self._bytes_per_s = bytes_per_s
        self._pause_s = pause_s
        self._clock = clock
        self._due = clock()
        self._next_segment = self._load()
        self._work = self._pass()
        self.scrubbed_bytes = 0
        self.passes = 0

    def step(self) -> float:
        """Check about a mebibyte. Returns the seconds to wait before the next call.

        An error of disk or index ends the pass; the next one begins where this one was.
        """
        assert self._bytes_per_s > 0, "the scrub is off"
        now = self._clock()
        try:
            cost = next(self._work)
        except StopIteration:
            self._work = self._pass()
            return self._pause_s
        except (OSError, lmdb.Error) as error:
            log.warning("scrub interrupted, trying again in %.0f s: %s", self._pause_s, error)
            self._work = self._pass()
            return self._pause_s
        self._due = max(self._due, now) + cost / self._bytes_per_s
        return max(0.0, self._due - self._clock())

    def _pass(self) -> Iterator[int]:
        """Each item is a piece of work done, as what it counts against the rate."""
        yield from self._find_lost_segments()
        for number in segment_numbers(self._segments, self._files):
            if number >= self._next_segment:
                for window in _windows(self._in_segment(number)):
                    yield self._check_window(number, window)
                self._remember(number + 1)
        self._remember(0)
        self.passes += 1

    # -- what to check -------------------------------------------------------------------------------------

    def _in_segment(self, number: int) -> Iterator[Live | int]:
        """The live records of a segment in the order they lie there; an int is the cost of finding them."""
        table = self._read_table(number)
        if table is not None:
            counted = 0
            for entry in sorted(unpack_entries(table), key=lambda entry: entry.offset):
                if entry.type != RecordType.TOMBSTONE:
                    key = index_key(entry.type, entry.key)
                    item = key, Entry(number, entry.offset, entry.payload_length, entry.sequence)
                    counted += self._is_live(item)
                    yield item
            use = self._index.usage.of(number)
            if use is None or counted >= use.blocks:
                return
            # A record whose header had rotted when recovery wrote the table is in the index alone.
        # Still written to, or never sealed: the index alone knows what counts in it.
        found: list[Live] = []
        for page in self._walk():
            found += [live for live in page if live[1].segment == number]
            yield len(page) * _ENTRY_COST_BYTES
        yield from sorted(found, key=lambda live: live[1].offset)

    def _read_table(self, number: int) -> bytes | None:
        path = segment_path(self._segments, number)
        try:
            fd = self._files.open(path)
        except FileNotFoundError:
            return b""  # removed by the compaction
        try:
            sealed = read_table(self._files, fd, self._files.size(path), self._cluster_id)
        finally:
            self._files.close(fd)
        return None if sealed is None else sealed[0]

    def _walk(self) -> Iterator[list[Live]]:
        """All live entries of the index, page by page: of blocks, then of the catalog's log."""
        for look in (self._index.page, self._index.log_page):
            after, more = b"", True
            while more:
                page, more = look(after, _PAGE_ENTRIES)
                if page:
                    after = page[-1][0]
                yield page

    def _is_live(self, live: Live) -> bool:
        raw = self._index.get(live[0])
        return raw is not None and unpack_entry(raw) == live[1]

    # -- checks --------------------------------------------------------------------------------------------

    def _find_lost_segments(self) -> Iterator[int]:
        present = set(segment_numbers(self._segments, self._files))
        lost_bytes: Counter[int] = Counter()
        for page in self._walk():
            for live in page:
                segment = live[1].segment
                if segment not in present and self._is_there(segment):
                    present.add(segment)  # begun since
                if segment not in present and self._is_lost(live):
                    lost_bytes[segment] += record_bytes(live[1].payload_length)
            yield len(page) * _ENTRY_COST_BYTES
        for segment, nbytes in lost_bytes.items():
            self._report("missing", segment, 0, nbytes)

    def _is_there(self, segment: int) -> bool:
        try:
            self._files.size(segment_path(self._segments, segment))
        except FileNotFoundError:
            return False
        return True

    def _is_lost(self, live: Live) -> bool:
        """List a block whose segment file is not there; whether that is news."""
        key, entry = live
        if not self._is_live(live):
            return False  # moved by the compaction
        news = self._damaged.found(key, entry.sequence, "missing")
        if not self._is_live(live):
            self._damaged.settled(key)
        return news

    def _check_window(self, number: int, window: list[Live] | int) -> int:
        if isinstance(window, int):
            return window
        window = [live for live in window if self._is_live(live)]
        if not window:
            return _RECORD_COST_BYTES
        start = window[0][1].offset
        span = _end(window[-1]) - start
        for key in self._suspects(number, start, span, window):
            self._checker.check(key, deep=True)
        self.scrubbed_bytes += sum(record_bytes(entry.payload_length) for _, entry in window)
        return span + len(window) * _RECORD_COST_BYTES

    def _suspects(self, number: int, start: int, span: int, window: list[Live]) -> list[bytes]:
        """The keys among `window` whose records are not as they should be."""
        try:
            content = memoryview(self._records.read_disk(number, start, span))
        except BlockUnreadable:
            return [key for key, _ in window]
        suspects = []
        for live in window:
            key, entry = live
            try:
                check_record(content[entry.offset - start : _end(live) - start], key, entry)
            except BlockCorrupt:
                suspects.append(key)
        return suspects

    # -- position ------------------------------------------------------------------------------------------

    def _load(self) -> int:
        try:
            position = msgspec.json.decode(self._files.read_file(self._path), type=_Position)
        except FileNotFoundError:
            return 0
        except (msgspec.DecodeError, OSError) as error:
            log.warning("%s can't be used (%s): the scrub begins anew", self._path, error)
            return 0
        return position.segment if position.format == SCRUB_FORMAT else 0

    def _remember(self, segment: int) -> None:
        self._next_segment = segment
        position = msgspec.json.encode(_Position(SCRUB_FORMAT, segment))
        try:
            self._files.replace_file(self._path, position + b"\n")
        except OSError as error:
            log.warning("position of the scrub not stored: %s", error)


def _end(live: Live) -> int:
    """Offset behind a record."""
    return live[1].offset + record_bytes(live[1].payload_length)


def _windows(found: Iterable[Live | int]) -> Iterator[list[Live] | int]:
    """Neighbours to be read and checked at once, in the order they lie in. Costs pass through. Where the records of a
    segment come a second time, from the index, another window begins."""
    window: list[Live] = []
    for item in found:
        if isinstance(item, int):
            yield item
            continue
        full = len(window) == _WINDOW_RECORDS
        again = window and item[1].offset < window[-1][1].offset
        if window and (full or again or _end(item) - window[0][1].offset > _WINDOW_BYTES):
            yield window
            window = []
        window.append(item)
    if window:
        yield window
