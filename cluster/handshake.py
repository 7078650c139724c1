"""How a connection between a front, steward or CLI and a node begins (S25). Sans-I/O; loaded by nodes.

      client                                          node
        HELLO(nonce, role, versions, cluster, expected node id)  -->
                          <--  HELLO(nonce, "node", versions, cluster, node id, incarnation)
        PROVE(HMAC(secret, "client" + both hellos))    -->
                          <--  PROVE(HMAC(secret, "node" + both hellos))

Both hellos are under both MACs, so nothing in them can be changed or replayed. The client sends requests only
after the node's PROVE. Without TLS the network itself is trusted.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, NamedTuple, TypeVar

import msgspec

from cluster.wire import VERSION_MAX, VERSION_MIN, Frame, Message, Op, Role, Status, encode, encode_frame

NONCE_BYTES: Final = 32


class Hello(Message, frozen=True):
    """First frame in each direction. A client's `node_id` is the node it expects, or empty."""

    nonce: bytes
    role: Role
    version_min: int
    version_max: int
    cluster_id: bytes
    node_id: bytes
    incarnation: int


class Proof(Message, frozen=True):
    """Shows knowledge of the cluster secret."""

    mac: bytes


class Refusal(Message, frozen=True):
    """Sent (status FAILED) before the node closes a connection in the handshake."""

    reason: str
    message: str


class HandshakeFailed(Exception):
    """The connection must be closed. A node sends `reply` first, unless it is empty."""

    reason = "protocol"

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message)
        self.reply = reply


class WrongSecret(HandshakeFailed):
    """The peer does not know our cluster secret."""

    reason = "secret"


class WrongCluster(HandshakeFailed):
    """The peer belongs to another cluster."""

    reason = "cluster"


class WrongNode(HandshakeFailed):
    """Another node answers at this address than the one expected."""

    reason = "node"


class NoCommonVersion(HandshakeFailed):
    """The two releases are too far apart."""

    reason = "version"


_FAILURES: Final = {c.reason: c for c in (WrongSecret, WrongCluster, WrongNode, NoCommonVersion)}


class Peer(NamedTuple):
    """The proven other side."""

    role: Role
    node_id: bytes
    incarnation: int
    version: int


M = TypeVar("M", bound=Message)


def _message(frame: Frame, op: Op, kind: type[M]) -> M:
    if frame.op != op or len(frame.payload):
        raise HandshakeFailed(f"expected {op.name} of the handshake, got op {frame.op}")
    try:
        return msgspec.msgpack.decode(frame.header, type=kind)
    except msgspec.DecodeError as error:
        raise HandshakeFailed(f"malformed {op.name}: {error}") from None


def _mac(secret: bytes, direction: bytes, client_hello: bytes, node_hello: bytes) -> bytes:
    parts = (b"trivet-1", direction, client_hello, node_hello)
    transcript = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return hmac.new(secret, transcript, hashlib.sha256).digest()


def _agree(ours: Hello, theirs: Hello) -> int:
    """The version both speak, after the checks that both sides make. Raises HandshakeFailed."""
    if len(theirs.nonce) != NONCE_BYTES:
        raise HandshakeFailed(f"a nonce of {len(theirs.nonce)} bytes")
    if theirs.nonce == ours.nonce or (theirs.role is Role.NODE) == (ours.role is Role.NODE):
        raise HandshakeFailed("the peer does not play the other part")
    version = min(ours.version_max, theirs.version_max)
    if version < max(ours.version_min, theirs.version_min):
        raise NoCommonVersion(
            f"peer speaks versions {theirs.version_min}-{theirs.version_max}, "
            f"we speak {ours.version_min}-{ours.version_max}"
        )
    if theirs.cluster_id != ours.cluster_id:
        raise WrongCluster("the peer belongs to another cluster")
    return version


