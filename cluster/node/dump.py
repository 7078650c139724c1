"""Show what a segment holds: `python -m cluster.node.dump SEGMENT [--cluster HEX]`.

One line a record, from the bytes of the file alone; bad places are shown, not skipped. Reads only, takes no
lock: safe beside a running node.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cluster.log_names import BATCH, MARK_KEY, SNAPSHOT, unpack_name
from cluster.node.files import RealFiles
from cluster.node.scan import Gap, Record, scan
from cluster.node.segment import PLAIN_RECORD_BYTES, offset_of, read_exactly, read_table, segment_of
from codec.block import BlockCorrupt, BlockHeader, RecordType, pack_key, parse_header

_KINDS: Final = {BATCH: "batch", SNAPSHOT: "snapshot"}


def describe(found: Record | Gap) -> str:
    """One record or gap as a line."""
    if isinstance(found, Gap):
        return f"{found.offset:10d}  BAD  {found.length} bytes are no record"
    header = found.header
    kind = RecordType(header.type).name
    line = f"{found.offset:10d}  {kind:<11} sequence {header.sequence:#x}"
    if header.type in (RecordType.SHARD, RecordType.TOMBSTONE):
        line += f" blob {header.key.blob.hex()} stripe {header.key.stripe} shard {header.key.shard}"
    if header.type == RecordType.SHARD:
        line += f" code {header.k}+{header.m}/{header.codec} stripe bytes {header.stripe_length}"
    elif header.type == RecordType.TOMBSTONE:
        line += f" deletes copy {header.aux:#x}" if header.aux else " deletes any copy"
    elif header.type == RecordType.CATALOG_LOG and pack_key(header.key) == MARK_KEY:
        line += " trimmed up to here"
    elif header.type == RecordType.CATALOG_LOG:
        name = unpack_name(pack_key(header.key))
        line += f" {_KINDS.get(name.kind, name.kind)} term {name.term} batch {name.batch} chunk {name.chunk}"
    elif header.type in (RecordType.BATCH, RecordType.SEGMENT):
        line += f" synced before {segment_of(header.aux):08x}:{offset_of(header.aux)}"
    if header.type == RecordType.SEGMENT:
        line += f" node {header.key.blob.hex()} segment {header.key.stripe:08x}"
    line += f" payload {header.payload_length}"
    return line if found.whole else line + "  BAD PAYLOAD"


def dump(path: Path, cluster_id: bytes | None = None) -> Iterator[str]:
    """Lines that describe a segment. The cluster id is taken from its first record when not given."""
    files = RealFiles()
    handle = path.open("rb")
    with handle:
        fd, size = handle.fileno(), path.stat().st_size
        if cluster_id is None:
            cluster_id = _first_header(files, fd).cluster_id
        yield f"segment {path}, {size} bytes, cluster {cluster_id.hex()}"
        for found in scan(files, fd, size, cluster_id):
            yield describe(found)
        sealed = read_table(files, fd, size, cluster_id)
        yield "sealed" if sealed is not None else "not sealed: no whole key table at its end"


def _first_header(files: RealFiles, fd: int) -> BlockHeader:
    try:
        return parse_header(read_exactly(files, fd, 0, PLAIN_RECORD_BYTES))
    except BlockCorrupt as error:
        raise SystemExit(f"the first record is bad ({error}): name the cluster with --cluster") from None


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m cluster.node.dump", description=__doc__)
    parser.add_argument("segment", type=Path)
    parser.add_argument("--cluster", type=bytes.fromhex, help="cluster id, 32 hex digits")
    options = parser.parse_args(arguments)
    for line in dump(options.segment, options.cluster):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
