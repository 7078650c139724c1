"""SigV4, small and by itself: the bench must not sign with the code it judges.

Sources: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" and "... Using the Authorization
Header ...", Amazon S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

EXPIRES_S = 86_400


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one endpoint (`host` is host:port as the client sends it) at one moment."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str
    host: str
    now: datetime

    def presign(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> str:
        """The request target (path and query) that carries its own signature; `path` is not yet encoded. `headers`
        are signed too and must then be sent, as must Host always."""
        signed = {"host": self.host} | {name.lower(): value for name, value in (headers or {}).items()}
        names = ";".join(sorted(signed))
        parameters = {
            **(query or {}),
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key}/{self._scope}",
            "X-Amz-Date": self._time,
            "X-Amz-Expires": str(EXPIRES_S),
            "X-Amz-SignedHeaders": names,
        }
        canonical_query = _canonical(parameters)
        target = quote(path, safe="/~")
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"{method}\n{target}\n{canonical_query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        return f"{target}?{canonical_query}&X-Amz-Signature={self._signature(canonical)}"

    def headers(
        self, method: str, path: str, query: dict[str, str] | None = None, body: bytes = b""
    ) -> dict[str, str]:
        """Headers that sign a request with its body: for what takes no presigned requests. Send them as they are,
        with the path and query as `request_target` gives them."""
        digest = hashlib.sha256(body).hexdigest()
        signed = {"host": self.host, "x-amz-content-sha256": digest, "x-amz-date": self._time}
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        names = ";".join(signed)
        canonical = (
            f"{method}\n{quote(path, safe='/~')}\n{_canonical(query or {})}\n{lines}\n{names}\n{digest}"
        )
        credential = f"{self.access_key}/{self._scope}"
        return {
            **signed,
            "authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, "
            f"Signature={self._signature(canonical)}",
        }

    @property
    def _time(self) -> str:
        return self.now.strftime("%Y%m%dT%H%M%SZ")

    @property
    def _scope(self) -> str:
        return f"{self._time[:8]}/{self.region}/s3/aws4_request"

    def _signature(self, canonical: str) -> str:
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{self._time}\n{self._scope}\n{digest}"
        key = f"AWS4{self.secret_key}".encode()
        for part in (self._time[:8], self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, to_sign.encode(), "sha256").hex()


def request_target(path: str, query: dict[str, str] | None = None) -> str:
    """Path and query of a request, encoded as they are signed."""
    target = quote(path, safe="/~")
    return f"{target}?{_canonical(query)}" if query else target


def _canonical(query: dict[str, str]) -> str:
    return "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(query.items())
    )
