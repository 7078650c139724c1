"""One stripe that met trouble on its way to the nodes: an acknowledgement late, refused or lost (S9, S10).

The usual case never comes here: the writer sends k+m shards, all are acknowledged, done. Else `StripeWrite`
goes on from what was sent and puts copies on other nodes, until what is acknowledged survives the loss of
any one node.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cluster import shard_io, wire
from cluster.errors import CallLate, DeadlineExceeded, LinkDown, LinkError, Unprotected
from cluster.placement import Copy, missing_copies, place, survives_any_loss
from cluster.topology import NodeSet
from codec.block import Buffer
from codec.erasure import ErasureCode

SYNC_BYTES_MAX: Final = 32 << 20  # S1
_PAUSE_S: Final = 0.05  # between two looks at nodes that were not there
_LOOK_S: Final = 0.25  # the same while replies are awaited

Sent = tuple[Copy, "asyncio.Future[wire.Frame]"]
"""A copy under way, and its reply."""


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """`window_stripes`: stripes of one blob in flight. `sync_bytes`: shard bytes a node acknowledged before
    a sync is asked for; with what is in flight it stays below S1's limit. Times in seconds.

    A blob of one stripe waits for each acknowledgement as long as `NodeSet.write_patience_s` says; longer ones
    at least `stream_late_s`, for a sync at least `sync_late_s`, because more than a request hangs on it: the
    node is left out of what follows. `rescue_s_max`: how long an upload waits for nodes to come back when
    too few are left.
    """

    window_stripes: int = 4
    sync_bytes: int = 16 << 20
    put_deadline_s: float = 10.0
    sync_deadline_s: float = 30.0
    stream_late_s: float = 0.25
    sync_late_s: float = 2.0
    rescue_s_max: float = 3.0

    def __post_init__(self) -> None:
        if self.window_stripes < 1 or not 0 < self.sync_bytes <= SYNC_BYTES_MAX // 2:
            raise ValueError("a window of at least one stripe, a sync at least every 16 MiB")


class HedgeAllowance:
    """Bounds the copies made only because an acknowledgement is late.

    When one node of many freezes, a few requests are caught and the next ones avoid it: the stock covers
    them. When all nodes are slow, because they share a disk or the machine is short of breath, copies
    would only add to the load and make more of them late. Then the stock runs out, and from there on only a
    small share of what is written may be written twice; the other requests wait for their nodes. A node
    that failed or is gone is replaced whatever the stock: waiting would not help.
    """

    STOCK_BYTES: Final = 64 << 20
    SHARE: Final = 0.1
    _COPY_BYTES: Final = 64 << 10  # what a copy costs beside its bytes, in bytes

    __slots__ = ("left_bytes",)

    def __init__(self) -> None:
        self.left_bytes: float = self.STOCK_BYTES

    def earn(self, copies: int, nbytes: int) -> None:
        """So many copies with so many bytes in all were written in the ordinary way."""
        if self.left_bytes < self.STOCK_BYTES:
            earned = self.SHARE * (copies * self._COPY_BYTES + nbytes)
            self.left_bytes = min(self.left_bytes + earned, self.STOCK_BYTES)

    def spend(self, copies: int, nbytes: int) -> bool:
        """True, and paid for, when so many more copies may be written."""
        cost = copies * self._COPY_BYTES + nbytes
        if cost > self.left_bytes:
            return False
        self.left_bytes -= cost
        return True


class WriteContext(NamedTuple):
    """What all writes of a `BlobWriter` share."""

    nodes: NodeSet
    code: ErasureCode
    settings: WriterSettings
    hedges: HedgeAllowance


class Stripe(NamedTuple):
    """A stripe in memory. `sync`: each copy is acknowledged only when it is durable."""

    blob_id: bytes
    number: int
    length: int
    shards: Sequence[Buffer]
    sync: bool

    def send(self, context: WriteContext, copy: Copy, late_s: float) -> Sent:
        """Send one copy; raises LinkDown or LinkBusy at once."""
        shard, node = copy
        link = context.nodes.link(node)
        if link is None:
            raise LinkDown(f"node {node} was removed")
        reply = shard_io.put(
            link,
            self.blob_id,
            self.number,
            shard,
            self.shards[shard],
            context.code.geometry,
            self.length,
            sync=self.sync,
            deadline_s=context.settings.put_deadline_s,
            late_s=late_s,
        )
        return copy, reply


class StripeWrite:
    """Gets one stripe onto enough nodes, starting from what was sent. Lives for one stripe.

    `acked`: acknowledged copies. `attempted`: all that may lie anywhere. `late`: by node, a call that it
    still owes; `failed`: nodes that refused, were lost, or did not answer within the deadline.
    """

    def __init__(
        self,
        context: WriteContext,
        stripe: Stripe,
        sent: Iterable[Sent],
        *,
        held: Iterable[Copy] = (),
        late_s_min: float = 0.0,
    ) -> None:
        """`held`: copies that are on nodes already, as good as acknowledged ones. `late_s_min`: patience with
        further copies."""
        self.acked: dict[Copy, wire.Appended] = {}
        self.late: dict[int, asyncio.Future[wire.Frame]] = {}
        self.failed: set[int] = set()
        self._context = context
        self._stripe = stripe
        self._held = frozenset(held)
        self._late_s_min = late_s_min
        self._flying = {reply: copy for copy, reply in sent}
        self._silent: set[int] = set()
        self.attempted = set(self._flying.values())

    async def run(self, patience_s: float = 0.0) -> None:
        """Returns when the copies that are acknowledged survive the loss of any one node that answers.

        Calls that are not late are waited for, unless all shards are there already: so the layout becomes
        standard where it can. Raises Unprotected when no set of nodes gives that; `patience_s` is how long to
        wait for other nodes first.
        """
        clock = asyncio.get_running_loop().time
        until_s = clock() + patience_s
        while True:
            self._land()
            while self._launch():
                pass
            if self._protected():
                return
            if self._flying:
                await asyncio.wait(self._flying, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            elif clock() < until_s:
                await asyncio.sleep(_PAUSE_S)
                self.failed.clear()
                self._silent.clear()
            else:
                raise Unprotected(f"stripe {self._stripe.number}: {len(self.acked)} copies are acknowledged")

    def _land(self) -> None:
        """Take in calls that have ended; late ones fly on."""
        while done := [reply for reply in self._flying if reply.done()]:
            for reply in done:
                self._land_one(self._flying.pop(reply), reply)

    def _land_one(self, copy: Copy, reply: "asyncio.Future[wire.Frame]") -> None:
        node = copy[1]
        try:
            self.acked[copy] = wire.decode_appended(reply.result().header)
        except CallLate as late:
            self._flying[late.reply] = copy
            self.late[node] = late.reply
            return
        except DeadlineExceeded:
            self.failed.add(node)
            self._silent.add(node)
        except LinkError:
            self.failed.add(node)
        if self.late.get(node) is reply:
            del self.late[node]

    def _present(self) -> set[Copy]:
        """Copies on nodes that answer: not lost, and owing nothing."""
        link = self._context.nodes.link
        copies = self._held | self.acked.keys()
        away = {
            node for _, node in copies if node in self.late or (to := link(node)) is None or not to.up
        } | self._silent
        return {copy for copy in copies if copy[1] not in away}

    def _protected(self) -> bool:
        present = self._present()
        if not survives_any_loss(self._context.code.geometry.k, present, {node for _, node in present}):
            return False
        awaited = any(node not in self.late for _, node in self._flying.values())
        return not awaited or len({shard for shard, _ in present}) == self._context.code.geometry.width

    def _launch(self) -> bool:
        """Send what is missing. True when a node refused at once and others must be looked for."""
        targets = self._targets()
        promised = self._present() | {c for c in self._flying.values() if c[1] not in self.late}
        copies = self._wanted(promised, targets)
        if not copies or not self._may_hedge(copies):
            return False
        patience_s = self._context.nodes.write_patience_s
        refused = False
        for copy in copies:
            try:
                late_s = max(patience_s(copy[1]), self._late_s_min)
                sent, reply = self._stripe.send(self._context, copy, late_s)
            except LinkError:
                self.failed.add(copy[1])
                refused = True
            else:
                self.attempted.add(sent)
                self._flying[reply] = sent
        return refused

    def _targets(self) -> list[int]:
        """Nodes that may get copies, in the order in which `place` would take them."""
        nodes = self._context.nodes.for_write(self._context.code.geometry.width)
        ranked = place(self._stripe.blob_id, nodes, len(nodes))
        return [node for node in ranked if node not in self.late and node not in self.failed]

    def _wanted(self, promised: set[Copy], targets: list[int]) -> list[Copy]:
        """What to send beside what is promised: the standard layout where nodes remain, else what S9 needs."""
        k, m = self._context.code.geometry.k, self._context.code.geometry.m
        holders = {node for _, node in promised}
        fresh = [node for node in targets if node not in holders]
        left = sorted(set(range(k + m)) - {shard for shard, _ in promised})
        spread = list(zip(left, fresh, strict=False)) if len(left) <= len(fresh) else []
        alive = targets + sorted(holders - set(targets))
        try:
            return spread + missing_copies(k, m, promised.union(spread), alive, targets)
        except ValueError:
            return []  # what is under way must do, or more nodes must come

    def _may_hedge(self, copies: list[Copy]) -> bool:
        """Whether copies may be made although nothing but lateness calls for them."""
        if self.failed or not self.late:
            return True
        shard_bytes = len(self._stripe.shards[0])
        return self._context.hedges.spend(len(copies), len(copies) * shard_bytes)
