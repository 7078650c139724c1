"""What can go wrong between a front and the nodes. No HTTP here; s3front translates."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future

    from cluster.receipt import Receipt
    from cluster.wire import Frame


class ClusterError(Exception):
    """Any fault of this package's front side."""


class BudgetFull(ClusterError):
    """Too many requests wait for memory already (P8): answer 503 SlowDown."""


class LinkError(ClusterError):
    """One call to one node did not succeed."""


class LinkDown(LinkError):
    """No connection to the node, or it was lost before the reply: the call may or may not have happened."""


class LinkBusy(LinkError):
    """More bytes are outstanding on this link than its cap allows: the node counts as late at once (S10)."""


class DeadlineExceeded(LinkError):
    """No reply within the call's deadline: the call may or may not have happened."""


class CallLate(LinkError):
    """No reply within the call's hedge delay. The call goes on: `reply` is the future of its outcome."""

    def __init__(self, reply: "Future[Frame]") -> None:
        super().__init__("no reply within the hedge delay")
        self.reply = reply


class RemoteFault(LinkError):
    """The node answered, and said no: `status` is a `wire.Status`, `message` its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"status {status}: {message}")
        self.status = status
        self.message = message


class NotEnoughNodes(ClusterError):
    """Fewer nodes can be written to than a stripe needs to survive the loss of one: answer 503."""

    def __init__(self, alive: int, needed: int) -> None:
        super().__init__(f"{alive} nodes are alive, {needed} are needed")
        self.alive = alive
        self.needed = needed


class Unprotected(ClusterError):
    """No set of nodes that answer holds a stripe such that it survives the loss of any one (P2, S9)."""


class WriteFailed(ClusterError):
    """A blob could not be made durable such that it survives the loss of any one node: answer 503.

    `receipt` names every copy that may lie on a node, for the garbage queue (S11): a blob that no row refers
    to. None when nothing was sent.
    """

    def __init__(self, reason: str, receipt: "Receipt | None" = None) -> None:
        super().__init__(reason)
        self.receipt = receipt


class BlobUnreadable(ClusterError):
    """Fewer than k verified shards of a stripe can be had now, wherever the catalog says they lie (P3)."""

    def __init__(self, blob_id: bytes, stripe: int, reason: str) -> None:
        super().__init__(f"blob {blob_id.hex()} stripe {stripe}: {reason}")
        self.blob_id = blob_id
        self.stripe = stripe
