"""Clients that write, copy, delete and read a few keys through any front, and check what they are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from catalog import lookup, objects
from catalog.errors import CatalogError, CommitUnknown
from catalog.model import Attributes, ObjectRow, Source
from cluster.errors import ClusterError, WriteFailed
from s3front.blob_store import new_blob
from tests.sim import multipart
from tests.sim.catalogs import BUCKET
from tests.sim.history import Outcome, Register
from tests.sim.loop import SimLoop
from tests.sim.processes import SimFront
from tests.sim.truth import Violation
from tests.sim.writing import written

KEYS = tuple(f"key-{number}".encode() for number in range(5))

FENCED_AFTER_S = 10.0
"""Upload epochs pass quickly here: what takes longer may meet the fence of S19, and find its shards collected."""


class Values:
    """The contents that were written, by the number that is their ETag."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sizes: list[int] = []

    def new(self, size: int) -> int:
        """A content that no other is like."""
        self._sizes.append(size)
        return len(self._sizes)

    def body(self, value: int) -> bytes:
        """Its bytes."""
        return random.Random(f"{self._seed} {value}").randbytes(self._sizes[value - 1])


class Clients:
    """Several at once, each with one request at a time."""

    def __init__(
        self,
        loop: SimLoop,
        chance: random.Random,
        *,
        seed: int,
        fronts: Sequence[SimFront],
        note: Callable[[str], None],
        fail: Callable[[Exception], None],
        may_fail: Callable[[float], bool],
        cut_short: Callable[[bytes], bool],
    ) -> None:
        """`may_fail(since)`: whether a request that began then may be refused now. `cut_short`: whether a blob
        was collected before its grace was over, because a clock was wrong."""
        self._loop = loop
        self._chance = chance
        self._fronts = fronts
        self._note = note
        self._fail = fail
        self._may_fail = may_fail
        self._cut_short = cut_short
        self._stripe_bytes = fronts[0].surroundings.geometry.stripe_bytes
        self.values = Values(seed)
        self.registers = {key: Register() for key in KEYS}
        self.requests = 0
        self.refused = 0

    async def run(self, number: int, requests: int, pause_s: float) -> None:
        """One client."""
        for _ in range(requests):
            await asyncio.sleep(pause_s * self._chance.random() * 2)
            front = self._chance.choice(self._fronts)
            kind = self._chance.choices(
                ("put", "upload", "multipart", "get", "delete", "copy"), (8, 4, 2, 8, 2, 2)
            )[0]
            key = self._chance.choice(KEYS)
            self.requests += 1
            try:
                await getattr(self, f"_{kind}")(f"client {number} {front.name}", front, key)
            except Violation as violation:
                self._fail(violation)
                return

    # -- writes ----------------------------------------------------------------------------------------------

    async def _put(self, who: str, front: SimFront, key: bytes) -> None:
        await self._write(who, front, key, self._chance.randint(400, self._stripe_bytes), 0.0)

    async def _upload(self, who: str, front: SimFront, key: bytes) -> None:
        size = self._chance.randint(1, 9 * self._stripe_bytes)
        await self._write(who, front, key, size, self._chance.choice((0.0, 0.02, 0.5, 2.5)))

    async def _write(self, who: str, front: SimFront, key: bytes, size: int, pause_s: float) -> None:
        value = self.values.new(size)
        leave_s = self._chance.random() * 0.02 if self._chance.random() < 0.05 else None
        self._note(f"{who} put {key.decode()} #{value} {size} bytes")
        await self._attempt(
            f"{who} put {key.decode()} #{value}",
            key,
            value,
            front,
            lambda: put(front, key, str(value), self.values.body(value), pause_s),
            leave_s,
        )

    async def _multipart(self, who: str, front: SimFront, key: bytes) -> None:
        """A few parts, each through any front; only the completion can change the object."""
        number = self._chance.randint(1, 3)
        value = self.values.new(self._chance.randint(number, 6 * self._stripe_bytes))
        body = self.values.body(value)
        what = f"{who} complete {key.decode()} #{value} {len(body)} bytes in {number} parts"
        began = self._loop.now
        size = -(-len(body) // number)
        try:
            upload = await front.call(multipart.create(front, key))
            for part in range(number):
                other = self._chance.choice(self._fronts)
                piece = body[part * size : (part + 1) * size]
                pause_s = self._chance.choice((0.0, 0.0, 0.5))
                await other.call(multipart.put_part(other, upload, part + 1, piece, pause_s))
        except (ConnectionError, CatalogError, ClusterError, asyncio.CancelledError) as error:
            self._note(f"{what}: no part ({type(error).__name__})")
            if isinstance(error, ClusterError):
                self._refused(what, error, began)
            return
        work = lambda: multipart.complete(front, upload, number, str(value))  # noqa: E731
        await self._attempt(what, key, value, front, work)

    def _refused(self, what: str, error: Exception, began: float) -> None:
        self.refused += 1
        fenced = isinstance(error, WriteFailed) and self._loop.now - began > FENCED_AFTER_S
        if not (fenced or self._may_fail(began)):
            raise Violation(f"availability: {what} was refused: {error}") from error

    async def _delete(self, who: str, front: SimFront, key: bytes) -> None:
        await self._attempt(f"{who} delete {key.decode()}", key, None, front, lambda: delete(front, key))

    async def _copy(self, who: str, front: SimFront, key: bytes) -> None:
        source = self._chance.choice(KEYS)
        found = await self._look_up(who, front, source)
        if found is None:
            return
        row, bucket_id = found
        await self._attempt(
            f"{who} copy {source.decode()} #{row.etag} to {key.decode()}",
            key,
            int(row.etag),
            front,
            lambda: copy(front, bucket_id, row, key),
        )

    async def _look_up(self, who: str, front: SimFront, key: bytes) -> tuple[ObjectRow, int] | None:
        try:
            return await front.call(find(front, key))
        except (ConnectionError, CatalogError, asyncio.CancelledError) as error:
            self._note(f"{who} find {key.decode()}: {type(error).__name__}")
            return None

    async def _attempt(  # noqa: PLR0917
        self,
        what: str,
        key: bytes,
        value: int | None,
        front: SimFront,
        work: Callable[[], object],
        leave_s: float | None = None,
    ) -> None:
        register = self.registers[key]
        began = self._loop.now
        write = register.begin(value, began)
        try:
            await front.call(work(), leave_after_s=leave_s)  # type: ignore[arg-type]
        except (ConnectionResetError, CommitUnknown, asyncio.CancelledError) as error:
            register.end(write, Outcome.UNKNOWN, self._loop.now)
            self._note(f"{what}: unknown ({type(error).__name__})")
        except (ConnectionRefusedError, ClusterError, CatalogError) as error:
            register.end(write, Outcome.REFUSED, self._loop.now)
            self._note(f"{what}: refused ({type(error).__name__})")
            if isinstance(error, ClusterError):
                self._refused(what, error, began)
            else:
                self.refused += 1
        else:
            register.end(write, Outcome.DONE, self._loop.now)
            self._note(f"{what}: done")

    # -- reads -----------------------------------------------------------------------------------------------

    async def _get(self, who: str, front: SimFront, key: bytes) -> None:
        await self.check(who, front, key, self._chance.choice((0.0, 0.0, 0.0, 0.8, 1.8)))

    async def check(self, who: str, front: SimFront, key: bytes, pause_s: float = 0.0) -> bool:
        """Read a key and see that it is right; False when it could not be read. Raises Violation."""
        began = self._loop.now
        what = f"{who} get {key.decode()}"
        found: list[ObjectRow] = []
        try:
            etag, body, looked_up = await front.call(get(front, key, pause_s, found))
        except (ConnectionError, CatalogError, asyncio.CancelledError) as error:
            self._note(f"{what}: {type(error).__name__}")
            return False
        except ClusterError as error:
            self._note(f"{what}: refused ({error})")
            if not any(map(self._cut_short, multipart.blob_ids(found[0]))):
                self._refused(what, error, began)
            return False
        value = None if etag is None else int(etag)
        self._note(f"{what}: #{value}")
        allowed = self.registers[key].allowed(began, looked_up)
        if value not in allowed:
            raise Violation(f"P4: {what} found #{value}, which is none of {sorted(map(str, allowed))}")
        if value is not None and body != self.values.body(value):
            raise Violation(f"P3: {what} returned other bytes than were put as #{value}")
        return True


async def put(front: SimFront, key: bytes, etag: str, body: bytes, pause_s: float) -> None:
    """PutObject, as the front's handlers do it."""
    bucket, _ = await lookup.find(front.catalog, BUCKET, key)
    assert bucket is not None
    blob = new_blob(await written(front, body, pause_s))
    await front.catalog.write(
        lambda tx: objects.put(
            tx,
            bucket_id=bucket.id,
            key=key,
            blob=blob,
            etag=etag,
            content_type="",
            attributes=Attributes(),
        ),
        blob=blob,
    )


async def delete(front: SimFront, key: bytes) -> None:
    """DeleteObject."""
    bucket, _ = await lookup.find(front.catalog, BUCKET, key)
    assert bucket is not None
    await front.catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket.id, key=key), frees=True)


