"""The profiles that run against any S3 endpoint: small, large, mixed, list, delete, versions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from random import Random

from conformance.bench.extras import S3Connection
from conformance.bench.load import LoadFailed
from conformance.bench.objects import delete_many, list_page, objects_of
from conformance.bench.plan import Operation, Outcome
from conformance.bench.session import NotSupported, Session

KIB = 1 << 10
MIB = 1 << 20
PAGE_KEYS = 1000
DIRECTORIES = 100
KEYS_AT_ONCE = 100
RANGE_BYTES = 64 * KIB
MULTIPART_PART_BYTES = 8 * MIB
MULTIPART_PARTS = 8
VERSIONS = 3
MIX_SHARES = {"GET": 60, "PUT": 25, "HEAD": 5, "DELETE": 5, "LIST": 5}
"""Of a hundred operations of profile mixed."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile is about, and what it takes when nothing else is said."""

    summary: str
    run: Callable[[Session], None]
    objects: int
    size_min_bytes: int
    size_max_bytes: int
    seconds: float = 0.0


def small(session: Session) -> None:
    """Every small request there is, one kind after the other."""
    objects = objects_of(session.options, "small/")
    newer = objects_of(session.options, "small/", first_content=session.options.objects)
    everyone = range(session.options.objects)
    session.phase("upload", objects.all_put())
    session.phase("download and verify", objects.all_got(), repeats=True)
    session.phase("head", [objects.head(n) for n in everyone], repeats=True)
    session.phase("overwrite", [newer.put(n, "PUT over") for n in everyone], repeats=True)
    if not session.options.seconds:  # else only a part of them may be overwritten
        session.phase("verify again", newer.all_got())


def large(session: Session) -> None:
    """Objects of many stripes, ranges of them, and one in parts."""
    objects = objects_of(session.options, "large/")
    random = Random(session.options.seed)
    session.phase("upload", objects.all_put())
    session.phase("download and verify", objects.all_got(), repeats=True)
    ranges = []
    for n in (random.randrange(session.options.objects) for _ in range(10 * session.options.objects)):
        size = min(RANGE_BYTES, objects.sizes[n])
        ranges.append(objects.get_range(n, random.randint(0, objects.sizes[n] - size), size))
    session.phase("ranges", ranges, repeats=True)
    multipart(session, content=session.options.objects)


def multipart(session: Session, content: int) -> None:
    """One object in parts by all clients at once; the parts are measured, beginning and end are not."""
    path = f"/{session.options.bucket}/large/multipart"
    connection = S3Connection(session.endpoint)
    answer, _ = connection.call("POST", path, {"uploads": ""})
    found = re.search(rb"<UploadId>([^<]+)</UploadId>", answer)
    if found is None:
        raise LoadFailed("no UploadId in the answer to CreateMultipartUpload")
    upload_id = unescape(found.group(1).decode())
    parts = [
        Operation(
            "UploadPart",
            "PUT",
            path,
            MULTIPART_PART_BYTES,
            content,
            number * MULTIPART_PART_BYTES,
            {"partNumber": str(number + 1), "uploadId": upload_id},
            captures="etag",
        )
        for number in range(MULTIPART_PARTS)
    ]
    outcome = session.phase("multipart upload", parts)
    listed = "".join(
        f"<Part><PartNumber>{each.operation + 1}</PartNumber><ETag>{each.value}</ETag></Part>"
        for each in sorted(outcome.captured, key=lambda each: each.operation)
    )
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    connection.call("POST", path, {"uploadId": upload_id}, body)
    connection.close()
    whole = MULTIPART_PARTS * MULTIPART_PART_BYTES
    session.phase("multipart verify", [Operation("GET", "GET", path, whole, content)])
    session.stored(path)


def mixed(session: Session) -> None:
    """Everything at once: what is read was stored before, what is written or deleted nobody reads."""
    count = session.options.objects
    old = objects_of(session.options, "old/")
    new = objects_of(session.options, "new/", first_content=count)
    random = Random(session.options.seed)
    session.phase("upload", old.all_put())
    page = min(100, count)
    listing = list_page(
        session.options.bucket, {"prefix": "old/", "max-keys": str(page)}, keys=page, kind="LIST"
    )
    make: dict[str, Callable[[int], Operation]] = {
        "GET": old.get,
        "PUT": new.put,
        "HEAD": old.head,
        "DELETE": new.delete,
        "LIST": lambda _: listing,
    }
    kinds = random.choices(list(MIX_SHARES), list(MIX_SHARES.values()), k=10 * count)
    session.phase("mixed", [make[kind](random.randrange(count)) for kind in kinds], repeats=True)
    session.phase("verify", old.all_got())


