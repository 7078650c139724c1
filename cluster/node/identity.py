"""Whose directory this is (S23), and whose deletes it obeys (S18).

`node.json` names the cluster and the node a data directory belongs to; it is written last when a directory
is set up, so a directory without it (an unmounted disk, a half-made one) is refused. `fence.json` holds the
highest (catalog id, term) seen; it lies beside the log, not in the index, because the index may be rebuilt.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from cluster.node.files import FileLayer

IDENTITY_FORMAT: Final = 1
IDENTITY_FILE: Final = "node.json"
FENCE_FILE: Final = "fence.json"
LOCK_FILE: Final = "lock"
SEGMENT_DIR: Final = "segments"
INDEX_DIR: Final = "index"
_MAY_BE_THERE: Final = {"lost+found", LOCK_FILE, IDENTITY_FILE + ".tmp", SEGMENT_DIR}


class NodeRefused(Exception):
    """This directory must not be served, or not by this process; the message says why."""


class NodeIdentity(msgspec.Struct, frozen=True):
    """Content of node.json; ids are 16 bytes (hex in the file)."""

    cluster_id: bytes
    node_id: bytes
    name: str
    region: str
    zone: str


class FenceState(msgspec.Struct, frozen=True):
    """The highest fence stored: deletes of another catalog or a lower term are refused."""

    catalog_id: bytes
    term: int


class _AnyFormat(msgspec.Struct):
    """What every release can read of every other one's file."""

    format: int


class _IdentityFile(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    cluster_id: str
    node_id: str
    name: str
    region: str
    zone: str


class _FenceFile(msgspec.Struct, forbid_unknown_fields=True):
    catalog_id: str
    term: int


def initialise(
    directory: Path,
    *,
    cluster_id: bytes,
    name: str,
    region: str,
    zone: str,
    files: FileLayer,
    node_id: bytes | None = None,
) -> NodeIdentity:
    """Make an empty or missing directory the home of a new node, durably.

    Raises NodeRefused when anything but lost+found, or what a crashed earlier attempt left, is in it.
    Never call it for a node that the catalog already knows: replacing a node is a decision (S23).
    """
    node_id = os.urandom(16) if node_id is None else node_id
    files.make_dir(directory)
    strange = set(files.list(directory)) - _MAY_BE_THERE
    segments = directory / SEGMENT_DIR
    files.make_dir(segments)
    if strange or files.list(segments):
        raise NodeRefused(f"{directory} is not empty ({', '.join(sorted(strange)) or 'it has segments'})")
    content = _IdentityFile(IDENTITY_FORMAT, cluster_id.hex(), node_id.hex(), name, region, zone)
    files.fsync_dir(segments)
    files.replace_file(directory / IDENTITY_FILE, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    files.fsync_dir(directory.parent)
    return NodeIdentity(cluster_id, node_id, name, region, zone)


def is_initialised(directory: Path) -> bool:
    """Whether a node lives there: then no catalog may be created beside it (S18)."""
    return (directory / IDENTITY_FILE).exists()


def read_identity(
    directory: Path, files: FileLayer, *, cluster_id: bytes | None = None, node_id: bytes | None = None
) -> NodeIdentity:
    """The identity of an initialised directory.

    Raises NodeRefused when there is none, it can't be read, is of a newer format, or belongs to another
    cluster or node than given.
    """
    path = directory / IDENTITY_FILE
    try:
        content = files.read_file(path)
        found_format = msgspec.json.decode(content, type=_AnyFormat).format
        if found_format != IDENTITY_FORMAT:
            raise NodeRefused(f"{path} has format {found_format}; this release knows {IDENTITY_FORMAT}")
        found = msgspec.json.decode(content, type=_IdentityFile)
        identity = NodeIdentity(
            bytes.fromhex(found.cluster_id),
            bytes.fromhex(found.node_id),
            found.name,
            found.region,
            found.zone,
        )
    except FileNotFoundError:
        raise NodeRefused(
            f"{directory} holds no node ({IDENTITY_FILE} is missing): is its disk mounted?"
        ) from None
    except ValueError as error:
        raise NodeRefused(f"{path} can't be understood: {error}") from None
    if cluster_id not in (None, identity.cluster_id):
        raise NodeRefused(f"{directory} belongs to another cluster ({found.cluster_id})")
    if node_id not in (None, identity.node_id):
        raise NodeRefused(f"{directory} is the home of node {found.node_id}, not of this one")
    return identity


def lock_directory(directory: Path, files: FileLayer) -> int:
    """Hold the directory until the returned fd is closed; NodeRefused when another process holds it."""
    try:
        return files.lock(directory / LOCK_FILE)
    except BlockingIOError:
        raise NodeRefused(f"{directory} is in use by another process") from None


def read_fence(directory: Path, files: FileLayer) -> FenceState | None:
    """The stored fence; NodeRefused when the file is damaged (guessing here could delete everything)."""
    path = directory / FENCE_FILE
    try:
        found = msgspec.json.decode(files.read_file(path), type=_FenceFile)
        return FenceState(bytes.fromhex(found.catalog_id), found.term)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise NodeRefused(f"{path} can't be understood: {error}") from None


def store_fence(directory: Path, files: FileLayer, fence: FenceState) -> None:
    """Make `fence` the stored one; durable when this returns."""
    content = _FenceFile(fence.catalog_id.hex(), fence.term)
    files.replace_file(directory / FENCE_FILE, msgspec.json.encode(content) + b"\n")
