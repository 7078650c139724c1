"""The configuration file of ceph/s3-tests, in the sections that its README names."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import boto3

DAY_S = 10
"""So long lasts a lifecycle day in the store under test, and so long the suite waits for one."""
KMS_KEYS = ("testkey-1", "testkey-2")
EXTRA_STORAGE_CLASSES = "STANDARD_IA, GLACIER_IR"


@dataclass(frozen=True, slots=True)
class User:
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Subject:
    """The endpoint under test and three users of it; the suite asks for a second one and for one of another tenant."""

    url: str
    main: User
    alt: User
    tenant: User
    region: str = "us-east-1"
    day_s: int = DAY_S


def write_configuration(subject: Subject, path: Path) -> None:
    """Asks the endpoint who the users are. The file is for its owner only: it holds the secrets."""
    url = urlsplit(subject.url)
    parser = configparser.RawConfigParser()
    parser["DEFAULT"] = {
        "host": url.hostname or "",
        "port": str(url.port or (443 if url.scheme == "https" else 80)),
        "is_secure": str(url.scheme == "https"),
        "ssl_verify": "False",
    }
    parser["fixtures"] = {
        "bucket prefix": "s3t-{random}-",
        "iam name prefix": "s3t-",
        "iam path prefix": "/s3t/",
    }
    parser["s3 main"] = {
        **_section(subject, subject.main, "main"),
        "api_name": subject.region,
        "lc_debug_interval": str(subject.day_s),
        "kms_keyid": KMS_KEYS[0],
        "kms_keyid2": KMS_KEYS[1],
        "storage_classes": f'"{EXTRA_STORAGE_CLASSES}"',
    }
    parser["s3 alt"] = _section(subject, subject.alt, "alt")
    parser["s3 tenant"] = {**_section(subject, subject.tenant, "tenant"), "tenant": "testx"}
    for name, user in (("iam", subject.main), ("iam root", subject.main), ("iam alt root", subject.alt)):
        parser[name] = _section(subject, user, name.replace(" ", "-"))
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def _section(subject: Subject, user: User, name: str) -> dict[str, str]:
    client = boto3.client(
        "s3",
        endpoint_url=subject.url,
        region_name=subject.region,
        aws_access_key_id=user.access_key,
        aws_secret_access_key=user.secret_key,
    )
    try:
        owner = client.list_buckets()["Owner"]
    finally:
        client.close()
    return {
        "display_name": owner.get("DisplayName", owner["ID"]),
        "user_id": owner["ID"],
        "email": f"{name}@example.com",
        "access_key": user.access_key,
        "secret_key": user.secret_key,
    }