def listing(session: Session) -> None:
    """Pages of a thousand keys, directories, and the directories' names."""
    options = session.options
    keys = sorted(f"dir-{n % DIRECTORIES:02d}/{n:06d}" for n in range(options.objects))
    directories = sorted({key[:7] for key in keys})
    session.phase(
        "upload",
        [Operation("PUT", "PUT", f"/{options.bucket}/{key}", 100, n) for n, key in enumerate(keys)],
    )
    pages = []
    for begin in range(0, len(keys), PAGE_KEYS):
        query = {"max-keys": str(PAGE_KEYS)} | ({"start-after": keys[begin - 1]} if begin else {})
        found = len(keys[begin : begin + PAGE_KEYS])
        pages.append(list_page(options.bucket, query, keys=found, kind=f"LIST page of {found:,}"))
    session.phase("pages", pages, repeats=True)
    session.phase(
        "directories",
        [
            list_page(
                options.bucket,
                {"prefix": directory, "delimiter": "/"},
                keys=sum(key.startswith(directory) for key in keys),
                kind="LIST directory",
            )
            for directory in directories
        ],
        repeats=True,
    )
    names = list_page(
        options.bucket, {"delimiter": "/"}, keys=0, prefixes=len(directories), kind="LIST names"
    )
    session.phase("names of directories", [names] * 20, repeats=True)


def deletion(session: Session) -> None:
    """One by one, many at once; what is deleted is gone."""
    options = session.options
    objects = objects_of(options, "doomed/")
    everyone = range(options.objects)
    half = options.objects // 2
    session.phase("upload", objects.all_put())
    session.phase("delete one by one", [objects.delete(n) for n in everyone[:half]])
    batches = [objects.keys[n : n + KEYS_AT_ONCE] for n in range(half, options.objects, KEYS_AT_ONCE)]
    session.phase("delete many at once", [delete_many(options.bucket, batch) for batch in batches])
    session.phase("everything is gone", [objects.gone(n) for n in everyone])
    empty = list_page(options.bucket, {"prefix": "doomed/"}, keys=0, kind="LIST of nothing")
    session.phase("and the listing is empty", [empty])


def versions(session: Session) -> None:
    """Several versions of each key, each of which can be read; delete markers. Raises NotSupported."""
    options = session.options
    _switch_versions_on(session)
    everyone = range(options.objects)
    layers = [
        objects_of(options, "versioned/", first_content=layer * options.objects) for layer in range(VERSIONS)
    ]
    ids: list[list[str]] = []
    for number, layer in enumerate(layers, 1):
        stored = session.phase(
            f"upload version {number}", [layer.put(n, captures="x-amz-version-id") for n in everyone]
        )
        ids.append(_captured(stored, options.objects))
    session.phase("download current", layers[-1].all_got(), repeats=True)
    old = [
        layer.get(n, "GET version", {"versionId": known[n]})
        for layer, known in zip(layers, ids, strict=True)
        for n in everyone
    ]
    session.phase("download every version", old, repeats=True)
    lists = [
        Operation(
            "LIST versions",
            "GET",
            f"/{options.bucket}",
            query={"versions": "", "prefix": key},
            marks={"<Version>": VERSIONS},
        )
        for key in layers[0].keys
    ]
    session.phase("list versions", lists, repeats=True)
    marked = session.phase("delete", [layers[0].delete(n, captures="x-amz-version-id") for n in everyone])
    session.phase("markers hide", [layers[0].gone(n) for n in everyone])
    session.phase("versions behind the markers", old)
    ids.append(_captured(marked, options.objects))
    session.phase(
        "delete every version",
        [layers[0].delete(n, {"versionId": known[n]}) for known in ids for n in everyone],
    )
    session.gone(layers[0].path(n) for n in everyone)


def _switch_versions_on(session: Session) -> None:
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    connection = S3Connection(session.endpoint)
    status, answer, _ = connection.ask("PUT", f"/{session.options.bucket}", {"versioning": ""}, body)
    connection.close()
    if status != 200:
        code = re.search(rb"<Code>([^<]+)</Code>", answer)
        raise NotSupported(f"versioning: answered {status} {code.group(1).decode() if code else ''}".rstrip())


def _captured(outcome: Outcome, count: int) -> list[str]:
    """The header captured of each operation. Raises LoadFailed when one has none: there is no going on then."""
    values = {each.operation: each.value for each in outcome.captured if each.value}
    if len(values) != count:
        raise LoadFailed(f"{count - len(values)} of {count} answers had no x-amz-version-id")
    return [values[number] for number in range(count)]


PROFILES = {
    "small": Profile("requests on objects of 1 to 10 KB", small, 2000, 1000, 10_000),
    "large": Profile("objects of 4 to 16 MiB, ranges, an upload in parts", large, 20, 4 * MIB, 16 * MIB),
    "mixed": Profile("reads, writes, deletes and listings at once", mixed, 1000, 1000, 100_000, 10.0),
    "list": Profile("listings of 10,000 keys in 100 directories", listing, 10_000, 100, 100),
    "delete": Profile("deletes, one by one and many at once", deletion, 2000, 1000, 10_000),
    "versions": Profile("several versions of each key", versions, 500, 1000, 10_000),
}
