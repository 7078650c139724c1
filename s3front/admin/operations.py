"""Long work: recover a node, drain one, scrub everything. It begins here, and is followed and ended by its id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from catalog.transaction import Transaction
from cluster import operations
from cluster.operations import NoSuchOperation, Operation
from cluster.reports.moments import At, iso_at, iso_at_or_none
from s3front.admin.disks import Directory, check_answers
from s3front.admin.endpoint import Answered, Call, Endpoint
from s3front.admin.nodes import check_disk_of, node_row
from s3front.admin.problem import not_found
from s3front.admin.services import AdminServices

_LISTED_MAX = 1000


class OperationAnswer(msgspec.Struct, frozen=True):
    """Long work. `node`: the name of the node that it is about. `total` and `done` count blobs, each the bytes of an
    object or of a part of one; `total` is 0 while they are not counted yet. `detail`: what it waits for, or how it
    ended. `notes`: what a person should know of what was just changed."""

    id: int
    kind: Literal["recovery", "drain", "scrub"]
    node: str | None
    state: Literal["running", "done", "failed", "cancelled"]
    started_at: At
    finished_at: At | None
    total: int
    done: int
    unit: Literal["blobs"]
    detail: str
    notes: list[str] = []


class OperationsAnswer(msgspec.Struct, frozen=True):
    """The latest first."""

    operations: list[OperationAnswer]


class OperationsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which operations."""

    node: Annotated[str | None, msgspec.Meta(description="only those about the node of this name")] = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=_LISTED_MAX)] = 100


class RecoveryOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`lost`: its data is gone for good, whatever its directory seems to hold: another node takes its place and is
    filled from the others. Without it that happens when the directory is certainly gone; a node that is up is
    compared with the catalog and repaired. `directory`: for the one that takes its place; null: the old one."""

    lost: bool = False
    directory: Directory | None = None


def operation_answer(operation: Operation, notes: list[str] | None = None) -> OperationAnswer:
    """As it is told."""
    return OperationAnswer(
        id=operation.id,
        kind=operation.kind,
        node=operation.node,
        state=operation.state,
        started_at=iso_at(operation.started_ms),
        finished_at=iso_at_or_none(operation.finished_ms),
        total=operation.total,
        done=operation.done,
        unit=operation.unit,
        detail=operation.detail,
        notes=notes or [],
    )


async def _recover(services: AdminServices, call: Call) -> Answered:
    name = call.path["node"]
    order: RecoveryOrder = call.body
    await check_disk_of(services, name)
    directory = None if order.directory is None else Path(order.directory)
    if directory is not None:
        await check_answers(directory)

    def start(tx: Transaction) -> Operation:
        node_row(tx, name)
        return operations.start_recovery(
            tx, services.homes, services.width, name, lost=order.lost, directory=directory
        )

    return await _started(services, start)


async def _drain(services: AdminServices, call: Call) -> Answered:
    name = call.path["node"]

    def start(tx: Transaction) -> Operation:
        node_row(tx, name)
        return operations.start_drain(tx, services.homes, services.width, name)

    return await _started(services, start)


async def _scrub(services: AdminServices, _call: Call) -> Answered:
    return await _started(services, operations.start_scrub)


async def _started(services: AdminServices, start: Callable[[Transaction], Operation]) -> Answered:
    answer = await _changed(services, start)
    return Answered(answer, {"location": f"/-/admin/v1/operations/{answer.id}"})


async def _changed(services: AdminServices, change: Callable[[Transaction], Operation]) -> OperationAnswer:
    operation = await services.front.catalog.write(change)
    notes = await services.settle_nodes() if operation.nodes_changed else []
    return operation_answer(operation, notes)


async def _latest_recovery(services: AdminServices, call: Call) -> OperationAnswer:
    name = call.path["node"]
    found = await services.front.catalog.read(
        lambda reader: operations.listed(reader, _LISTED_MAX, node=name)
    )
    for operation in found:
        if operation.kind == "recovery":
            return operation_answer(operation)
    raise not_found("recovery of the node", name)


async def _list(services: AdminServices, call: Call) -> OperationsAnswer:
    asked: OperationsQuery = call.query
    found = await services.front.catalog.read(
        lambda reader: operations.listed(reader, asked.limit, node=asked.node)
    )
    return OperationsAnswer([operation_answer(operation) for operation in found])


async def _get(services: AdminServices, call: Call) -> OperationAnswer:
    number = int(call.path["id"])
    try:
        return operation_answer(
            await services.front.catalog.read(lambda reader: operations.get(reader, number))
        )
    except NoSuchOperation:
        raise not_found("operation", call.path["id"]) from None


async def _cancel(services: AdminServices, call: Call) -> OperationAnswer:
    number = int(call.path["id"])
    try:
        return await _changed(services, lambda tx: operations.cancel(tx, number))
    except NoSuchOperation:
        raise not_found("operation", call.path["id"]) from None


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "POST",
        "/cluster/recovery/{node}",
        "startRecovery",
        "Have a node hold again, now, what it should; one that lost its data is replaced and filled.",
        _recover,
        OperationAnswer,
        body=RecoveryOrder,
        status=202,
    ),
    Endpoint(
        "GET",
        "/cluster/recovery/{node}",
        "getRecovery",
        "The latest recovery of a node: how far it is, or how it ended.",
        _latest_recovery,
        OperationAnswer,
    ),
    Endpoint(
        "POST",
        "/cluster/drain/{node}",
        "startDrain",
        "Move what a node holds to the others, so that it can be removed.",
        _drain,
        OperationAnswer,
        status=202,
    ),
    Endpoint(
        "POST",
        "/cluster/scrub",
        "startScrub",
        "Read and compare everything on all nodes; what is missing or bad is repaired.",
        _scrub,
        OperationAnswer,
        status=202,
    ),
    Endpoint(
        "GET",
        "/operations",
        "listOperations",
        "Long work of now and before, the latest first.",
        _list,
        OperationsAnswer,
        query=OperationsQuery,
    ),
    Endpoint("GET", "/operations/{id:int}", "getOperation", "How far long work is.", _get, OperationAnswer),
    Endpoint(
        "DELETE",
        "/operations/{id:int}",
        "cancelOperation",
        "End it: a drain is taken back, the repairs of a recovery pause for an hour, a scrub stops.",
        _cancel,
        OperationAnswer,
    ),
)
