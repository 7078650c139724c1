"""Access keys and roles in a store of two fronts: over S3, the admin API and the command line."""

from __future__ import annotations

import http.client
import json
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.system.conftest import CLEAN_CONFIG, Store

BUCKET = "keys"


class Key(NamedTuple):
    access_key: str
    secret_key: str


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two fronts; one bucket with one object."""
    shared = Store(tmp_path_factory.mktemp("keys"), ("--fronts", "2"))
    shared.start()
    shared.client().create_bucket(Bucket=BUCKET)
    shared.client().put_object(Bucket=BUCKET, Key="there", Body=b"body")
    yield shared
    shared.stop()


@pytest.fixture
def client_of(store: Store) -> Iterator[Callable[..., Any]]:
    """Makes boto3 clients for a key."""
    made: list[Any] = []

    def make(key: Key, config: Config | None = None) -> Any:
        made.append(
            boto3.session.Session().client(
                "s3",
                endpoint_url=store.endpoint,
                region_name="us-east-1",
                aws_access_key_id=key.access_key,
                aws_secret_access_key=key.secret_key,
                config=CLEAN_CONFIG.merge(config) if config else CLEAN_CONFIG,
            )
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


class Answer(NamedTuple):
    status: int
    body: bytes
    front: str
    """The part of the request id that is the front's own."""


class Line:
    """One connection, which stays with the front that took it."""

    def __init__(self, store: Store) -> None:
        self._host = urlsplit(store.endpoint).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=30)

    def ask(self, key: Key, method: str, path: str, body: Any = None) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        request = AWSRequest(method=method, url=f"http://{self._host}{path}", data=data, headers=headers)
        S3SigV4Auth(Credentials(*key), "s3", "us-east-1").add_auth(request)
        self._connection.request(method, path, body=data or None, headers=dict(request.headers.items()))
        answer = self._connection.getresponse()
        request_id = answer.headers.get("x-amz-request-id") or answer.headers["x-request-id"]
        return Answer(answer.status, answer.read(), request_id[:8])

    def get(self, key: Key) -> Answer:
        return self.ask(key, "GET", f"/{BUCKET}/there")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def lines(store: Store) -> Iterator[tuple[Line, Line]]:
    """A connection to each of the two fronts."""
    root = root_of(store)
    by_front: dict[str, Line] = {}
    spare: list[Line] = []
    give_up_at = time.monotonic() + 30
    while len(by_front) < 2:
        assert time.monotonic() < give_up_at, "all connections came to one front"
        line = Line(store)
        front = line.get(root).front
        spare.append(line)
        by_front.setdefault(front, line)
    one, two = by_front.values()
    yield one, two
    for line in spare:
        line.close()


def root_of(store: Store) -> Key:
    return Key(store.access_key, store.secret_key)


def admin(store: Store, line: Line, method: str, path: str, body: Any = None) -> Any:
    """Ask the admin API with the root key; the answer's JSON."""
    answer = line.ask(root_of(store), method, f"/-/admin/v1{path}", body)
    assert answer.status < 300, answer
    return json.loads(answer.body) if answer.body else None


def created(store: Store, line: Line, role: str = "readwrite") -> Key:
    made = admin(store, line, "POST", "/keys", {"role": role})
    return Key(made["access_key"], made["secret_key"])


def code(answer: Answer) -> str:
    """The S3 error code; empty for a success."""
    return "" if answer.status == 200 else str(ElementTree.fromstring(answer.body).findtext("Code"))


