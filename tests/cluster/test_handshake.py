"""The handshake binds all it says, and a peer that can't prove itself learns nothing (S25)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.handshake import (
    NONCE_BYTES,
    ClientHandshake,
    HandshakeFailed,
    Hello,
    NoCommonVersion,
    Peer,
    ServerHandshake,
    WrongCluster,
    WrongNode,
    WrongSecret,
)
from cluster.wire import (
    HANDSHAKE_FRAME_BYTES,
    VERSION_MAX,
    Frame,
    FrameDecoder,
    Op,
    Role,
    encode,
    encode_frame,
)
from tests.cluster.test_wire import feed

CLUSTER = b"c" * 16
NODE = b"n" * 16
SECRET = b"s" * 32


def client(**changes: object) -> ClientHandshake:
    arguments: dict[str, object] = {"secret": SECRET, "role": Role.FRONT, "cluster_id": CLUSTER}
    return ClientHandshake(**(arguments | changes))  # type: ignore[arg-type]


def server(**changes: object) -> ServerHandshake:
    arguments: dict[str, object] = {
        "secret": SECRET,
        "cluster_id": CLUSTER,
        "node_id": NODE,
        "incarnation": 77,
    }
    return ServerHandshake(**(arguments | changes))  # type: ignore[arg-type]


def frame_of(data: bytes) -> Frame:
    (frame,) = feed(FrameDecoder(HANDSHAKE_FRAME_BYTES), data, [])
    return frame


def shake(
    ours: ClientHandshake,
    theirs: ServerHandshake,
    tamper: Callable[[int, bytes], bytes] = lambda _, data: data,
) -> None:
    """Run both sides; `tamper` may change the n-th frame on its way. A refusal reaches the client."""
    to_server = tamper(0, ours.start())
    step = 1
    while ours.result is None:
        try:
            to_client = theirs.receive(frame_of(to_server))
        except HandshakeFailed as failure:
            ours.receive(frame_of(failure.reply))
            raise
        to_server = ours.receive(frame_of(tamper(step, to_client)))
        if to_server:
            to_server = tamper(step + 1, to_server)
        step += 2


def test_handshake_tells_each_side_the_other() -> None:
    ours, theirs = client(), server()
    shake(ours, theirs)
    assert ours.result == Peer(Role.NODE, NODE, 77, VERSION_MAX)
    assert theirs.result == Peer(Role.FRONT, b"", 0, VERSION_MAX)
    ours = client(node_id=NODE, role=Role.STEWARD)
    shake(ours, server())
    assert ours.result is not None


@pytest.mark.parametrize(
    ("ours", "theirs", "error"),
    [
        (client(secret=b"x" * 32), server(), WrongSecret),
        (client(cluster_id=b"x" * 16), server(), WrongCluster),
        (client(node_id=b"x" * 16), server(), WrongNode),
        (client(versions=(VERSION_MAX + 1, VERSION_MAX + 2)), server(), NoCommonVersion),
        (client(), server(versions=(VERSION_MAX + 1, VERSION_MAX + 1)), NoCommonVersion),
        (client(role=Role.NODE), server(), HandshakeFailed),
        (client(nonce=b"short"), server(), HandshakeFailed),
        (client(nonce=b"1" * NONCE_BYTES), server(nonce=b"1" * NONCE_BYTES), HandshakeFailed),
    ],
)
def test_s25_each_mismatch_has_its_error(
    ours: ClientHandshake, theirs: ServerHandshake, error: type[HandshakeFailed]
) -> None:
    """Broken once: dropped the MAC comparison in ServerHandshake; a wrong secret was let in."""
    with pytest.raises(error) as caught:
        shake(ours, theirs)
    assert type(caught.value) is error
    assert theirs.result is None
    assert ours.result is None


def test_s25_a_newer_peer_agrees_on_the_older_version() -> None:
    ours = client(versions=(1, 2))
    shake(ours, server(versions=(1, 1)))
    assert ours.result is not None
    assert ours.result.version == 1


def rewrite(data: bytes, **changes: object) -> bytes:
    hello = msgspec.msgpack.decode(frame_of(data).header, type=Hello)
    return encode_frame(0, Op.HELLO, 0, 0, encode(msgspec.structs.replace(hello, **changes)), 0)


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (0, {"role": Role.STEWARD}),
        (0, {"nonce": b"z" * NONCE_BYTES}),
        (0, {"version_max": 9}),
        (0, {"incarnation": 5}),
        (1, {"incarnation": 78}),
        (1, {"node_id": b"m" * 16}),
        (1, {"nonce": b"z" * NONCE_BYTES}),
        (1, {"version_max": 9}),
    ],
)
def test_s25_both_hellos_are_under_the_mac(step: int, changes: dict[str, object]) -> None:
    """A man in the middle changes one field. Broken once: left the node's hello out of the transcript."""
    ours, theirs = client(), server()
    with pytest.raises(WrongSecret):
        shake(ours, theirs, lambda at, data: rewrite(data, **changes) if at == step else data)
    assert ours.result is None
    assert theirs.result is None


def test_s25_a_node_without_the_secret_is_noticed_by_the_client() -> None:
    """It accepts any proof, but can't make its own; reflecting the client's proof does not help."""
    ours = client()
    hello = frame_of(ours.start())
    theirs = server(secret=b"x" * 32)
    proof = ours.receive(frame_of(theirs.receive(hello)))
    with pytest.raises(WrongSecret):
        ours.receive(frame_of(proof))


def test_s25_a_recorded_proof_is_worth_nothing_later() -> None:
    ours = client()
    first = server()
    proof = ours.receive(frame_of(first.receive(frame_of(ours.start()))))
    second = server()
    second.receive(frame_of(client(nonce=b"r" * NONCE_BYTES).start()))
    with pytest.raises(WrongSecret):
        second.receive(frame_of(proof))


@given(st.binary(max_size=200), st.integers(0, 255), st.booleans())
def test_garbage_in_the_handshake_is_refused(header: bytes, op: int, begun: bool) -> None:
    theirs = server()
    if begun:
        theirs.receive(frame_of(client().start()))
    with pytest.raises(HandshakeFailed) as caught:
        theirs.receive(Frame(0, op, 0, 0, header, b""))
    assert len(caught.value.reply) < HANDSHAKE_FRAME_BYTES
    assert theirs.result is None
