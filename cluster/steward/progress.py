"""How far the long walks have come: rows of the catalog's `progress` table, for restarts and for the CLI."""

from typing import Final, TypeVar

import msgspec

from catalog import progress
from catalog.statement import Reader
from catalog.transaction import Transaction


class RepairProgress(msgspec.Struct, frozen=True):
    """Row `repair`: what is being repaired. `total_*` is what is done and what is known to be left; `waiting`
    counts blobs in the repair queue, of which `unreadable` can't be repaired from what answers now. While not
    `active` the figures are those of the last time."""

    active: bool = False
    started_ms: int = 0
    done_blobs: int = 0
    total_blobs: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: int = 0
    waiting: int = 0
    unreadable: int = 0


class ScrubProgress(msgspec.Struct, frozen=True):
    """Row `scrub`: the comparison of the catalog with what the nodes hold. `after`: the last blob compared in
    the present pass. `missing`, `extra` and `corrupt` count blocks of the present or last pass; `request`: the last
    one honoured; `deep`: the nodes verify every block from their disks; `cancelled`: an operator ended the last
    pass before its end."""

    active: bool = False
    after: bytes = b""
    started_ms: int = 0
    finished_ms: int = 0
    passes: int = 0
    blobs: int = 0
    missing: int = 0
    extra: int = 0
    request: int = 0
    deep: bool = False
    corrupt: int = 0
    cancelled: bool = False


class ScrubRequest(msgspec.Struct, frozen=True):
    """Row `scrub-request`: an operator wants a pass now; any number that is not the last one honoured. They rise: a
    pass that honours one serves all lower ones."""

    number: int


class RebalanceProgress(msgspec.Struct, frozen=True):
    """Row `rebalance`: `nodes` are the (number, weight) that the walk spreads blobs over, `after` the last
    blob it has looked at; a finished walk over the same nodes need not be done again."""

    active: bool = False
    nodes: tuple[tuple[int, float], ...] = ()
    after: bytes = b""
    moved_blobs: int = 0
    looked_at_blobs: int = 0


class DrainProgress(msgspec.Struct, frozen=True):
    """Row `drain`: draining nodes of which it was told already that nothing lies on them any more."""

    told: tuple[int, ...] = ()


class RepairPause(msgspec.Struct, frozen=True):
    """Row `repair-pause`: an operator wants no repair and no rebalancing until then, by the wall clock, or until
    another node goes down."""

    until_ms: int


class CatalogSnapshot(msgspec.Struct, frozen=True):
    """Row `catalog-snapshot`: the last snapshot of the catalog that lies complete on the nodes (S17), holding all
    batches up to `batch`. `attempts`: how many were begun; each has a batch number of its own because of that."""

    attempts: int = 0
    term: int = 0
    batch: int = 0
    chunks: int = 0
    nbytes: int = 0
    made_ms: int = 0


class Recoveries(msgspec.Struct, frozen=True):
    """Row `recoveries`: how often redundancy was restored since the store was made (or this was first counted), and
    how long that took together, each time from the loss. Events tell the same and are forgotten some day."""

    count: int = 0
    total_ms: int = 0


PAUSE_MS_MAX: Final = 3600 * 1000


def paused_until(reader: Reader, now_ms: int) -> int | None:
    """Until when repair is paused; None when it is not. A pause that would last for longer than it may was begun by
    a clock that was wrong, and does not count."""
    pause = read(reader, RepairPause)
    return pause.until_ms if pause is not None and 0 < pause.until_ms - now_ms <= PAUSE_MS_MAX else None


_NAMES: dict[type[msgspec.Struct], str] = {
    RepairProgress: "repair",
    ScrubProgress: "scrub",
    ScrubRequest: "scrub-request",
    RebalanceProgress: "rebalance",
    DrainProgress: "drain",
    RepairPause: "repair-pause",
    CatalogSnapshot: "catalog-snapshot",
    Recoveries: "recoveries",
}
P = TypeVar(
    "P",
    RepairProgress,
    ScrubProgress,
    ScrubRequest,
    RebalanceProgress,
    DrainProgress,
    RepairPause,
    CatalogSnapshot,
    Recoveries,
)


def read(reader: Reader, kind: type[P]) -> P | None:
    """The row of that kind; None when there is none, or one that this release can't read."""
    packed = progress.read(reader, _NAMES[kind])
    if packed is None:
        return None
    try:
        return msgspec.msgpack.decode(packed, type=kind)
    except msgspec.DecodeError:
        return None


def write(tx: Transaction, state: P) -> None:
    """Store it over the one before."""
    progress.write(tx, _NAMES[type(state)], msgspec.msgpack.encode(state))
