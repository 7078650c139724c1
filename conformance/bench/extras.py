"""What `load` does not drive: making buckets, comparing contents, paging a listing, multipart upload."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape

from conformance.bench.load import LoadFailed, object_key
from conformance.bench.plan import Endpoint
from conformance.bench.signing import Signer

REQUEST_WAIT_S = 120.0


class S3Connection:
    """One keep-alive connection that sends presigned requests one by one."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._signer = Signer(
            endpoint.access_key, endpoint.secret_key, endpoint.region, endpoint.authority, datetime.now(UTC)
        )
        made = http.client.HTTPSConnection if endpoint.tls else http.client.HTTPConnection
        self._http = made(endpoint.host, endpoint.port, timeout=REQUEST_WAIT_S)

    def ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: bytes | memoryview = b""
    ) -> tuple[int, bytes, str]:
        """Status, body and ETag of the answer. Raises LoadFailed when there is none."""
        try:
            self._http.request(method, self._signer.presign(method, path, query), body=body)
            with self._http.getresponse() as response:
                return response.status, response.read(), response.getheader("ETag", "")
        except (OSError, http.client.HTTPException) as error:
            raise LoadFailed(f"{method} {path}: {error or type(error).__name__}") from error

    def call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: bytes | memoryview = b""
    ) -> tuple[bytes, str]:
        """Body and ETag of a 200 answer. Raises LoadFailed for any other."""
        status, content, etag = self.ask(method, path, query, body)
        if status != 200:
            raise LoadFailed(f"{method} {path} was answered {status}: {content[:500]!r}")
        return content, etag

    def close(self) -> None:
        self._http.close()


def make_bucket(endpoint: Endpoint, bucket: str) -> None:
    """Raises LoadFailed when it is there already."""
    connection = S3Connection(endpoint)
    body = b""
    if endpoint.region != "us-east-1":
        body = (
            f"<CreateBucketConfiguration><LocationConstraint>{endpoint.region}</LocationConstraint>"
            "</CreateBucketConfiguration>"
        ).encode()
    connection.call("PUT", f"/{bucket}", body=body)
    connection.close()


def check_contents(endpoint: Endpoint, bucket: str, body: bytes) -> None:
    """Stores, reads back and compares one object. Raises LoadFailed when a byte differs."""
    connection = S3Connection(endpoint)
    path = f"/{bucket}/{object_key(0)}"
    connection.call("PUT", path, body=body)
    content, _ = connection.call("GET", path)
    connection.close()
    if content != body:
        raise LoadFailed(f"{len(body)} bytes came back changed")


@dataclass(frozen=True, slots=True)
class Timing:
    """What a measured piece of work took."""

    units: int
    seconds: float
    steps_ms: list[float]


def list_all(endpoint: Endpoint, bucket: str, page_keys: int) -> Timing:
    """Pages through a bucket with ListObjectsV2."""
    connection = S3Connection(endpoint)
    query = {"list-type": "2", "max-keys": str(page_keys)}
    keys = 0
    steps = []
    began = time.perf_counter()
    while True:
        step_began = time.perf_counter()
        content, _ = connection.call("GET", f"/{bucket}", query)
        steps.append((time.perf_counter() - step_began) * 1000)
        keys += content.count(b"<Key>")
        token = re.search(rb"<NextContinuationToken>([^<]+)</NextContinuationToken>", content)
        if token is None:
            break
        query["continuation-token"] = unescape(token.group(1).decode())
    seconds = time.perf_counter() - began
    connection.close()
    return Timing(keys, seconds, steps)


def multipart_put(endpoint: Endpoint, bucket: str, *, part: bytes, parts: int, threads: int) -> Timing:
    """One object of `parts` equal parts, uploaded by `threads` connections at once, and completed."""
    connections = [S3Connection(endpoint) for _ in range(threads)]
    path = f"/{bucket}/multipart"
    began = time.perf_counter()
    content, _ = connections[0].call("POST", path, {"uploads": ""})
    found = re.search(rb"<UploadId>([^<]+)</UploadId>", content)
    if found is None:
        raise LoadFailed("no UploadId in the answer to CreateMultipartUpload")
    upload_id = unescape(found.group(1).decode())

    def upload(worker: int) -> list[tuple[int, str, float]]:
        done = []
        for number in range(worker + 1, parts + 1, threads):
            step_began = time.perf_counter()
            query = {"partNumber": str(number), "uploadId": upload_id}
            _, etag = connections[worker].call("PUT", path, query, part)
            done.append((number, etag, (time.perf_counter() - step_began) * 1000))
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sorted(entry for worker in pool.map(upload, range(threads)) for entry in worker)
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag, _ in done
    )
    complete = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    connections[0].call("POST", path, {"uploadId": upload_id}, complete)
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return Timing(parts * len(part), seconds, [step for _, _, step in done])


def measure_cpu(read_cpu_s: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """Call the result later for the CPU seconds that each process used since now."""
    before = read_cpu_s()
    return lambda: {name: after - before[name] for name, after in read_cpu_s().items() if name in before}
