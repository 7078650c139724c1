"""``trivet key …``: access keys, who may use the store. They are good, or refused, from the next request on."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from compose import credentials
from compose.cli.endpoint import Endpoint, endpoint
from compose.cli.store_access import (
    AsJson,
    Data,
    answer,
    print_json,
    read_catalog,
    settings_of,
    write_catalog,
)
from compose.data_dir import DataDir
from compose.join_token import cluster_secret
from compose.printable import printable
from compose.refusal import CommandRefused, StartRefused
from s3front.auth.roles import READWRITE, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.access_keys import AccessKey
    from catalog.statement import Reader
    from catalog.transaction import Transaction
    from compose.settings import Settings
    from s3front.admin.keys import CreatedKey

T = TypeVar("T")

key_app = typer.Typer(no_args_is_help=True, help="Access keys: who may use the store.")

Name = Annotated[str, typer.Argument(metavar="ACCESS_KEY", help="as `trivet key list` shows it")]
_ROLE_HELP = "admin: S3 and the admin API; readwrite: all of S3; readonly: what only reads in S3"


@key_app.command("list")
def list_keys(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show the access keys and their roles. The root key is not among them: it stands in the settings."""
    from catalog import access_keys

    keys = read_catalog(settings_of(data), access_keys.list_keys)
    if as_json:
        print_json([_facts(key) for key in keys])
    elif keys:
        _print_table(keys)
    else:
        print("There is no access key but the root key. Make one: trivet key create")


@key_app.command()
def create(
    *,
    role: Annotated[Role, typer.Option(help=_ROLE_HELP)] = READWRITE,
    description: Annotated[
        str, typer.Option(metavar="TEXT", help="for people: who has the key, and what for")
    ] = "",
    access_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="default: one made at random")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="holds the secret, - is standard input; default: one made at random"
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make an access key. Its secret is shown once, here: the store keeps it encrypted and never tells it again."""
    from catalog import access_keys
    from s3front.admin.keys import created_key
    from s3front.auth.keys import KeyRefused, new_key
    from s3front.auth.sealing import Sealer

    settings = settings_of(data)
    _check_description(description)
    secret = None if secret_file is None else _secret_in(secret_file)
    try:
        made = new_key(access_key, secret, root_access_key=_root_access_key(settings))
    except KeyRefused as refusal:
        what = "--access-key" if refusal.field == "access_key" else "the secret"
        raise CommandRefused(f"{what} {refusal}") from None
    sealed = Sealer(_cluster_secret(settings)).seal(made.access_key, made.secret_key)
    key = _written(
        settings,
        lambda tx: access_keys.create(
            tx, access_key=made.access_key, sealed_secret=sealed, role=role, description=description
        ),
        frees=False,
    )
    created = created_key(key, made.secret_key)
    if as_json:
        from msgspec import to_builtins

        print_json(to_builtins(created))
    else:
        _print_created(created, endpoint(settings))


@key_app.command()
def show(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show one access key."""
    from catalog import access_keys

    key = _asked(settings_of(data), lambda reader: access_keys.get(reader, name))
    if as_json:
        print_json(_facts(key))
    else:
        _print_table([key])


