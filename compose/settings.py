"""All settings of Trivet's processes: name, default, environment variable and help, in one table.

The table is the fields of `Settings`. It feeds the options of the command line, the documents (a test
looks for each setting there) and the way settings reach child processes: the supervisor puts what is in
force into their environment, where they read it by the same names. Read once at start, frozen afterwards.
Units stand last in a name. The root credentials are not settings of this table: they are secrets (see
compose.credentials).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from compose.logs import FORMATS, LEVELS
from compose.refusal import StartRefused


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field of `Settings` is written outside Python."""

    env: str
    help: str
    parse: Callable[[str], object]
    render: Callable[[Any], str] = str


def _about(
    env: str, help_text: str, parse: Callable[[str], object], render: Callable[[Any], str] = str
) -> dict[str, Setting]:
    return {"setting": Setting(env, help_text, parse, render)}


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return parse


def _words(separator: str) -> tuple[Callable[[str], tuple[str, ...]], Callable[[tuple[object, ...]], str]]:
    return (
        lambda text: tuple(word for word in text.split(separator) if word),
        lambda words: separator.join(str(word) for word in words),
    )


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(word) for word in text.split(os.pathsep) if word)


def _render_paths(paths: tuple[Path, ...]) -> str:
    return os.pathsep.join(str(path) for path in paths)


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


