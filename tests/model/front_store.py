"""A whole store of the model in this process: boto3's own client, the real application, catalog and writer; only the
three storage nodes are processes of their own, because they are killed. There are no sockets but those to the nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from urllib.parse import unquote_plus, urlencode
from xml.etree import ElementTree

import boto3
import sqlalchemy as sa
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from catalog import buckets, lookup, schema, work
from catalog import nodes as catalog_nodes
from catalog.model import FaultReport, NewBlob
from catalog.statement import Statement, constant
from catalog.transaction import Transaction
from catalog.usage_changes import Usage
from cluster.placement import copies
from cluster.steward.plan import geometry_of
from cluster.stripe_read import MISSING
from compose.admin_services import admin_services
from compose.data_dir import DataDir, write_private
from compose.front_process import front_services
from compose.settings import Settings
from s3front.app import create_app
from s3front.services import FrontServices
from tests.catalog.fresh import fresh_catalog
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes
from tests.cluster.steward_world import World, linked_as_steward, opened, register
from tests.model.books import check_books
from tests.model.catalog_store import FAR_MS
from tests.model.steps import (
    Answer,
    Copy,
    Delete,
    DeleteVersion,
    Hold,
    If,
    Listed,
    Lock,
    Put,
    Refused,
    Rename,
    Retain,
    Seen,
    Step,
    Tag,
    Turn,
)
from tests.model.without_network import WAIT_S, Loop, ask

T = TypeVar("T")

BUCKET = "model"
_NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_WHOLE_BLOBS = Statement(
    sa.select(schema.blobs.c.id).where(
        schema.blobs.c.refs > constant("0"), schema.blobs.c.parts == constant("0")
    )
)
KEY = ("MODELACCESSKEY000001", "a-secret-of-the-model-0001")
FAR = datetime.fromtimestamp(FAR_MS / 1000, UTC)
NEEDLE_BYTES = 16
ONE_SHARD_BYTES = 64
"""From here on an object's first bytes stand on a disk as they are."""

CODES = {
    "MethodNotAllowed": "IsDeleteMarker",
    "AccessDenied": "ObjectLocked",
    "InvalidBucketState": "VersioningLocked",
}
"""The catalog's names of what S3 names otherwise."""


