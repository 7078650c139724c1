"""Who wants to hear of group commits hears of each that wrote, with its requests and its time."""

import asyncio

from catalog import buckets
from catalog.engine import Catalog
from catalog.statement import Reader


async def test_each_commit_is_told_with_its_requests(catalog: Catalog) -> None:
    """Red when a batch is told before it is durable, request by request, or without having written anything."""
    heard: list[tuple[int, float]] = []
    catalog.tell_commits(lambda writes, seconds: heard.append((writes, seconds)))

    async def create(name: str) -> None:
        await catalog.write(lambda tx: buckets.create(tx, name=name, owner="owner", region="region"))

    await asyncio.gather(*(create(f"bucket-{number}") for number in range(5)))
    assert [writes for writes, _ in heard] == [5]
    await create("one-more")
    assert [writes for writes, _ in heard] == [5, 1]
    assert all(0 < seconds < 10 for _, seconds in heard)

    def only_reads(reader: Reader) -> None:
        assert buckets.list_buckets(reader, after="", limit=1)

    await catalog.write(only_reads)
    assert len(heard) == 2


async def test_writes_that_wait_are_counted_until_they_are_taken_up(catalog: Catalog) -> None:
    """Red when the batch under way counts too: a busy front would look like one that can't keep up."""
    writes = [
        asyncio.ensure_future(
            catalog.write(lambda tx, n=number: buckets.create(tx, name=f"b-{n}", owner="o", region="r"))  # type: ignore[misc]
        )
        for number in range(3)
    ]
    assert catalog.waiting_writes == 0
    await asyncio.sleep(0)
    assert catalog.waiting_writes == 3
    await asyncio.sleep(0)
    assert not any(write.done() for write in writes)
    assert catalog.waiting_writes == 0
    await asyncio.gather(*writes)
    assert catalog.waiting_writes == 0