_parse_domains, _render_domains = _words(",")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force. Make one with `read`; a plain constructor call checks nothing."""

    data: Path = field(
        default=Path("data"),
        metadata=_about("TRIVET_DATA", "directory for credentials, catalog and (by default) the nodes", Path),
    )
    host: str = field(
        default="127.0.0.1",
        metadata=_about("TRIVET_HOST", "address to listen on; only this machine can reach the default", str),
    )
    port: int = field(
        default=9000,
        metadata=_about("TRIVET_PORT", "port of the S3 endpoint; 0 takes a free one", _integer(0, 65_535)),
    )
    node_dirs: tuple[Path, ...] = field(
        default=(),
        metadata=_about(
            "TRIVET_NODE_DIRS",
            "directory of one storage node of a new store, once for each node (on a machine with several disks)",
            _paths,
            _render_paths,
        ),
    )
    nodes: int = field(
        default=0,
        metadata=_about(
            "TRIVET_NODES",
            "storage nodes of a new store; 0 means three, or as many as a stripe has shards",
            _integer(0, 255),
        ),
    )
    fronts: int = field(
        default=0,
        metadata=_about(
            "TRIVET_FRONTS", "number of S3 front processes; 0 means one for two cores", _integer(0, 64)
        ),
    )
    region: str = field(
        default="us-east-1", metadata=_about("TRIVET_REGION", "the region that requests are signed for", str)
    )
    zone: str = field(
        default="",
        metadata=_about(
            "TRIVET_ZONE",
            "the zone, within the region, that this machine is in: near nodes are read first",
            str,
        ),
    )
    domains: tuple[str, ...] = field(
        default=("localhost",),
        metadata=_about(
            "TRIVET_DOMAINS",
            "base domains whose subdomains name buckets, separated by commas",
            _parse_domains,
            _render_domains,
        ),
    )
    data_shards: int = field(
        default=2,
        metadata=_about(
            "TRIVET_DATA_SHARDS", "data shards of a stripe (k); new objects only", _integer(1, 31)
        ),
    )
    parity_shards: int = field(
        default=1,
        metadata=_about(
            "TRIVET_PARITY_SHARDS",
            "parity shards of a stripe (m): so many nodes may be lost; new objects only",
            _integer(1, 31),
        ),
    )
    reduced_data_shards: int = field(
        default=0,
        metadata=_about(
            "TRIVET_REDUCED_DATA_SHARDS",
            "data shards of a stripe in storage class REDUCED_REDUNDANCY; 0 means as in the others",
            _integer(0, 31),
        ),
    )
    reduced_parity_shards: int = field(
        default=0,
        metadata=_about(
            "TRIVET_REDUCED_PARITY_SHARDS",
            "parity shards of a stripe in storage class REDUCED_REDUNDANCY; 0 means one",
            _integer(0, 31),
        ),
    )
    lifecycle_day_s: int = field(
        default=86_400,
        metadata=_about(
            "TRIVET_LIFECYCLE_DAY_S",
            "seconds that a day of a lifecycle rule lasts; shorter only to try rules",
            _integer(1, 86_400),
        ),
    )
    front_stripe_bytes_max: int = field(
        default=48 << 20,
        metadata=_about(
            "TRIVET_FRONT_STRIPE_BYTES_MAX",
            "bytes of object data that one front holds in memory at once",
            _integer(8 << 20, 64 << 30),
        ),
    )
    grace_s: int = field(
        default=900,
        metadata=_about(
            "TRIVET_GRACE_S",
            "seconds that the bytes of a deleted or replaced object are kept for requests that still read them",
            _integer(1, 30 * 86_400),
        ),
    )
    rebuild_after_s: int = field(
        default=900,
        metadata=_about(
            "TRIVET_REBUILD_AFTER_S",
            "seconds after which the shards of a node that is down are rebuilt on others, if enough are left",
            _integer(1, 30 * 86_400),
        ),
    )
    repair_bytes_per_s: int = field(
        default=0,
        metadata=_about(
            "TRIVET_REPAIR_BYTES_PER_S",
            "object bytes that repair and rebalancing rebuild or move in a second; 0 means no limit",
            _integer(0, 1 << 40),
        ),
    )
    scrub_bytes_per_s: int = field(
        default=8 << 20,
        metadata=_about(
            "TRIVET_SCRUB_BYTES_PER_S",
            "bytes that each node reads in a second to check its blocks; 0 means never",
            _integer(0, 1 << 40),
        ),
    )
    scrub_s: int = field(
        default=6 * 3600,
        metadata=_about(
            "TRIVET_SCRUB_S",
            "seconds from one comparison of the catalog with what the nodes hold to the next",
            _integer(1, 365 * 86_400),
        ),
    )
    segment_bytes: int = field(
        default=64 << 20,
        metadata=_about(
            "TRIVET_SEGMENT_BYTES",
            "size at which a node begins another segment file",
            _integer(1 << 16, 1 << 31),
        ),
    )
    node_reserve_bytes: int = field(
        default=256 << 20,
        metadata=_about(
            "TRIVET_NODE_RESERVE_BYTES",
            "free disk space that a node keeps for deletes and compaction: below it takes no new blocks",
            _integer(0, 1 << 50),
        ),
    )
    keep_alive_s: int = field(
        default=75,
        metadata=_about(
            "TRIVET_KEEP_ALIVE_S", "seconds that an idle client connection is kept open", _integer(1, 3600)
        ),
    )
    stop_wait_s: int = field(
        default=10,
        metadata=_about(
            "TRIVET_STOP_WAIT_S",
            "seconds that a process may take to finish its work when it is told to stop",
            _integer(1, 3600),
        ),
    )
    silence_s_max: int = field(
        default=10,
        metadata=_about(
            "TRIVET_SILENCE_S_MAX",
            "seconds without a heartbeat after which a process is killed and started again",
            _integer(3, 3600),
        ),
    )
    restart_wait_s_max: int = field(
        default=10,
        metadata=_about(
            "TRIVET_RESTART_WAIT_S_MAX",
            "longest pause, in seconds, before a process that keeps dying is started again",
            _integer(1, 3600),
        ),
    )
    log_requests: str = field(
        default="none",
        metadata=_about(
            "TRIVET_LOG_REQUESTS",
            "which requests get a line in the log: one of none, all",
            _one_of(("none", "all")),
        ),
    )
    log_format: str = field(
        default="text",
        metadata=_about("TRIVET_LOG_FORMAT", f"one of {', '.join(FORMATS)}", _one_of(FORMATS)),
    )
    trace_url: str = field(
        default="",
        metadata=_about(
            "TRIVET_TRACE_URL",
            "OTLP endpoint (http://HOST:4318) that OpenTelemetry traces are sent to; none are made without it",
            str,
        ),
    )
    log_level: str = field(
        default="info", metadata=_about("TRIVET_LOG_LEVEL", f"one of {', '.join(LEVELS)}", _one_of(LEVELS))
    )

    @classmethod
    def read(cls, environment: Mapping[str, str], flags: Mapping[str, object | None]) -> Settings:
        """Flags by field name (None: not given) win over the environment, which wins over the defaults.

        Raises StartRefused, with the variable's or the option's name, for a value that can't be used.
        """
        values: dict[str, Any] = {}
        for name, setting in table().items():
            text = environment.get(setting.env, "")
            source = setting.env
            given = flags.get(name)
            if given is not None:
                text, source = setting.render(given), option_name(name)
            if text == "":
                continue
            try:
                values[name] = setting.parse(text)
            except ValueError as error:
                raise StartRefused(f"{source}={text} can't be used: {error}") from None
        return replace(cls(), **values)

    def to_environment(self) -> dict[str, str]:
        """What `read` turns into the same settings again: for child processes."""
        return {setting.env: setting.render(getattr(self, name)) for name, setting in table().items()}

    @property
    def width(self) -> int:
        """Nodes that one stripe needs: k + m."""
        return self.data_shards + self.parity_shards


def table() -> dict[str, Setting]:
    """Each setting by its field name, in the order of the documents."""
    return {entry.name: entry.metadata["setting"] for entry in fields(Settings)}


def default_text(name: str) -> str:
    """The default as the documents and the command line show it; empty for an empty list."""
    return table()[name].render(getattr(Settings(), name))


def option_name(name: str) -> str:
    """`node_dirs` is given once per node, so its option is singular."""
    return "--" + ("node_dir" if name == "node_dirs" else name).replace("_", "-")