class FrontStore:
    """Three nodes, one of which at a time may be dead or rotten, and a front that may be closed and opened."""

    part_bytes_min = 5 << 20
    trouble_share = 0.06

    def __init__(self, folder: Path, *, locking: bool) -> None:
        self._loop = Loop()
        self._contents: dict[str, bytes] = {}
        self._dead = 0
        self._rotten = False
        self._nodes = RealNodes(folder)
        self._settings = Settings(data=folder / "data")
        place = DataDir(self._settings.data)
        place.run.mkdir(parents=True)
        write_private(place.cluster_secret, SECRET.hex())
        self._path = place.catalog
        fresh_catalog(self._path, cluster_id=CLUSTER_ID)
        with contextlib.ExitStack() as stack:
            stack.callback(self._loop.close)
            stack.enter_context(self._nodes)
            self._loop.run(self._register())
            self._open()
            stack.callback(self._close)
            self._stack = stack.pop_all()
        self._s3 = self._client()
        self._s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=locking)
        bucket = self._loop.run(buckets.get(self._services.catalog, BUCKET))
        assert bucket is not None
        self._bucket_id = bucket.id

    def close(self) -> None:
        self._s3.close()
        self._stack.close()

    async def _register(self) -> None:
        async with opened(self._path) as catalog:
            for info in self._nodes.infos:
                row = await register(catalog, info)
                await catalog.write(lambda tx, row=row: catalog_nodes.set_state(tx, row.number, "up"))  # type: ignore[misc]

    def _open(self) -> None:
        self._loop.run(self._enter())

    async def _enter(self) -> None:
        environment = {"TRIVET_ROOT_ACCESS_KEY": KEY[0], "TRIVET_ROOT_SECRET_KEY": KEY[1]}
        self._closing = asyncio.Event()
        ready: asyncio.Future[FrontServices] = asyncio.get_running_loop().create_future()

        async def live() -> None:
            async with AsyncExitStack() as stack:
                try:
                    services = await stack.enter_async_context(front_services(self._settings, environment))
                except BaseException as error:
                    ready.set_exception(error)
                    raise
                ready.set_result(services)
                await self._closing.wait()

        self._life = asyncio.create_task(live(), name="front")
        self._services = await ready
        self._app = create_app(admin_services(self._services, self._settings))

    def _close(self) -> None:
        async def end() -> None:
            self._closing.set()
            await self._life

        self._loop.run(end())

    def _client(self) -> Any:
        made = boto3.session.Session().client(
            "s3",
            endpoint_url="http://127.0.0.1:9000",
            region_name="us-east-1",
            aws_access_key_id=KEY[0],
            aws_secret_access_key=KEY[1],
            config=Config(retries={"total_max_attempts": 1}),
        )
        made.meta.events.register("before-send.s3", self._send)
        return made

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        answer = self._loop.run(ask(self._app, request))
        self._heard = answer.raw.content
        return answer

    # -- steps -----------------------------------------------------------------------------------------------

    def do(self, step: Step) -> Answer:
        try:
            told = self._asked(step)
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            raise Refused(CODES.get(code, code)) from error
        if isinstance(step, Hold | Retain):
            return Answer()  # AWS names no version in these answers
        headers = told["ResponseMetadata"]["HTTPHeaders"]
        return Answer(headers.get("x-amz-version-id"), headers.get("x-amz-delete-marker") == "true")

    def _asked(self, step: Step) -> Any:
        match step:
            case Turn(versioning):
                return self._s3.put_bucket_versioning(
                    Bucket=BUCKET, VersioningConfiguration={"Status": versioning.capitalize()}
                )
            case Put():
                return self._put(step)
            case Copy():
                return self._copy(step)
            case Rename(source, key):
                return self._s3.rename_object(Bucket=BUCKET, Key=key, RenameSource=source)
            case Delete(key, condition):
                return self._s3.delete_object(Bucket=BUCKET, Key=key, **_if(condition))
            case DeleteVersion(key, version, bypass):
                return self._s3.delete_object(
                    Bucket=BUCKET, Key=key, VersionId=version, BypassGovernanceRetention=bypass
                )
            case Tag(key, version, tags):
                name = _name(key, version)
                if not tags:
                    return self._s3.delete_object_tagging(**name)
                listed = [{"Key": one, "Value": value} for one, value in tags]
                return self._s3.put_object_tagging(**name, Tagging={"TagSet": listed})
            case Hold(key, version, on):
                hold = {"Status": "ON" if on else "OFF"}
                return self._s3.put_object_legal_hold(**_name(key, version), LegalHold=hold)
            case Retain(key, version, lock, bypass):
                return self._s3.put_object_retention(
                    **_name(key, version),
                    Retention={"Mode": lock.mode, "RetainUntilDate": FAR + timedelta(days=lock.days)},
                    BypassGovernanceRetention=bypass,
                )

    def _put(self, put: Put) -> Any:
        self._contents[put.body.etag] = put.body.content
        described: dict[str, Any] = {"Metadata": dict(put.metadata), "Tagging": urlencode(put.tags)}
        if put.lock is not None:
            described["ObjectLockMode"] = put.lock.mode
            described["ObjectLockRetainUntilDate"] = FAR + timedelta(days=put.lock.days)
        name = {"Bucket": BUCKET, "Key": put.key}
        if not put.body.multipart:
            return self._s3.put_object(**name, **described, Body=put.body.content, **_if(put.condition))
        name["UploadId"] = self._s3.create_multipart_upload(**name, **described)["UploadId"]
        parts = [
            {"PartNumber": number, "ETag": self._s3.upload_part(**name, PartNumber=number, Body=part)["ETag"]}
            for number, part in enumerate(put.body.parts, 1)
        ]
        try:
            return self._s3.complete_multipart_upload(
                **name, MultipartUpload={"Parts": parts}, **_if(put.condition)
            )
        except ClientError:
            self._s3.abort_multipart_upload(**name)
            raise

    def _copy(self, step: Copy) -> Any:
        source = {"Bucket": BUCKET, "Key": step.source}
        if step.version is not None:
            source["VersionId"] = step.version
        directives: dict[str, Any] = {}
        if step.tags is not None:
            directives |= {"TaggingDirective": "REPLACE", "Tagging": urlencode(step.tags)}
        if step.metadata is not None:
            directives |= {"MetadataDirective": "REPLACE", "Metadata": dict(step.metadata)}
        return self._s3.copy_object(
            Bucket=BUCKET, Key=step.key, CopySource=source, **directives, **_if(step.condition)
        )

    # -- what is there ---------------------------------------------------------------------------------------

    def versions(self, page: int) -> list[Listed]:
        found: list[Listed] = []
        order: list[tuple[str, str | None]] = []
        for answer in self._s3.get_paginator("list_object_versions").paginate(
            Bucket=BUCKET, PaginationConfig={"PageSize": page}
        ):
            entries = [
                (one["Key"], one["VersionId"], one["IsLatest"], False, one["ETag"].strip('"'), one["Size"])
                for one in answer.get("Versions", [])
            ] + [
                (one["Key"], one["VersionId"], one["IsLatest"], True, "", 0)
                for one in answer.get("DeleteMarkers", [])
            ]
            found += [Listed(*entry) for entry in entries]
            # boto3 keeps versions and markers apart; the document has them in one order.
            order += [
                (unquote_plus(one.findtext(f"{_NS}Key", "")), one.findtext(f"{_NS}VersionId"))
                for one in ElementTree.fromstring(self._heard).iter()
                if one.tag in (f"{_NS}Version", f"{_NS}DeleteMarker")
            ]
        return sorted(found, key=lambda one: order.index((one.key, one.version)))

    def keys(self) -> list[str]:
        return [one["Key"] for one in self._s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def read(self, key: str, version: str | None) -> Seen:
        """The bytes too are compared with those that were put."""
        try:
            found = self._s3.get_object(**_name(key, version))
            tagging = self._s3.get_object_tagging(**_name(key, version))
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            raise Refused(CODES.get(code, code)) from error
        content, etag = found["Body"].read(), found["ETag"].strip('"')
        assert content == self._contents[etag], f"{key} {version}: {len(content)} wrong bytes"
        tags = tuple(sorted((one["Key"], one["Value"]) for one in tagging["TagSet"]))
        assert found.get("TagCount", 0) == len(tags)
        lock = None
        if "ObjectLockMode" in found:
            lock = Lock(found["ObjectLockMode"], (found["ObjectLockRetainUntilDate"] - FAR).days)
        hold = found.get("ObjectLockLegalHoldStatus") == "ON"
        return Seen(etag, len(content), tags, tuple(sorted(found["Metadata"].items())), lock, hold)

    def check_books(self, expected: Usage) -> None:
        self._loop.run(check_books(self._services.catalog, self._bucket_id, expected))

    # -- what happens to it ----------------------------------------------------------------------------------

    def trouble(self, random: Random) -> str:
        """One node at a time is in trouble, until it is mended (P2)."""
        if self._dead or self._rotten:
            return self._mend(random)
        return random.choice((self._kill, self._rot, self._reopen))(random)

    def _kill(self, random: Random) -> str:
        self._dead = random.choice((1, 2, 3))
        self._nodes[self._dead].kill()
        return f"kill node {self._dead}"

    def _rot(self, random: Random) -> str:
        """One bit of the first shard of an object, on whichever node has it."""
        long = [content for content in self._contents.values() if len(content) >= ONE_SHARD_BYTES]
        random.shuffle(long)
        for content in long:
            for node in self._nodes.nodes:
                with contextlib.suppress(AssertionError):
                    node.damage(content[:NEEDLE_BYTES])
                    self._rotten = True
                    return f"rot on node {node.info.number}"
        return "no rot: nothing is there"

    def _reopen(self, random: Random) -> str:
        """The front ends, and another one serves."""
        self._close()
        self._open()
        return "reopen the front"

    def _mend(self, random: Random) -> str:
        if self._dead:
            self._lose_another(random)
        self._loop.run(self._repair())
        self._dead, self._rotten = 0, False
        return "mend"

    def _lose_another(self, random: Random) -> None:
        """The dead node is back, with what it had; nothing is repaired yet when one of those dies that were there
        (P2)."""
        self._nodes[self._dead].start()
        self._loop.run(self._connected())
        other = random.choice([number for number in (1, 2, 3) if number != self._dead])
        self._nodes[other].kill()
        for one in self.versions(1000):
            if not one.marker:
                self.read(one.key, one.version)
        self._nodes[other].start()

    async def _repair(self) -> None:
        """Everything that something names is fully redundant again, counted from the disks (P7)."""
        async with opened(self._path) as catalog, linked_as_steward(self._nodes) as linked:
            world = World(catalog, linked)
            tenure = await world.tenure()
            for fault in await _lacking(world):
                await catalog.write(partial(_reported, fault))
            await world.repair(tenure)
            assert await _lacking(world) == []
        await self._connected()

    async def _connected(self) -> None:
        """Until the front writes to all nodes again."""
        async with asyncio.timeout(WAIT_S):
            while len(self._services.nodes.for_write(3)) < 3:
                await asyncio.sleep(0.005)


def _reported(fault: tuple[bytes, FaultReport], tx: Transaction) -> None:
    work.report_faults(tx, fault[0], [fault[1]])


async def _lacking(world: World) -> list[tuple[bytes, FaultReport]]:
    """The copies of named blobs that layouts promise and disks do not have."""
    found = []
    for (blob_id,) in await world.catalog.read(lambda reader: reader.rows(_WHOLE_BLOBS)):
        row = await lookup.blob(world.catalog, blob_id)
        assert row is not None
        stripes = geometry_of(row).stripe_count(row.size)
        held = await world.held(NewBlob(row.id, row.size, row.k, row.m, row.stripe_bytes, row.nodes, stripes))
        found += [
            (blob_id, FaultReport(stripe, shard, node, MISSING))
            for stripe in range(stripes)
            for shard, node in copies(row.nodes_at(stripe), row.k + row.m)
            if (stripe, shard, node) not in held
        ]
    return found


def _name(key: str, version: str | None) -> dict[str, str]:
    return {"Bucket": BUCKET, "Key": key} | ({} if version is None else {"VersionId": version})


def _if(condition: If | None) -> dict[str, str]:
    if condition is None:
        return {}
    return (
        {"IfNoneMatch": condition.none_match} if condition.none_match else {"IfMatch": condition.match or ""}
    )
