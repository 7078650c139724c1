"""Whether a store runs, as far as a command can tell from the host that it is started on.

Its processes may be those of a `trivet up` here, or stand on several hosts, each by itself. What there is to go by are
the processes of this host and whether nodes answer. Where that is not enough a command says that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compose import running
from compose.catalog_place import catalog_of
from compose.data_dir import DataDir

if TYPE_CHECKING:
    from compose.settings import Settings

NOT_KNOWN = "No process of this store runs here, and no node answers: whether it runs elsewhere is not known from here."


Homes = Mapping[str, str]
"""The nodes' directories by node id in hexadecimal; empty for one that runs by itself, on whatever host."""


def runs(settings: Settings, homes: Homes, *, answering: bool) -> bool | None:
    """`answering`: some node does. None: not known from here."""
    if running.processes(DataDir(settings.data)):
        return True
    if is_of_this_host(settings, homes):
        return False
    return True if answering else None


def is_of_this_host(settings: Settings, homes: Homes) -> bool:
    """All of it that runs, runs here. Fronts and stewards have the catalog's file open; of a store whose catalog is a
    database only a `trivet up` says that, or the nodes that one has made here.
    """
    if isinstance(catalog_of(settings), Path) or supervised(settings):
        return True
    return all(homes.values()) and any(_lies_there(Path(home), node_id) for node_id, home in homes.items())


def _lies_there(home: Path, node_id: str) -> bool:
    """Another machine's directory may have the same name here."""
    from cluster.node.files import RealFiles
    from cluster.node.identity import NodeRefused, read_identity

    try:
        read_identity(home, RealFiles(), node_id=bytes.fromhex(node_id))
    except (NodeRefused, OSError):
        return False
    return True


def supervised(settings: Settings) -> bool:
    """A `trivet up` runs the store here."""
    return running.supervisor_pid(DataDir(settings.data)) is not None