async def find(front: SimFront, key: bytes) -> tuple[ObjectRow, int] | None:
    """HeadObject."""
    bucket, row = await lookup.find(front.catalog, BUCKET, key)
    assert bucket is not None
    return None if row is None else (row, bucket.id)


async def copy(front: SimFront, bucket_id: int, row: ObjectRow, key: bytes) -> None:
    """CopyObject of what was looked up some time ago."""
    source = Source(bucket_id, row.key, row.blob.id, row.sequence)
    await front.catalog.write(
        lambda tx: objects.copy(
            tx,
            source=source,
            bucket_id=bucket_id,
            key=key,
            etag=row.etag,
            content_type="",
            attributes=Attributes(),
        )
    )


async def get(
    front: SimFront, key: bytes, pause_s: float, found: list[ObjectRow]
) -> tuple[str | None, bytes, float]:
    """GetObject for a client that may be slow: ETag (None: no such key), bytes, and when it was looked up.
    `found` gets the row, also when its bytes can't be read."""
    _, row = await lookup.find(front.catalog, BUCKET, key)
    looked_up = front.surroundings.loop.now
    if row is None:
        return None, b"", looked_up
    found.append(row)
    parts: list[bytes] = []
    for blob in await multipart.blobs_of(front, row):
        stream = front.reader.open(blob, 0, blob.size)
        try:
            while (buffers := await stream.next()) is not None:
                parts += [bytes(buffer) for buffer in buffers]
                if pause_s:
                    await asyncio.sleep(pause_s)
        finally:
            stream.close()
    return row.etag, b"".join(parts), looked_up