def refusal(call: Callable[..., Any], **arguments: Any) -> str:
    """The code with which a client's call is refused; a HEAD has only a status."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def command(store: Store, *words: str, fails: bool = False) -> str:
    """Standard output of `trivet …`, or standard error of one that is refused with exit code 1."""
    done = store.trivet(*words)
    assert done.returncode == (1 if fails else 0), done
    return done.stderr if fails else done.stdout


def test_what_one_front_changes_both_obey_at_once(store: Store, lines: tuple[Line, Line]) -> None:
    """Created, disabled, enabled, given another role and deleted through one front, again and again, each time in use
    on both: the next request already meets the change (S16). Red when the generation is not touched, or when a front
    keeps what it unsealed without asking the catalog."""
    for turn in range(10):
        changing = lines[turn % 2]
        key = created(store, changing)
        path = f"/keys/{key.access_key}"
        assert [code(line.get(key)) for line in lines] == ["", ""]
        admin(store, changing, "PATCH", path, {"enabled": False})
        assert [code(line.get(key)) for line in lines] == ["InvalidAccessKeyId"] * 2
        admin(store, changing, "PATCH", path, {"enabled": True, "role": "readonly"})
        assert [code(line.get(key)) for line in lines] == ["", ""]
        written = [line.ask(key, "PUT", f"/{BUCKET}/no") for line in lines]
        assert [code(answer) for answer in written] == ["AccessDenied"] * 2
        admin(store, changing, "DELETE", path)
        assert [code(line.get(key)) for line in lines] == ["InvalidAccessKeyId"] * 2


def test_readonly_reads_everything_and_changes_nothing(
    store: Store, lines: tuple[Line, Line], client_of: Callable[..., Any]
) -> None:
    """Each operation that changes something is refused, and has changed nothing: neither a part nor a completion of
    somebody else's upload. Red when authorise lets everybody through."""
    client, owner = client_of(created(store, lines[0], "readonly")), store.client()
    at = {"Bucket": BUCKET, "Key": "upload"}
    upload = {**at, "UploadId": owner.create_multipart_upload(**at)["UploadId"]}
    etag = owner.upload_part(**upload, PartNumber=1, Body=b"part")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    there = {"Bucket": BUCKET, "Key": "there"}
    source = {"Bucket": BUCKET, "Key": "there"}
    for call, arguments in (
        (client.create_bucket, {"Bucket": "another"}),
        (client.delete_bucket, {"Bucket": BUCKET}),
        (client.put_object, {**there, "Body": b"overwritten"}),
        (client.copy_object, {"Bucket": BUCKET, "Key": "copy", "CopySource": source}),
        (client.delete_object, there),
        (client.delete_objects, {"Bucket": BUCKET, "Delete": {"Objects": [{"Key": "there"}]}}),
        (client.create_multipart_upload, at),
        (client.upload_part, {**upload, "PartNumber": 2, "Body": b"part"}),
        (client.upload_part_copy, {**upload, "PartNumber": 2, "CopySource": source}),
        (client.complete_multipart_upload, {**upload, "MultipartUpload": parts}),
        (client.abort_multipart_upload, upload),
    ):
        assert refusal(call, **arguments) == "AccessDenied", call
    assert client.get_object(**there)["Body"].read() == b"body"
    assert client.head_object(**there)["ContentLength"] == 4
    client.head_bucket(Bucket=BUCKET)
    client.get_bucket_location(Bucket=BUCKET)
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [BUCKET]
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["there"]
    assert [entry["Key"] for entry in client.list_objects(Bucket=BUCKET)["Contents"]] == ["there"]
    assert len(client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]) == 1
    assert [part["ETag"] for part in client.list_parts(**upload)["Parts"]] == [etag]
    owner.complete_multipart_upload(**upload, MultipartUpload=parts)
    owner.delete_object(**at)


