"""The load generator against servers that lie, cut, close and keep silent: what it counts, and what it does not do."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections import Counter
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conformance.bench.contents import Contents, sizes
from conformance.bench.generator import CannotBegin, carry_out
from conformance.bench.load import LoadFailed, run_plan
from conformance.bench.plan import Endpoint, Operation, Outcome, Plan, Progress
from tests.bench.rote import Asked, Keeper, answer, serving

SIZES = [0, 1, 4096, 70_000, 3_000_000]


def puts() -> list[Operation]:
    return [Operation("PUT", "PUT", f"/b/{n}", size, n) for n, size in enumerate(SIZES)]


def gets() -> list[Operation]:
    return [Operation("GET", "GET", f"/b/{n}", size, n) for n, size in enumerate(SIZES)]


def outcome_of(
    port: int, operations: list[Operation], *, clients: int = 2, seconds: float = 0.0, wait_s: float = 20.0
) -> Outcome:
    plan = Plan(
        Endpoint("127.0.0.1", port), operations, clients=clients, seconds=seconds, answer_wait_s=wait_s
    )
    return carry_out(plan)


def reasons(outcome: Outcome) -> dict[str, int]:
    return {failure.reason: failure.count for failure in outcome.failures}


@pytest.mark.parametrize("clients", [1, 3])
def test_what_was_stored_comes_back(clients: int) -> None:
    """Each operation once; bytes and latencies counted for each."""
    with serving(Keeper()) as server:
        stored = outcome_of(server.port, puts(), clients=clients)
        read = outcome_of(server.port, gets(), clients=clients)
        assert Counter(asked.method for asked in server.asked) == {"PUT": 5, "GET": 5}
    for outcome in (stored, read):
        assert (outcome.failed, len(outcome.samples)) == (0, len(SIZES))
        assert all(0 < sample.latency_us <= sample.finished_us for sample in outcome.samples)
    assert sorted(sample.sent_bytes for sample in stored.samples) == SIZES
    assert sorted(sample.received_bytes for sample in read.samples) == SIZES


@pytest.mark.parametrize("at", [0, 2_500_000, 2_999_999])
def test_one_wrong_byte_is_seen(at: int) -> None:
    """Red when only the status, the length or the first piece is compared."""
    keeper = Keeper()
    with serving(keeper) as server:
        outcome_of(server.port, puts())
        body = bytearray(keeper.kept["/b/4"])
        body[at] ^= 1
        keeper.kept["/b/4"] = bytes(body)
        read = outcome_of(server.port, gets())
    assert reasons(read) == {"content differs": 1}
    assert read.failures[0].path == "/b/4"
    assert len(read.samples) == 4


def test_another_objects_bytes_are_wrong_and_so_is_another_length() -> None:
    keeper = Keeper()
    with serving(keeper) as server:
        same = [Operation("PUT", "PUT", f"/b/{n}", 100, n) for n in range(3)]
        outcome_of(server.port, same)
        keeper.kept["/b/0"] = keeper.kept["/b/1"]
        keeper.kept["/b/2"] += b"x"
        read = outcome_of(server.port, [Operation("GET", "GET", f"/b/{n}", 100, n) for n in range(3)])
    assert reasons(read) == {"content differs": 1, "content has another length": 1}


def test_a_range_is_that_part_of_the_object() -> None:
    keeper = Keeper()

    def part(asked: Asked) -> bytes:
        if "range" not in asked.headers:
            return keeper(asked)
        first, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
        return answer(206, keeper.kept[asked.path][int(first) : int(last) + 1])

    ask = {"Range": "bytes=1000-1999"}
    with serving(part) as server:
        outcome_of(server.port, puts())
        right = Operation("GET", "GET", "/b/3", 1000, 3, 1000, headers=ask, status=206)
        wrong = Operation("GET", "GET", "/b/3", 1000, 3, 1001, headers=ask, status=206)
        read = outcome_of(server.port, [right, wrong])
    assert (reasons(read), len(read.samples)) == ({"content differs": 1}, 1)


def test_failures_are_counted_by_reason_and_nothing_is_retried() -> None:
    """Every request reaches the server exactly once, whatever becomes of it. Red when a failed one is sent again."""

    def moody(asked: Asked) -> bytes | None:
        number = int(asked.path.rpartition("/")[2])
        if number % 4 == 1:
            return answer(503, b"<Error><Code>SlowDown</Code></Error>")
        if number % 4 == 2:
            return None
        if number % 4 == 3:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf"
        return answer(body=b"")

    operations = [Operation("GET", "GET", f"/b/{n}", 10 * (n % 4 == 3), n) for n in range(12)]
    with serving(moody) as server:
        outcome = outcome_of(server.port, operations)
        assert sorted(int(asked.path[3:]) for asked in server.asked) == list(range(12))
    assert len(outcome.samples) == 3
    assert reasons(outcome) == {
        "answered 503 SlowDown": 3,
        "the connection was closed without an answer": 3,
        "the connection was cut within an answer": 3,
    }


def test_a_server_that_keeps_silent_costs_its_own_requests_only() -> None:
    """The other client goes on meanwhile. Red when nothing looks for late answers."""
    silent = threading.Event()

    def slow(asked: Asked) -> bytes:
        if asked.path == "/b/0":
            silent.wait(20)
        return answer()

    operations = [Operation("GET", "GET", f"/b/{n}", 0, n) for n in range(50)]
    with serving(slow) as server:
        outcome = outcome_of(server.port, operations, wait_s=0.3)
        silent.set()
    assert (reasons(outcome), len(outcome.samples)) == ({"no answer within 0.3 s": 1}, 49)
    assert 0.3 <= outcome.seconds < 5


def test_a_refusal_before_a_large_body_is_there_is_a_failure() -> None:
    """The server answers early and closes; the rest of the body goes nowhere."""
    early = threading.Event()

    def refuse(asked: Asked) -> bytes:
        early.set()
        return answer(403, b"<Error><Code>AccessDenied</Code></Error>", "Connection: close\r\n")

    with serving(refuse) as server:
        outcome = outcome_of(server.port, [Operation("PUT", "PUT", "/b/0", 3_000_000, 0)] * 2, clients=1)
    assert (outcome.failed, len(outcome.samples)) == (2, 0)


def test_marks_are_counted_and_headers_captured() -> None:
    listing = b"<Key>a</Key><Key>b</Key>"

    def behave(asked: Asked) -> bytes:
        if asked.method == "GET":
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (listing[:7], listing[7:]))
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        return answer(headers=f"ETag: {asked.path}\r\n")

    def ask(keys: int) -> Operation:
        return Operation("LIST", "GET", "/b", marks={"<Key>": keys})

    with serving(behave) as server:
        listed = outcome_of(server.port, [ask(2), ask(3)])
        stored = outcome_of(
            server.port, [Operation("PUT", "PUT", f"/b/{n}", 5, n, captures="etag") for n in range(6)]
        )
    assert reasons(listed) == {"the answer has another number of <Key> than was stored": 1}
    assert {each.operation: each.value for each in stored.captured} == {n: f"/b/{n}" for n in range(6)}


def test_a_plan_by_time_goes_round_until_the_time_is_over() -> None:
    told: list[Progress] = []
    with serving(Keeper()) as server:
        outcome_of(server.port, puts()[:3])
        plan = Plan(Endpoint("127.0.0.1", server.port), gets()[:3], clients=2, seconds=0.5)
        outcome = carry_out(plan, told.append)
    assert outcome.failed == 0
    assert len(outcome.samples) > 6
    assert 0.5 <= outcome.seconds < 5
    assert told[0].of == 0
    assert 0 < told[0].done <= len(outcome.samples)


def test_nothing_listens() -> None:
    with serving(Keeper()) as server:
        port = server.port
    with pytest.raises(CannotBegin, match="takes no connection"):
        outcome_of(port, puts())
    with pytest.raises(LoadFailed, match="takes no connection"):
        run_plan(Plan(Endpoint("127.0.0.1", port), puts()))


def test_an_endpoint_that_goes_away_does_not_hang_the_run() -> None:
    """What is left fails one by one, with a moment between."""
    with serving(lambda _: None) as server:
        port = server.port
        outcome = outcome_of(port, gets()[:3], clients=1)
    assert reasons(outcome) == {"the connection was closed without an answer": 3}


def test_a_signed_plan_through_a_process_of_its_own() -> None:
    with serving(Keeper()) as server:
        endpoint = Endpoint("127.0.0.1", server.port, access_key="AK", secret_key="hush-hush")
        told: list[Progress] = []
        assert run_plan(Plan(endpoint, puts(), clients=2), told.append).failed == 0
        assert run_plan(Plan(endpoint, gets(), clients=2)).failed == 0
        assert all("X-Amz-Credential=AK%2F" in asked.query for asked in server.asked)
        assert not any("hush" in asked.query for asked in server.asked)
    assert "hush" not in repr(endpoint)


def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies larger than a TLS record both ways, the certificate checked. Red when a record that is not whole yet
    counts as a broken connection, and when no certificate is asked for."""
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(Keeper(), tls=context) as server:
        endpoint = Endpoint("127.0.0.1", server.port, tls=True)
        with pytest.raises(CannotBegin, match="certificate"):
            carry_out(Plan(endpoint, puts()))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        for operations in (puts(), gets()):
            outcome = carry_out(Plan(endpoint, operations, clients=2, answer_wait_s=10))
            assert (outcome.failures, len(outcome.samples)) == ([], len(SIZES))


def _certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_contents_differ_from_object_to_object_and_are_the_same_each_time() -> None:
    """Red when the offset of an object is the same as its neighbour's, or depends on how long the text is."""
    short, long = Contents(7, 100), Contents(7, 5_000_000)
    slices = [bytes(short.slice(n, 0, 32)) for n in range(5000)]
    assert len(set(slices)) == 5000
    assert slices == [bytes(long.slice(n, 0, 32)) for n in range(5000)]
    assert bytes(long.slice(3, 4_400_000, 600_000)) == bytes(long.slice(3, 0, 5_000_000))[4_400_000:]
    assert bytes(Contents(8, 100).slice(0, 0, 32)) != slices[0]


def test_sizes_come_from_the_seed_and_keep_to_the_range() -> None:
    drawn = sizes(1, 2000, 1000, 10_000)
    assert drawn == sizes(1, 2000, 1000, 10_000) != sizes(2, 2000, 1000, 10_000)
    assert 1000 <= min(drawn) < 1200
    assert 9800 < max(drawn) <= 10_000
