"""What a bucket's owner has configured and the store acts on, as frozen values. Times in milliseconds since 1970."""

from __future__ import annotations

from msgspec import Struct


class LockConfiguration(Struct, frozen=True, array_like=True):
    """Object lock of a bucket, once it is enabled for good, with its default retention: `mode` GOVERNANCE or
    COMPLIANCE, and either `days` or `years`; no default retention when `mode` is None."""

    mode: str | None = None
    days: int | None = None
    years: int | None = None


class DefaultEncryption(Struct, frozen=True, omit_defaults=True):
    """What is done to new objects whose request says nothing of encryption: `algorithm` AES256, aws:kms or
    aws:kms:dsse. `key_id` as the client wrote it, None for the default key. `blocked`: kinds of encryption that
    requests may not use, as the API names them (SSE-C)."""

    algorithm: str
    key_id: str | None = None
    bucket_key: bool = False
    blocked: tuple[str, ...] = ()


class Transition(Struct, frozen=True, omit_defaults=True):
    """To another storage class, so many days after creation (or after a version became noncurrent), or at a date.
    `newer_noncurrent`: how many noncurrent versions stay as they are."""

    storage_class: str
    days: int | None = None
    date_ms: int | None = None
    newer_noncurrent: int | None = None


class LifecycleRule(Struct, frozen=True, omit_defaults=True):
    """One rule of a bucket's lifecycle, as the API has it. `filter` says how the client wrote what it applies to, so
    that it is handed back alike: "" (a bare Prefix element of the rule), Filter/Prefix, Filter/Tag, … or Filter/And."""

    id: str
    enabled: bool
    filter: str = ""
    prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    size_greater_than: int | None = None
    size_less_than: int | None = None
    expiration_days: int | None = None
    expiration_date_ms: int | None = None
    expired_delete_markers: bool | None = None
    transitions: tuple[Transition, ...] = ()
    noncurrent_days: int | None = None
    newer_noncurrent: int | None = None
    noncurrent_transitions: tuple[Transition, ...] = ()
    abort_upload_days: int | None = None


class BucketActions(Struct, frozen=True, omit_defaults=True):
    """What a bucket's owner has configured and the store acts on, beside versioning and lock. One packed column."""

    encryption: DefaultEncryption | None = None
    lifecycle: tuple[LifecycleRule, ...] = ()
    transition_minimum_size: str = ""
    """TransitionDefaultMinimumObjectSize of the lifecycle, as it was put."""
