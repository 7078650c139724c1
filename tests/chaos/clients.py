"""Clients that read and write a few shared keys and note what they saw."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.chaos.history import DELETE, GET, NEVER, PUT, History, Operation

BUCKET: Final = "chaos"
MIB: Final = 1 << 20
_SIZES: Final = (40, 300, 4096, 4096, 20_000, 70_000, 300_000, MIB, 2 * MIB + 77)
_PART_BYTES: Final = 5 * MIB


class WrongBytes(AssertionError):
    """A GET answered 200 with bytes that nobody has written (P3)."""


def body_of(value: str) -> bytes:
    """The body that `value` stands for: it begins with its own name, the rest follows from that."""
    seed = hashlib.blake2b(value.encode(), digest_size=8).digest()
    size = _SIZES[seed[0] % len(_SIZES)] + seed[1]
    block = hashlib.shake_128(seed).digest(min(size, 65_521))
    return (value.encode() + b"|" + block * (size // len(block) + 1))[:size]


def value_of(body: bytes) -> str:
    """The value whose body this is, to the last byte. Raises WrongBytes."""
    value = body[: body.find(b"|")].decode("ascii", "replace")
    if body != body_of(value):
        raise WrongBytes(f"{len(body)} bytes that begin with {body[:40]!r}")
    return value


class Client(threading.Thread):
    """One client with a connection of its own; ends when `stop` is set. `wrong` is what must never happen."""

    def __init__(
        self,
        number: int,
        make_client: Callable[[], Any],
        history: History,
        stop: threading.Event,
        *,
        keys: int,
        seed: int,
        on_error: Callable[[str, Exception], None],
    ) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.number = number
        self.counts: Counter[str] = Counter()
        self.latencies_s: dict[str, list[tuple[float, float]]] = {
            GET: [],
            PUT: [],
        }  # (when it ended, how long)
        self.wrong: Exception | None = None
        self._make_client = make_client
        self._history = history
        self._stopping = stop
        self._keys = keys
        self._random = Random(f"{seed}/{number}")
        self._on_error = on_error
        self._written = 0

    def run(self) -> None:
        client = self._make_client()
        try:
            while not self._stopping.is_set():
                key = f"key-{self._random.randrange(self._keys)}"
                self._one(client, key, self._random.random())
        except Exception as error:  # noqa: BLE001 - the thread's edge: the run reports it and fails
            self.wrong = error
        finally:
            client.close()

    def _one(self, client: Any, key: str, choice: float) -> None:
        if choice < 0.5:
            self.get(client, key)
        elif choice < 0.9:
            self._put(client, key)
        elif choice < 0.92:
            self._put_in_parts(client, key)
        else:
            self._timed(key, DELETE, None, lambda: client.delete_object(Bucket=BUCKET, Key=key))

    def get(self, client: Any, key: str) -> None:
        """Read a key and note what it held. Raises WrongBytes."""
        start = time.monotonic()
        try:
            value: str | None = value_of(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        except (BotoCoreError, ClientError, HTTPClientError) as error:
            if not _is(error, "NoSuchKey"):
                self._failed(GET, error)
                return
            value = None
        self._note(key, GET, value, start)

    def _put(self, client: Any, key: str) -> None:
        value = self._new_value()
        body = body_of(value)
        self._timed(key, PUT, value, lambda: client.put_object(Bucket=BUCKET, Key=key, Body=body))

    def _put_in_parts(self, client: Any, key: str) -> None:
        """A multipart upload: takes effect with its completion or not at all."""
        value = self._new_value() + "-parts"
        body = body_of(value)
        pieces = [body[at : at + _PART_BYTES] for at in range(0, len(body), _PART_BYTES)] or [b""]
        target = {"Bucket": BUCKET, "Key": key}
        try:
            upload = {**target, "UploadId": client.create_multipart_upload(**target)["UploadId"]}
            parts = [
                {
                    "PartNumber": number,
                    "ETag": client.upload_part(**upload, PartNumber=number, Body=piece)["ETag"],
                }
                for number, piece in enumerate(pieces, 1)
            ]
        except (BotoCoreError, ClientError, HTTPClientError) as error:
            self._failed("part", error)
            return
        self._timed(
            key,
            PUT,
            value,
            lambda: client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}),
        )

    def _timed(self, key: str, kind: str, value: str | None, call: Callable[[], object]) -> None:
        start = time.monotonic()
        try:
            call()
        except (BotoCoreError, ClientError, HTTPClientError) as error:
            self._failed(kind, error)
            self._history.record(Operation(key, kind, value, start, NEVER, self.number))
            return
        self._note(key, kind, value, start)

    def _note(self, key: str, kind: str, value: str | None, start: float) -> None:
        end = time.monotonic()
        self.counts[kind] += 1
        if kind in self.latencies_s:
            self.latencies_s[kind].append((end, end - start))
        self._history.record(Operation(key, kind, value, start, end, self.number))

    def _failed(self, kind: str, error: Exception) -> None:
        """Errors of the server and of the connection may happen; one that blames the client may not."""
        if isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            raise error
        self._on_error(kind, error)

    def _new_value(self) -> str:
        self._written += 1
        return f"c{self.number}-{self._written}"


def _is(error: Exception, code: str) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == code
