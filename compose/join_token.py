"""The join token: what a process on another host needs to belong to a store, as one word.

``trivet1.`` and, in base64url, the cluster's id (16 bytes) and its secret (32 bytes). Whoever has it can do what
a process of the store can: it goes from hand to hand as a password does, lies in files of mode 0600, and never in
a log or a command line.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from compose import credentials
from compose.data_dir import DataDir
from compose.refusal import StartRefused
from compose.settings import Settings

PREFIX: Final = "trivet1."
_ID_BYTES: Final = 16
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class JoinToken:
    cluster_id: bytes
    secret: bytes = field(repr=False)

    def render(self) -> str:
        """The inverse of `parse`."""
        return PREFIX + base64.urlsafe_b64encode(self.cluster_id + self.secret).decode()

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises StartRefused, without quoting the text."""
        text = text.strip()
        try:
            content = base64.b64decode(text.removeprefix(PREFIX), altchars=b"-_", validate=True)
        except binascii.Error:
            content = b""
        if not text.startswith(PREFIX) or len(content) != _ID_BYTES + _SECRET_BYTES:
            raise StartRefused(
                f"the join token can't be used: it is one word that begins with {PREFIX}, as `trivet token` prints it"
            )
        return cls(content[:_ID_BYTES], content[_ID_BYTES:])


def given_token(settings: Settings) -> JoinToken | None:
    """The token in the settings, if there is one. Raises StartRefused."""
    return JoinToken.parse(settings.join_token) if settings.join_token else None


def cluster_secret(settings: Settings) -> bytes:
    """What the processes of the store prove to each other (S25): of the token, or of the data directory. Raises
    StartRefused when there is none, or both and they differ.
    """
    path = DataDir(settings.data).cluster_secret
    token = given_token(settings)
    if token is None:
        return credentials.load_cluster_secret(path)
    if path.exists() and credentials.load_cluster_secret(path) != token.secret:
        raise StartRefused(
            f"the join token and {path} are of two different stores: take the one away that is not of this one"
        )
    return token.secret
