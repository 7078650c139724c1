"""All settings of Trivet's processes: name, default, environment variable and help, in one table.

The table is the fields of `Settings`. It feeds the options of the command line, the documents (a test
looks for each setting there) and the way settings reach child processes: the supervisor puts what is in
force into their environment, where they read it by the same names. Read once at start, frozen afterwards.
Units stand last in a name. The root credentials are not settings of this table: they are secrets (see
compose.credentials).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from compose.config_file import CONFIG_VARIABLE, NO_FILE, Key
from compose.given import Given
from compose.logs import FORMATS, LEVELS
from compose.setting import (
    Setting,
    about,
    address,
    front_urls,
    integer,
    join_token,
    node_name,
    one_of,
    paths,
    postgresql_url,
    reachable_address,
    render_paths,
    render_words,
    words,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force. Make one with `read`; a plain constructor call checks nothing."""

    data: Path = field(
        default=Path("data"),
        metadata=about("TRIVET_DATA", "directory for credentials, catalog and (by default) the nodes", Path),
    )
    host: str = field(
        default="127.0.0.1",
        metadata=about("TRIVET_HOST", "address to listen on; only this machine can reach the default", str),
    )
    port: int = field(
        default=9000,
        metadata=about("TRIVET_PORT", "port of the S3 endpoint; 0 takes a free one", integer(0, 65_535)),
    )
    node_dirs: tuple[Path, ...] = field(
        default=(),
        metadata=about(
            "TRIVET_NODE_DIRS",
            "directory of one storage node of a new store, once for each node (on a machine with several disks)",
            paths,
            render_paths,
        ),
    )
    nodes: int = field(
        default=0,
        metadata=about(
            "TRIVET_NODES",
            "storage nodes of a new store; 0 means three, or as many as a stripe has shards",
            integer(0, 255),
        ),
    )
    fronts: int = field(
        default=0,
        metadata=about(
            "TRIVET_FRONTS", "number of S3 front processes; 0 means one for two cores", integer(0, 64)
        ),
    )
    region: str = field(
        default="us-east-1", metadata=about("TRIVET_REGION", "the region that requests are signed for", str)
    )
    zone: str = field(
        default="",
        metadata=about(
            "TRIVET_ZONE",
            "the zone, within the region, that this machine is in: near nodes are read first",
            str,
        ),
    )
    catalog: str = field(
        default="",
        repr=False,
        metadata=about(
            "TRIVET_CATALOG",
            "URL of the PostgreSQL database that holds the catalog; without it the catalog is a file in the data "
            "directory",
            postgresql_url,
            secret=True,
        ),
    )
    catalog_copies: int = field(
        default=2,
        metadata=about(
            "TRIVET_CATALOG_COPIES",
            "nodes that have each change of a catalog in a file before it is acknowledged; 0 means none",
            integer(0, 9),
        ),
    )
    join_token: str = field(
        default="",
        repr=False,
        metadata=about(
            "TRIVET_JOIN_TOKEN",
            "what `trivet token` prints: makes a process on another machine a part of the cluster",
            join_token,
            secret=True,
        ),
    )
    listen: str = field(
        default="",
        metadata=about(
            "TRIVET_LISTEN", "HOST:PORT that a front or a node that runs by itself listens on", address
        ),
    )
    advertise: str = field(
        default="",
        metadata=about(
            "TRIVET_ADVERTISE",
            "HOST:PORT where the others reach a node that runs by itself; without it where it listens",
            reachable_address,
        ),
    )
    join: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "TRIVET_JOIN",
            "URLs of fronts, separated by commas, that a node that runs by itself announces itself to",
            front_urls,
            render_words,
        ),
    )
    node_name: str = field(
        default="",
        metadata=about("TRIVET_NODE_NAME", "name of a node that runs by itself", node_name),
    )
    domains: tuple[str, ...] = field(
        default=("localhost",),
        metadata=about(
            "TRIVET_DOMAINS",
            "base domains whose subdomains name buckets, separated by commas",
            words,
            render_words,
        ),
    )
    data_shards: int = field(
        default=2,
        metadata=about("TRIVET_DATA_SHARDS", "data shards of a stripe (k); new objects only", integer(1, 31)),
    )
    parity_shards: int = field(
        default=1,
        metadata=about(
            "TRIVET_PARITY_SHARDS",
            "parity shards of a stripe (m): so many nodes may be lost; new objects only",
            integer(1, 31),
        ),
    )
    reduced_data_shards: int = field(
        default=0,
        metadata=about(
            "TRIVET_REDUCED_DATA_SHARDS",
            "data shards of a stripe in storage class REDUCED_REDUNDANCY; 0 means as in the others",
            integer(0, 31),
        ),
    )
    reduced_parity_shards: int = field(
        default=0,
        metadata=about(
            "TRIVET_REDUCED_PARITY_SHARDS",
            "parity shards of a stripe in storage class REDUCED_REDUNDANCY; 0 means one",
            integer(0, 31),
        ),
    )
    lifecycle_day_s: int = field(
        default=86_400,
        metadata=about(
            "TRIVET_LIFECYCLE_DAY_S",
            "seconds that a day of a lifecycle rule lasts; shorter only to try rules",
            integer(1, 86_400),
        ),
    )
    front_stripe_bytes_max: int = field(
        default=48 << 20,
        metadata=about(
            "TRIVET_FRONT_STRIPE_BYTES_MAX",
            "bytes of object data that one front holds in memory at once",
            integer(8 << 20, 64 << 30),
        ),
    )
    grace_s: int = field(
        default=900,
        metadata=about(
            "TRIVET_GRACE_S",
            "seconds that the bytes of a deleted or replaced object are kept for requests that still read them",
            integer(1, 30 * 86_400),
        ),
    )
    rebuild_after_s: int = field(
        default=900,
        metadata=about(
            "TRIVET_REBUILD_AFTER_S",
            "seconds after which the shards of a node that is down are rebuilt on others, if enough are left",
            integer(1, 30 * 86_400),
        ),
    )
    repair_bytes_per_s: int = field(
        default=0,
        metadata=about(
            "TRIVET_REPAIR_BYTES_PER_S",
            "object bytes that repair and rebalancing rebuild or move in a second; 0 means no limit",
            integer(0, 1 << 40),
        ),
    )
    scrub_bytes_per_s: int = field(
        default=8 << 20,
        metadata=about(
            "TRIVET_SCRUB_BYTES_PER_S",
            "bytes that each node reads in a second to check its blocks; 0 means never",
            integer(0, 1 << 40),
        ),
    )
    scrub_s: int = field(
        default=6 * 3600,
        metadata=about(
            "TRIVET_SCRUB_S",
            "seconds from one comparison of the catalog with what the nodes hold to the next",
            integer(1, 365 * 86_400),
        ),
    )
    segment_bytes: int = field(
        default=64 << 20,
        metadata=about(
            "TRIVET_SEGMENT_BYTES",
            "size at which a node begins another segment file",
            integer(1 << 16, 1 << 31),
        ),
    )
    node_reserve_bytes: int = field(
        default=256 << 20,
        metadata=about(
            "TRIVET_NODE_RESERVE_BYTES",
            "free disk space that a node keeps for deletes and compaction: below it takes no new blocks",
            integer(0, 1 << 50),
        ),
    )
    keep_alive_s: int = field(
        default=75,
        metadata=about(
            "TRIVET_KEEP_ALIVE_S", "seconds that an idle client connection is kept open", integer(1, 3600)
        ),
    )
    stop_wait_s: int = field(
        default=10,
        metadata=about(
            "TRIVET_STOP_WAIT_S",
            "seconds that a process may take to finish its work when it is told to stop",
            integer(1, 3600),
        ),
    )
    silence_s_max: int = field(
        default=10,
        metadata=about(
            "TRIVET_SILENCE_S_MAX",
            "seconds without a heartbeat after which a process is killed and started again",
            integer(3, 3600),
        ),
    )
    restart_wait_s_max: int = field(
        default=10,
        metadata=about(
            "TRIVET_RESTART_WAIT_S_MAX",
            "longest pause, in seconds, before a process that keeps dying is started again",
            integer(1, 3600),
        ),
    )
    log_requests: str = field(
        default="none",
        metadata=about(
            "TRIVET_LOG_REQUESTS",
            "which requests get a line in the log: one of none, all",
            one_of(("none", "all")),
        ),
    )
    log_format: str = field(
        default="text",
        metadata=about("TRIVET_LOG_FORMAT", f"one of {', '.join(FORMATS)}", one_of(FORMATS)),
    )
    trace_url: str = field(
        default="",
        metadata=about(
            "TRIVET_TRACE_URL",
            "OTLP endpoint (http://HOST:4318) that OpenTelemetry traces are sent to; none are made without it",
            str,
        ),
    )
    log_level: str = field(
        default="info", metadata=about("TRIVET_LOG_LEVEL", f"one of {', '.join(LEVELS)}", one_of(LEVELS))
    )

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str],
        flags: Mapping[str, object | None],
        secrets: Collection[str] | None = None,
    ) -> Settings:
        """Flags by field name (None: not given) win over the environment, that over the configuration file, and
        that over the defaults. `secrets`: those that this process needs (None: all): the others' files need not be
        there, and are not read.

        Raises StartRefused, with the variable's, the option's or the key's name, for what can't be used.
        """
        from compose.resolving import resolve  # which knows this class

        return resolve(environment, flags, secrets).settings

    def to_environment(self) -> dict[str, str]:
        """What `read` turns into the same settings again, whatever any file says: for child processes."""
        known = table()
        return {
            **{setting.env: setting.render(getattr(self, name)) for name, setting in known.items()},
            **{setting.file_env: "" for setting in known.values() if setting.secret},
            CONFIG_VARIABLE: NO_FILE,
        }

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


CREDENTIALS = {
    "root_access_key": "TRIVET_ROOT_ACCESS_KEY",
    "root_secret_key": "TRIVET_ROOT_SECRET_KEY",
    "metrics_token": "TRIVET_METRICS_TOKEN",
}
"""Secrets beside the table, which only fronts and the supervisor look for: key in the file, and variable."""


def given(environment: Mapping[str, str]) -> Given:
    """What environment and configuration file say of settings and secrets."""
    keys = {
        entry.name: Key(setting.env, _toml_kind(entry.default), setting.render, setting.secret)
        for entry, setting in zip(fields(Settings), table().values(), strict=True)
    }
    return Given(environment, keys | {name: Key(env, str, secret=True) for name, env in CREDENTIALS.items()})


def _toml_kind(default: object) -> type:
    return type(default) if isinstance(default, int | tuple) else str