@key_app.command()
def enable(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Take a disabled key into use again, with the secret that it had."""
    key = _changed(data, name, enabled=True)
    answer(_facts(key), f"{name} may be used again", as_json=as_json)


@key_app.command()
def disable(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Refuse a key from the next request on, until it is enabled again."""
    key = _changed(data, name, enabled=False)
    answer(
        _facts(key), f"{name} is refused from now on; trivet key enable {name} takes it back", as_json=as_json
    )


@key_app.command("role")
def change_role(
    name: Name,
    role: Annotated[Role, typer.Argument(help=_ROLE_HELP)],
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give a key another role, from the next request on."""
    key = _changed(data, name, role=role)
    answer(_facts(key), f"{name} is {role} now", as_json=as_json)


@key_app.command()
def delete(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Delete a key for good: it is refused from the next request on, and its secret is forgotten."""
    from catalog import access_keys

    settings = settings_of(data)
    _refuse_root(settings, name)
    _written(settings, lambda tx: access_keys.delete(tx, name))
    answer({"access_key": name, "deleted": True}, f"{name} is deleted", as_json=as_json)


def _changed(
    data: Path | None, name: str, *, enabled: bool | None = None, role: Role | None = None
) -> AccessKey:
    from catalog import access_keys

    settings = settings_of(data)
    _refuse_root(settings, name)
    return _written(settings, lambda tx: access_keys.update(tx, name, enabled=enabled, role=role))


def _asked(settings: Settings, question: Callable[[Reader], T]) -> T:
    """Raises CommandRefused when there is no such key."""
    from catalog.errors import NoSuchAccessKey

    try:
        return read_catalog(settings, question)
    except NoSuchAccessKey as fault:
        raise CommandRefused(f"{fault}; trivet key list shows those there are") from None


def _written(settings: Settings, change: Callable[[Transaction], T], *, frees: bool = True) -> T:
    """Raises CommandRefused when there is no such key, or one already, or no more are possible. `frees`: it must pass
    while the disk is full, because it locks a key.
    """
    from catalog.errors import AccessKeyExists, NoSuchAccessKey, TooManyAccessKeys

    try:
        return write_catalog(settings, change, frees=frees)
    except NoSuchAccessKey as fault:
        raise CommandRefused(f"{fault}; trivet key list shows those there are") from None
    except AccessKeyExists as fault:
        raise CommandRefused(f"{fault}: choose another name, or delete it first") from None
    except TooManyAccessKeys as fault:
        raise CommandRefused(str(fault)) from None


def _facts(key: AccessKey) -> dict[str, Any]:
    """As the admin API tells them."""
    from msgspec import to_builtins

    from s3front.admin.keys import key_info

    facts: dict[str, Any] = to_builtins(key_info(key))
    return facts


def _print_table(keys: list[AccessKey]) -> None:
    from rich.console import Console
    from rich.text import Text

    from cluster.reports.moments import iso_at
    from compose.cli.tables import folding_table

    table = folding_table("access key", "role", "state", "created", "description")
    table.columns[0].no_wrap = True  # to be copied
    for key in keys:
        state = "enabled" if key.enabled else "disabled"
        # As text: brackets in a description are no markup.
        cells = (key.access_key, key.role, state, iso_at(key.created_ms)[:10], printable(key.description))
        table.add_row(*map(Text, cells))
    Console().print(table)


def _print_created(key: CreatedKey, reached: Endpoint) -> None:
    secret = shlex.quote(key.secret_key)
    print(
        f"\n  access key  {key.access_key}\n"
        f"  secret key  {key.secret_key}\n"
        f"  role        {key.role}\n\n"
        "The secret is shown only now. A line to paste:\n\n"
        f"  AWS_ACCESS_KEY_ID={key.access_key} AWS_SECRET_ACCESS_KEY={secret} aws "
        f"--endpoint-url {reached.url} --region {reached.region} s3 ls\n"
    )


def _check_description(text: str) -> None:
    from s3front.admin.keys import DESCRIPTION_LENGTH_MAX

    if len(text) > DESCRIPTION_LENGTH_MAX:
        raise CommandRefused(f"--description may have {DESCRIPTION_LENGTH_MAX} characters at most")


def _secret_in(path: Path) -> str:
    """The file's text without white space around it: an editor ends the last line. Raises CommandRefused."""
    try:
        return (sys.stdin.read() if str(path) == "-" else path.read_text(encoding="ascii")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandRefused(f"{path} can't be read as a secret ({type(error).__name__})") from None


def _root_access_key(settings: Settings) -> str | None:
    """None when it was given to the store in variables that this process does not have."""
    try:
        return credentials.load(DataDir(settings.data), os.environ).access_key
    except StartRefused:
        return None


def _refuse_root(settings: Settings, name: str) -> None:
    if name == _root_access_key(settings):
        raise CommandRefused(
            f"{name} is the root key, which stands in the settings: {credentials.ACCESS_KEY_VARIABLE} and "
            f"{credentials.SECRET_KEY_VARIABLE}, or the file {DataDir(settings.data).credentials}"
        )


def _cluster_secret(settings: Settings) -> bytes:
    try:
        return cluster_secret(settings)
    except StartRefused as refusal:
        raise CommandRefused(str(refusal)) from None
