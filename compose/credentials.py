"""Root credentials and the cluster secret: given by environment or configuration file, or
made once and kept.

There is no default password. What is generated lies in a file in the format of AWS's shared credentials
files, profile ``trivet``, so that AWS tools can be pointed at it without anyone copying a secret.
"""

from __future__ import annotations

import base64
import configparser
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compose.data_dir import DataDir, write_private
from compose.refusal import StartRefused
from compose.settings import CREDENTIALS, given

ACCESS_KEY_VARIABLE = CREDENTIALS["root_access_key"]
SECRET_KEY_VARIABLE = CREDENTIALS["root_secret_key"]
METRICS_TOKEN_VARIABLE = CREDENTIALS["metrics_token"]
PROFILE = "trivet"

_ACCESS_KEY = re.compile(r"[A-Za-z0-9._-]{3,128}")
"""No slash and no comma: they separate the parts of a SigV4 credential."""
_SECRET_KEY = re.compile(r"[!-~]{8,128}")
_METRICS_TOKEN = re.compile(r"[!-~]{8,256}")


@dataclass(frozen=True, slots=True)
class RootCredentials:
    access_key: str
    secret_key: str = field(repr=False)


def from_environment(environment: Mapping[str, str]) -> RootCredentials | None:
    """The pair that the environment or the configuration file gives; None when neither key is given. Raises
    StartRefused for one without the other, and for unfit ones.
    """
    places = given(environment)
    found = [places.find(name) for name in ("root_access_key", "root_secret_key")]
    access_key, secret_key = ("" if each is None else each.text for each in found)
    if not access_key and not secret_key:
        return None
    if not access_key or not secret_key:
        there, missing = ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE
        if secret_key:
            there, missing = missing, there
        raise StartRefused(
            f"{there} is set but {missing} is not: set both ({missing}_FILE names a file that holds it), or "
            "neither to have them generated into the data directory"
        )
    if not _ACCESS_KEY.fullmatch(access_key):
        raise StartRefused(
            f"{ACCESS_KEY_VARIABLE} must have 3 to 128 letters, digits, dots, dashes or underscores"
        )
    if not _SECRET_KEY.fullmatch(secret_key):
        raise StartRefused(f"{SECRET_KEY_VARIABLE} must have 8 to 128 printable characters without spaces")
    return RootCredentials(access_key, secret_key)


def metrics_token(environment: Mapping[str, str]) -> str:
    """What a scrape of the metrics must bring as ``Authorization: Bearer``; empty when anybody may read them.
    Raises StartRefused for one that no header can carry.
    """
    found = given(environment).find("metrics_token")
    token = "" if found is None else found.text
    if token and not _METRICS_TOKEN.fullmatch(token):
        raise StartRefused(f"{METRICS_TOKEN_VARIABLE} must have 8 to 256 printable characters without spaces")
    return token


def to_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables by which child processes, which read no configuration file, find the same credentials."""
    return given(environment).to_environment(CREDENTIALS)


def settle(data: DataDir, environment: Mapping[str, str]) -> RootCredentials:
    """The credentials in force: the environment's, else the kept ones, else new ones that are then kept.

    Only for the holder of the data directory: two callers at once would each make their own.
    """
    given = from_environment(environment)
    if given is not None:
        return given
    if not data.credentials.exists():
        made = RootCredentials(
            "TRIVET" + base64.b32encode(secrets.token_bytes(10)).decode()[:14], secrets.token_urlsafe(30)
        )
        text = (
            f"[{PROFILE}]\naws_access_key_id = {made.access_key}\naws_secret_access_key = {made.secret_key}\n"
        )
        write_private(data.credentials, text)
    return load(data, environment)


def load(data: DataDir, environment: Mapping[str, str]) -> RootCredentials:
    """The credentials in force, making none. Raises StartRefused when there are none or they can't be
    read.
    """
    given = from_environment(environment)
    if given is not None:
        return given
    path = data.credentials
    _refuse_open_file(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        access_key = parser.get(PROFILE, "aws_access_key_id")
        secret_key = parser.get(PROFILE, "aws_secret_access_key")
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # The parser's own message may quote the file, and so a secret.
        raise StartRefused(
            f"{path} can't be read as credentials ({type(error).__name__}); it needs a section "
            f"[{PROFILE}] with aws_access_key_id and aws_secret_access_key"
        ) from None
    if not _ACCESS_KEY.fullmatch(access_key) or not _SECRET_KEY.fullmatch(secret_key):
        raise StartRefused(f"{path} holds an access key or secret key that is too short or not printable")
    return RootCredentials(access_key, secret_key)


def settle_cluster_secret(data: DataDir) -> bytes:
    """What the cluster's processes prove to each other (S25); made on the first start. As `settle`:
    holder only.
    """
    if not data.cluster_secret.exists():
        write_private(data.cluster_secret, secrets.token_hex(32) + "\n")
    return load_cluster_secret(data.cluster_secret)


def load_cluster_secret(path: Path) -> bytes:
    """Raises StartRefused when it is missing, not 32 bytes in hexadecimal, or open to others."""
    _refuse_open_file(path)
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise StartRefused(f"{path} can't be read as a cluster secret ({type(error).__name__})") from None
    if len(secret) != 32:
        raise StartRefused(f"{path} must hold 64 hexadecimal digits")
    return secret


def _refuse_open_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise StartRefused(f"{path} can't be read: {error.strerror}") from None
    if mode & 0o077:
        raise StartRefused(f"{path} can be read by others; run: chmod 600 {path}")