def test_a_refused_upload_is_refused_before_its_body(store: Store, lines: tuple[Line, Line]) -> None:
    """The answer is there while the client has sent no byte of what it announced. Red when authorise stands behind
    the handler, which waits for the body."""
    key = created(store, lines[0], "readonly")
    place = urlsplit(store.endpoint)
    request = AWSRequest(
        method="PUT",
        url=f"{store.endpoint}/{BUCKET}/large",
        headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
    )
    request.context["payload_signing_enabled"] = False
    S3SigV4Auth(Credentials(*key), "s3", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection(place.netloc, timeout=30)
    connection.putrequest("PUT", f"/{BUCKET}/large", skip_accept_encoding=True)
    for name, value in {**dict(request.headers.items()), "Content-Length": str(1 << 30)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["connection"]) == (403, "close")
    assert b"<Code>AccessDenied</Code>" in answer.read()
    connection.close()


def test_readwrite_has_all_of_s3_and_nothing_more(
    store: Store, lines: tuple[Line, Line], client_of: Callable[..., Any]
) -> None:
    """Buckets that it makes belong to the store's one account, whoever made them; the admin API is closed to it."""
    key = created(store, lines[0])
    client = client_of(key)
    client.create_bucket(Bucket="of-a-key")
    client.put_object(Bucket="of-a-key", Key="k", Body=b"x" * 100)
    mine, theirs = client.list_buckets(), store.client().list_buckets()
    assert mine["Owner"] == theirs["Owner"]
    assert {bucket["Name"] for bucket in mine["Buckets"]} == {BUCKET, "of-a-key"}
    store.client().delete_object(Bucket="of-a-key", Key="k")
    client.delete_bucket(Bucket="of-a-key")
    for line in lines:
        answer = line.ask(key, "POST", "/-/admin/v1/keys", {"role": "admin"})
        assert (answer.status, json.loads(answer.body)["type"]) == (403, "urn:trivet:problem:not-an-admin")


def test_an_admin_key_is_as_good_as_root_for_the_admin_api(store: Store, lines: tuple[Line, Line]) -> None:
    """It makes keys and deletes them, but neither itself nor the root key."""
    key = created(store, lines[0], "admin")
    made = json.loads(lines[1].ask(key, "POST", "/-/admin/v1/keys", {"role": "readonly"}).body)
    assert code(lines[0].get(Key(made["access_key"], made["secret_key"]))) == ""
    for name, status in ((made["access_key"], 204), (key.access_key, 409), (store.access_key, 409)):
        assert lines[0].ask(key, "DELETE", f"/-/admin/v1/keys/{name}").status == status


def test_presigned_urls_end_with_their_key(
    store: Store, lines: tuple[Line, Line], client_of: Callable[..., Any]
) -> None:
    """A URL is worth as much as the key that signed it, now and not when it was signed."""
    key = created(store, lines[0], "readonly")
    signing = Config(signature_version="s3v4")
    there = {"Bucket": BUCKET, "Key": "there"}
    url = urlsplit(client_of(key, signing).generate_presigned_url("get_object", there))

    def status() -> int:
        connection = http.client.HTTPConnection(url.netloc, timeout=30)
        connection.request("GET", f"{url.path}?{url.query}")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    assert status() == 200
    admin(store, lines[1], "PATCH", f"/keys/{key.access_key}", {"enabled": False})
    assert status() == 403


def test_the_command_line(store: Store, client_of: Callable[..., Any]) -> None:
    """Everything `trivet key` can do, beside the running store, which obeys at once."""
    made = json.loads(
        command(store, "key", "create", "--role", "readonly", "--description", "[of] a test", "--json")
    )
    name, client = made["access_key"], client_of(Key(made["access_key"], made["secret_key"]))
    there = {"Bucket": BUCKET, "Key": "there"}
    assert client.get_object(**there)["Body"].read() == b"body"
    shown = json.loads(command(store, "key", "show", name, "--json"))
    assert shown == {fact: value for fact, value in made.items() if fact != "secret_key"}
    assert shown in json.loads(command(store, "key", "list", "--json"))
    assert "is readwrite now" in command(store, "key", "role", name, "readwrite")
    client.put_object(Bucket=BUCKET, Key="by-a-key", Body=b"")
    client.delete_object(Bucket=BUCKET, Key="by-a-key")
    assert "is refused from now on" in command(store, "key", "disable", name)
    assert refusal(client.get_object, **there) == "InvalidAccessKeyId"
    table = command(store, "key", "list")
    assert [word in table for word in (name, "disabled", "readwrite", "[of] a test")] == [True] * 4
    assert json.loads(command(store, "key", "enable", name, "--json"))["enabled"] is True
    assert client.get_object(**there)["Body"].read() == b"body"
    assert json.loads(command(store, "key", "delete", name, "--json")) == {
        "access_key": name,
        "deleted": True,
    }
    assert refusal(client.get_object, **there) == "InvalidAccessKeyId"
    assert "no access key" in command(store, "key", "delete", name, fails=True)
    assert "is the root key" in command(store, "key", "disable", store.access_key, fails=True)
    assert "is that of the root key" in command(
        store, "key", "create", "--access-key", store.access_key, fails=True
    )


def test_a_given_secret_and_the_line_to_paste(
    store: Store, tmp_path: Path, client_of: Callable[..., Any]
) -> None:
    """The secret comes out of a file, not from the command line, where others see it; what is printed for pasting is
    a line that a shell takes apart into the same secret."""
    secret = "quoted'secret $HOME`id`\"".replace(" ", "-")
    file = tmp_path / "secret"
    file.write_text(secret + "\n")
    words = ("key", "create", "--access-key", "given", "--secret-file", str(file))
    printed = command(store, *words)
    (line,) = [line for line in printed.splitlines() if "AWS_ACCESS_KEY_ID" in line]
    assert shlex.split(line)[:3] == ["AWS_ACCESS_KEY_ID=given", f"AWS_SECRET_ACCESS_KEY={secret}", "aws"]
    assert client_of(Key("given", secret)).get_object(Bucket=BUCKET, Key="there")["Body"].read() == b"body"
    assert "already" in command(store, *words, fails=True)
    file.write_text("short")
    refused = command(store, "key", "create", "--secret-file", str(file), fails=True)
    assert "the secret must have" in refused
    assert "short" not in refused
    command(store, "key", "delete", "given")


def test_no_secret_lies_in_the_data_directory(store: Store, lines: tuple[Line, Line]) -> None:
    """Neither in the catalog and its log, nor in the store's own log, after the key was used on both fronts and with a
    wrong signature. Red when `create` writes the secret as it is."""
    key = created(store, lines[0])
    assert [code(line.get(key)) for line in lines] == ["", ""]
    wrong = Key(key.access_key, secrets.token_urlsafe(30))
    assert [code(line.get(wrong)) for line in lines] == ["SignatureDoesNotMatch"] * 2
    for path in {store.log_path, *store.data.rglob("*"), *store.catalog_files()}:
        if path.is_file():
            content = path.read_bytes()
            assert key.secret_key.encode() not in content, path
    assert key.access_key.encode() in b"".join(path.read_bytes() for path in store.catalog_files())


def test_a_catalog_beside_another_cluster_secret(new_store: Callable[..., Store]) -> None:
    """Its keys are refused and the log says why, once a front and key; the root key works, and keys that are made
    now do. Red when a secret that can't be unsealed ends in a 500."""
    store = new_store(("--nodes", "3"))
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    store.client().put_object(Bucket=BUCKET, Key="there", Body=b"body")
    line = Line(store)
    old = created(store, line)
    assert code(line.get(old)) == ""
    line.close()
    store.stop()
    (store.data / "cluster.secret").write_text(secrets.token_hex(32) + "\n")
    store.start()
    line = Line(store)
    for _ in range(3):
        assert code(line.get(old)) == "InvalidAccessKeyId"
    assert store.log().count(f"access key {old.access_key} is refused") == 1
    assert code(line.get(root_of(store))) == ""
    new = created(store, line)
    assert code(line.get(new)) == ""
    admin(store, line, "DELETE", f"/keys/{old.access_key}")
    line.close()


def test_the_line_to_paste_reaches_the_running_store(new_store: Callable[..., Store]) -> None:
    """A store that was started with options of its own, and a command that does not have them. Red when the line names
    the address and the region of this process's settings: port 9000, whatever the store listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = new_store(("--port", str(port), "--region", "eu-west-9"))
    store.start()
    said = command(store, "key", "create")
    assert f"--endpoint-url {store.endpoint} --region eu-west-9 s3 ls" in said
