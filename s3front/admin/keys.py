"""Access keys: who may use the store, and for what. The root key stands in the settings and is not changed here."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from catalog import access_keys
from catalog.access_keys import AccessKey
from catalog.errors import AccessKeyExists, NoSuchAccessKey, TooManyAccessKeys
from cluster.reports.moments import At, iso_at
from s3front.admin.endpoint import Answered, Call, Endpoint, Nothing
from s3front.admin.problem import conflict, invalid, not_found
from s3front.admin.services import AdminServices
from s3front.auth.keys import ACCESS_KEY_PATTERN, SECRET_KEY_PATTERN, KeyRefused, new_key
from s3front.auth.roles import READWRITE, Role

LIMIT_MAX = 1000
DESCRIPTION_LENGTH_MAX = 256

Description = Annotated[
    str,
    msgspec.Meta(max_length=DESCRIPTION_LENGTH_MAX, description="for people: who has the key, and what for"),
]
AccessKeyName = Annotated[str, msgspec.Meta(pattern=ACCESS_KEY_PATTERN)]
SecretKey = Annotated[str, msgspec.Meta(pattern=SECRET_KEY_PATTERN)]


class KeyInfo(msgspec.Struct, frozen=True):
    """An access key without its secret. A key of role `admin` may use S3 and the admin API, `readwrite` all of S3,
    `readonly` what only reads in S3."""

    access_key: str
    role: str
    enabled: bool
    description: str
    created_at: At


class CreatedKey(KeyInfo, frozen=True):
    """A new access key, and its secret: it is told here and never again."""

    secret_key: str

    def __repr__(self) -> str:
        return f"CreatedKey({self.access_key!r})"  # never the secret


class KeyPage(msgspec.Struct, frozen=True):
    """Keys by name, the root key not among them. `next_after` is the next page's `after`; null at the end."""

    keys: list[KeyInfo]
    next_after: str | None


class KeyPageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page."""

    after: Annotated[str, msgspec.Meta(max_length=128, description="keys with greater names only")] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = LIMIT_MAX


class KeyCreation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not given is made at random: a name, and a secret of 40 characters."""

    role: Role = READWRITE
    description: Description = ""
    access_key: AccessKeyName | None = None
    secret_key: SecretKey | None = None

    def __repr__(self) -> str:
        return f"KeyCreation({self.access_key!r}, {self.role})"  # never the secret


class KeyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not given stays as it is."""

    enabled: bool | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    description: Description | UnsetType = UNSET


def key_info(key: AccessKey) -> KeyInfo:
    """What anybody who may see a key may know of it."""
    return KeyInfo(key.access_key, key.role, key.enabled, key.description, iso_at(key.created_ms))


def created_key(key: AccessKey, secret_key: str) -> CreatedKey:
    """What the creator is told."""
    return CreatedKey(**msgspec.structs.asdict(key_info(key)), secret_key=secret_key)


async def list_keys(services: AdminServices, call: Call) -> KeyPage:
    """A page of keys; one more row than asked for says whether there is another."""
    query: KeyPageQuery = call.query
    rows = await services.front.catalog.read(
        lambda reader: access_keys.list_keys(reader, after=query.after, limit=query.limit + 1)
    )
    page = rows[: query.limit]
    return KeyPage([key_info(row) for row in page], page[-1].access_key if len(rows) > len(page) else None)


async def create_key(services: AdminServices, call: Call) -> Answered:
    """Raises Problem: 400 for the root key's name, 409 for a name that is taken or when there are too many."""
    asked: KeyCreation = call.body
    ring = services.front.keys
    try:
        made = new_key(asked.access_key, asked.secret_key, root_access_key=ring.root_access_key)
    except KeyRefused as refusal:
        raise invalid(f"body.{refusal.field}", str(refusal)) from None
    sealed = ring.sealer.seal(made.access_key, made.secret_key)
    try:
        key = await services.front.catalog.write(
            lambda tx: access_keys.create(
                tx,
                access_key=made.access_key,
                sealed_secret=sealed,
                role=asked.role,
                description=asked.description,
            )
        )
    except AccessKeyExists as fault:
        raise conflict("key-exists", "There is such an access key already", str(fault)) from None
    except TooManyAccessKeys as fault:
        raise conflict("too-many-keys", "No more access keys are possible", str(fault)) from None
    location = f"/-/admin/v1/keys/{key.access_key}"
    return Answered(created_key(key, made.secret_key), {"location": location})


async def get_key(services: AdminServices, call: Call) -> KeyInfo:
    """Raises Problem: 404."""
    name = call.path["access_key"]
    try:
        return key_info(await services.front.catalog.read(lambda reader: access_keys.get(reader, name)))
    except NoSuchAccessKey:
        raise not_found("access key", name) from None


async def change_key(services: AdminServices, call: Call) -> KeyInfo:
    """Raises Problem: 404; 409 for the root key, and for the caller's own when that would lock them out."""
    name = call.path["access_key"]
    change: KeyChange = call.body
    _refuse_root(services, name)
    if change.enabled is False or change.role is not UNSET:
        _refuse_own(call)
    try:
        key = await services.front.catalog.write(
            lambda tx: access_keys.update(
                tx,
                name,
                enabled=None if change.enabled is UNSET else change.enabled,
                role=None if change.role is UNSET else change.role,
                description=None if change.description is UNSET else change.description,
            ),
            frees=True,  # a key must be lockable while the disk is full
        )
    except NoSuchAccessKey:
        raise not_found("access key", name) from None
    return key_info(key)


async def delete_key(services: AdminServices, call: Call) -> Nothing:
    """Raises Problem: 404; 409 for the root key and the caller's own."""
    name = call.path["access_key"]
    _refuse_root(services, name)
    _refuse_own(call)
    try:
        await services.front.catalog.write(lambda tx: access_keys.delete(tx, name), frees=True)
    except NoSuchAccessKey:
        raise not_found("access key", name) from None
    return Nothing()


def _refuse_root(services: AdminServices, name: str) -> None:
    if name == services.front.keys.root_access_key:
        raise conflict(
            "root-key",
            "The root key is not changed here",
            "it stands in the settings: TRIVET_ROOT_ACCESS_KEY and TRIVET_ROOT_SECRET_KEY, or the file credentials "
            "in the data directory",
        )


def _refuse_own(call: Call) -> None:
    if call.path["access_key"] == call.access_key:
        raise conflict(
            "own-key",
            "Nobody locks themselves out",
            "this request is signed with the key itself: use another admin key, or the root key",
        )


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        "/keys",
        "listKeys",
        "List access keys, without their secrets",
        list_keys,
        KeyPage,
        KeyPageQuery,
    ),
    Endpoint(
        "POST",
        "/keys",
        "createKey",
        "Create an access key; the answer is the only place where its secret is told",
        create_key,
        CreatedKey,
        body=KeyCreation,
        status=201,
        refusals=(409,),
    ),
    Endpoint("GET", "/keys/{access_key}", "getKey", "Look at one access key", get_key, KeyInfo),
    Endpoint(
        "PATCH",
        "/keys/{access_key}",
        "changeKey",
        "Enable or disable a key, change its role or description; true for the very next request",
        change_key,
        KeyInfo,
        body=KeyChange,
        refusals=(409,),
    ),
    Endpoint(
        "DELETE",
        "/keys/{access_key}",
        "deleteKey",
        "Delete an access key for good; the very next request with it is refused",
        delete_key,
        Nothing,
        status=204,
        refusals=(409,),
    ),
)
