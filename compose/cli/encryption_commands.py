"""``trivet encryption-key …``: the store's own key ring, for SSE-S3 and SSE-KMS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from compose.cli.store_access import (
    AsJson,
    Data,
    answer,
    print_json,
    read_catalog,
    settings_of,
    write_catalog,
)
from compose.join_token import cluster_secret
from compose.refusal import CommandRefused, StartRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from catalog.encryption_keys import EncryptionKey
    from catalog.transaction import Transaction
    from compose.settings import Settings
    from s3front.encryption.ring_sealing import RingSealer

T = TypeVar("T")

encryption_key_app = typer.Typer(
    no_args_is_help=True, help="Encryption keys: what SSE-S3 and SSE-KMS encrypt the keys of objects under."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="what clients give as the KMS key id")]


@encryption_key_app.command("list")
def list_keys(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show the encryption keys. sse-s3 and aws/s3 (SSE-KMS without a key id) are made at their first use."""
    from catalog import encryption_keys

    keys = read_catalog(settings_of(data), encryption_keys.list_keys)
    if as_json:
        print_json([_facts(key) for key in keys])
    elif keys:
        _print_table(keys)
    else:
        print("There is no encryption key yet. Make one: trivet encryption-key create NAME")


@encryption_key_app.command()
def create(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Make an encryption key. Nobody ever sees it: the store keeps it encrypted under the cluster secret.

    It can't be deleted, because what is encrypted under it would be lost. Without the file cluster.secret it is lost.
    """
    from catalog import encryption_keys
    from s3front.encryption.local_keys import NAME_PATTERN

    settings = settings_of(data)
    if not re.fullmatch(NAME_PATTERN, name) or name.startswith("alias/"):
        raise CommandRefused(
            "the name must have 1 to 128 letters, digits, dots, dashes, slashes or underscores, begin with a letter or "
            "digit, and not with alias/"
        )
    sealed = _sealer(settings).new_key(name, 1)
    key = _written(settings, lambda tx: encryption_keys.create(tx, name, sealed))
    answer(_facts(key), f"{name} is made", as_json=as_json)


@encryption_key_app.command()
def rotate(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Encrypt under a new version of the key from now on. What the old versions encrypted stays readable."""
    from catalog import encryption_keys

    settings = settings_of(data)
    before = _written(settings, lambda tx: encryption_keys.get(tx, name))
    number = before.current.number + 1
    sealed = _sealer(settings).new_key(name, number)
    key = _written(settings, lambda tx: encryption_keys.rotate(tx, before, sealed))
    answer(_facts(key), f"{name} encrypts with version {number} now", as_json=as_json)


@encryption_key_app.command()
def disable(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Take a key out of use: from the next request on nothing is encrypted under it, and what was can't be read."""
    key = _enabled(data, name, enabled=False)
    answer(
        _facts(key),
        f"{name} is out of use, and so are the objects encrypted under it; trivet encryption-key enable {name} takes "
        "it back",
        as_json=as_json,
    )


@encryption_key_app.command()
def enable(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Take a disabled key into use again."""
    key = _enabled(data, name, enabled=True)
    answer(_facts(key), f"{name} may be used again", as_json=as_json)


def _enabled(data: Path | None, name: str, *, enabled: bool) -> EncryptionKey:
    from catalog import encryption_keys

    return _written(
        settings_of(data), lambda tx: encryption_keys.set_enabled(tx, name, enabled=enabled), frees=True
    )


def _written(settings: Settings, change: Callable[[Transaction], T], *, frees: bool = False) -> T:
    """Raises CommandRefused when there is no such key, or one already, or no more are possible."""
    from catalog.errors import EncryptionKeyExists, NoSuchEncryptionKey, TooManyEncryptionKeys

    try:
        return write_catalog(settings, change, frees=frees)
    except NoSuchEncryptionKey as fault:
        raise CommandRefused(f"{fault}; trivet encryption-key list shows those there are") from None
    except (EncryptionKeyExists, TooManyEncryptionKeys) as fault:
        raise CommandRefused(str(fault)) from None


def _sealer(settings: Settings) -> RingSealer:
    from s3front.encryption.ring_sealing import RingSealer

    try:
        return RingSealer(cluster_secret(settings))
    except StartRefused as refusal:
        raise CommandRefused(str(refusal)) from None


def _facts(key: EncryptionKey) -> dict[str, Any]:
    from cluster.reports.moments import iso_at

    return {
        "name": key.name,
        "enabled": key.enabled,
        "version": key.current.number,
        "created_at": iso_at(key.versions[0].created_ms),
        "rotated_at": iso_at(key.current.created_ms) if key.current.number > 1 else None,
    }


def _print_table(keys: list[EncryptionKey]) -> None:
    from rich.console import Console
    from rich.text import Text

    from compose.cli.tables import folding_table

    table = folding_table("encryption key", "state", "version", "created", "rotated")
    table.columns[0].no_wrap = True  # to be copied
    for key in keys:
        facts = _facts(key)
        state = "enabled" if key.enabled else "disabled"
        rotated = (facts["rotated_at"] or "")[:10]
        table.add_row(Text(key.name), state, str(key.current.number), facts["created_at"][:10], rotated)
    Console().print(table)