class ClientHandshake:
    """The asking side: send `start()`, then give each received frame to `receive` and send what it returns.

    Done when `result` is set. The secret itself never travels.
    """

    def __init__(
        self,
        *,
        secret: bytes,
        role: Role,
        cluster_id: bytes,
        node_id: bytes = b"",
        nonce: bytes | None = None,
        versions: tuple[int, int] = (VERSION_MIN, VERSION_MAX),
    ) -> None:
        self.result: Peer | None = None
        self._secret = secret
        nonce = secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce
        self._hello = Hello(nonce, Role(role), *versions, cluster_id, node_id, 0)
        self._sent = encode(self._hello)
        self._received = b""
        self._pending: Peer | None = None

    def start(self) -> bytes:
        """The first frame."""
        return encode_frame(0, Op.HELLO, Status.OK, 0, self._sent, 0)

    def receive(self, frame: Frame) -> bytes:
        """The frame to send next, b"" when done. Raises a HandshakeFailed that says what is wrong."""
        assert self.result is None, "the handshake is over"
        if frame.status != Status.OK:
            refusal = _message(frame, Op.HELLO, Refusal)
            raise _FAILURES.get(refusal.reason, HandshakeFailed)(f"refused by the node: {refusal.message}")
        if self._pending is None:
            theirs = _message(frame, Op.HELLO, Hello)
            version = _agree(self._hello, theirs)
            if self._hello.node_id not in (b"", theirs.node_id):
                raise WrongNode(
                    f"node {theirs.node_id.hex()} answers where {self._hello.node_id.hex()} is expected"
                )
            self._received = frame.header
            self._pending = Peer(theirs.role, theirs.node_id, theirs.incarnation, version)
            proof = Proof(_mac(self._secret, b"client", self._sent, self._received))
            return encode_frame(0, Op.PROVE, Status.OK, 0, encode(proof), 0)
        proof = _message(frame, Op.PROVE, Proof)
        if not hmac.compare_digest(proof.mac, _mac(self._secret, b"node", self._sent, self._received)):
            raise WrongSecret("the node does not know the cluster secret")
        self.result = self._pending
        return b""


class ServerHandshake:
    """The node's side: give each received frame to `receive` and send what it returns.

    Done when `result` is set; a peer that has not proven itself learns nothing but why it was refused.
    """

    def __init__(
        self,
        *,
        secret: bytes,
        cluster_id: bytes,
        node_id: bytes,
        incarnation: int,
        nonce: bytes | None = None,
        versions: tuple[int, int] = (VERSION_MIN, VERSION_MAX),
    ) -> None:
        self.result: Peer | None = None
        self._secret = secret
        nonce = secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce
        self._hello = Hello(nonce, Role.NODE, *versions, cluster_id, node_id, incarnation)
        self._sent = encode(self._hello)
        self._received = b""
        self._pending: Peer | None = None

    def receive(self, frame: Frame) -> bytes:
        """The frame to send next. Raises HandshakeFailed; send its `reply`, log it, close."""
        assert self.result is None, "the handshake is over"
        try:
            return self._receive(frame)
        except HandshakeFailed as failure:
            refusal = encode(Refusal(failure.reason, str(failure)))
            failure.reply = encode_frame(0, Op.HELLO, Status.FAILED, 0, refusal, 0)
            raise

    def _receive(self, frame: Frame) -> bytes:
        if self._pending is None:
            theirs = _message(frame, Op.HELLO, Hello)
            version = _agree(self._hello, theirs)
            if theirs.node_id not in (b"", self._hello.node_id):
                raise WrongNode(f"this is node {self._hello.node_id.hex()}, not {theirs.node_id.hex()}")
            self._received = frame.header
            self._pending = Peer(theirs.role, b"", theirs.incarnation, version)
            return encode_frame(0, Op.HELLO, Status.OK, 0, self._sent, 0)
        proof = _message(frame, Op.PROVE, Proof)
        if not hmac.compare_digest(proof.mac, _mac(self._secret, b"client", self._received, self._sent)):
            raise WrongSecret("the peer does not know the cluster secret")
        self.result = self._pending
        answer = Proof(_mac(self._secret, b"node", self._received, self._sent))
        return encode_frame(0, Op.PROVE, Status.OK, 0, encode(answer), 0)
