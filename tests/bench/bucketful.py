"""An S3 server in memory that does what the profiles ask for, versions included; faults are for the tests to add."""

from __future__ import annotations

import re
from itertools import count
from urllib.parse import parse_qs

from tests.bench.rote import Asked, answer

Version = tuple[str, bytes | None]
"""Id and content; None is a delete marker."""


class Bucketful:
    """One bucket. Signatures are not looked at."""

    def __init__(self) -> None:
        self.versions: dict[str, list[Version]] = {}
        """By path, the oldest first; without versioning at most one each."""
        self.is_versioned = False
        self._ids = (f"v{number}" for number in count(1))
        self._parts: dict[int, bytes] = {}

    def __call__(self, asked: Asked) -> bytes:
        query = {name: values[0] for name, values in parse_qs(asked.query, keep_blank_values=True).items()}
        if asked.path.count("/") == 1:
            return self._bucket(asked, query)
        if "uploads" in query or "uploadId" in query:
            return self._multipart(asked, query)
        if asked.method == "PUT":
            return answer(headers=f"x-amz-version-id: {self._put(asked.path, asked.body)}\r\n")
        if asked.method == "DELETE":
            return self._delete(asked.path, query.get("versionId"))
        return self._get(asked, query.get("versionId"))

    def current(self) -> dict[str, bytes]:
        """What a listing shows, by path."""
        latest = {path: versions[-1][1] for path, versions in self.versions.items() if versions}
        return {path: body for path, body in sorted(latest.items()) if body is not None}

    def _put(self, path: str, body: bytes | None) -> str:
        version = next(self._ids)
        kept = self.versions.setdefault(path, [])
        if not self.is_versioned:
            kept.clear()
        kept.append((version, body))
        return version

    def _delete(self, path: str, version: str | None) -> bytes:
        headers = ""
        if version is not None:
            self.versions[path] = [each for each in self.versions[path] if each[0] != version]
        elif self.is_versioned:
            headers = f"x-amz-version-id: {self._put(path, None)}\r\n"
        else:
            self.versions.pop(path, None)
        return f"HTTP/1.1 204 Gone\r\n{headers}\r\n".encode()

    def _get(self, asked: Asked, version: str | None) -> bytes:
        kept = dict(self.versions.get(asked.path, []))
        body = kept.get(version) if version is not None else self.current().get(asked.path)
        if body is None:
            return answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if asked.method == "HEAD":
            return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        if "range" in asked.headers:
            first, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
            return answer(206, body[int(first) : int(last) + 1])
        return answer(200, body)

    def _bucket(self, asked: Asked, query: dict[str, str]) -> bytes:
        if "versioning" in query:
            self.is_versioned = b"<Status>Enabled</Status>" in asked.body
        elif "delete" in query:
            keys = re.findall(rb"<Key>([^<]+)</Key>", asked.body)
            for key in keys:
                self._delete(f"{asked.path}/{key.decode()}", None)
            return answer(body=b"".join(b"<Deleted><Key>%s</Key></Deleted>" % key for key in keys))
        elif "versions" in query:
            kept = self.versions.get(f"{asked.path}/{query['prefix']}", [])
            return answer(body=b"<Version></Version>" * len(kept))
        elif asked.method == "GET":
            return self._list(asked.path, query)
        elif asked.method == "DELETE":
            return b"HTTP/1.1 204 Gone\r\n\r\n" if not any(self.versions.values()) else answer(409)
        return answer()

    def _list(self, bucket: str, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after, limit = query.get("start-after", ""), int(query.get("max-keys", "1000"))
        keys = [path.removeprefix(f"{bucket}/") for path in self.current()]
        keys = [key for key in keys if key.startswith(prefix) and key > after]
        names = sorted({key.partition(delimiter)[0] for key in keys}) if delimiter and not prefix else []
        told = [] if names else keys[:limit]
        body = "".join(f"<Key>{key}</Key>" for key in told)
        return answer(body=(body + "<CommonPrefixes></CommonPrefixes>" * len(names)).encode())

    def _multipart(self, asked: Asked, query: dict[str, str]) -> bytes:
        if "uploads" in query:
            return answer(body=b"<UploadId>one&amp;only</UploadId>")
        assert query["uploadId"] == "one&only"
        if asked.method == "PUT":
            number = int(query["partNumber"])
            self._parts[number] = asked.body
            return answer(headers=f'ETag: "part-{number}"\r\n')
        for number, tag in re.findall(r'<PartNumber>(\d+)</PartNumber><ETag>"([^"]+)"', asked.body.decode()):
            assert tag == f"part-{number}"
        self._put(asked.path, b"".join(body for _, body in sorted(self._parts.items())))
        return answer()
