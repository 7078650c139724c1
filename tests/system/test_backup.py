"""The catalog's backup and its way back, on a real store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store, embedded_only, until
from tests.system.test_membership import await_whole, lose, states, trivet


@embedded_only
def test_s18_a_catalog_is_backed_up_while_written_to_and_restored(new_store: Callable[..., Store]) -> None:
    """What the backup knows reads back, the nodes obey the restored catalog's steward, and what it does not know
    stays on the nodes.
    """
    store = new_store(("--fronts", "1", "--grace-s", "1"))
    store.start()
    client = store.client()
    client.create_bucket(Bucket="kept")
    for number in range(20):
        client.put_object(Bucket="kept", Key=f"before-{number}", Body=b"before %d" % number)
    backup = store.data.parent / "backup"
    trivet(store, "catalog", "backup", str(backup))
    client.put_object(Bucket="kept", Key="after", Body=b"after")
    store.stop()
    for path in store.data.glob("catalog.*"):
        path.unlink()
    trivet(store, "catalog", "restore", str(backup))
    store.start()
    client = store.client()
    for number in range(20):
        assert (
            client.get_object(Bucket="kept", Key=f"before-{number}")["Body"].read() == b"before %d" % number
        )
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket="kept", Key="after")
    client.delete_object(Bucket="kept", Key="before-0")
    until(lambda: trivet(store, "repair", "status")["garbage_blobs"] == 0, "the deleted object is collected")
    kinds = [event["kind"] for event in trivet(store, "events")]
    assert "fence-refused" not in kinds
    trivet(store, "orphans", "allow")
    assert trivet(store, "events")[-1]["kind"] == "orphans-allowed"


@embedded_only
@pytest.mark.long
@pytest.mark.timeout(120)
def test_s18_nodes_of_after_the_backup_come_back_with_their_data(new_store: Callable[..., Store]) -> None:
    """Two of three nodes were replaced since the backup: without what lies on the new ones all is lost. Red when
    `replace` gives them another id, or refuses their directories.
    """
    store = new_store(("--fronts", "1"))
    store.start()
    client = store.client()
    client.create_bucket(Bucket="kept")
    for number in range(10):
        client.put_object(Bucket="kept", Key=f"{number}", Body=b"body %d" % number)
    backup = store.data.parent / "backup"
    trivet(store, "catalog", "backup", str(backup))
    for name in ("node-2", "node-3"):
        lose(store, name)
        trivet(store, "node", "replace", name)
        until(lambda name=name: states(store)[name] == "up", "the replacement is up")  # type: ignore[misc]
        await_whole(store)
    store.stop()
    for path in store.data.glob("catalog.*"):
        path.unlink()
    trivet(store, "catalog", "restore", str(backup))
    for name in ("node-2", "node-3"):  # as it is, the store refuses to start: too few nodes are known
        assert "next start" in trivet(store, "node", "replace", name)["notes"][0]
    store.start()
    until(lambda: set(states(store).values()) == {"up"}, "they are back")
    await_whole(store)  # until then the layouts name the nodes of before
    client = store.client()
    for number in range(10):
        assert client.get_object(Bucket="kept", Key=f"{number}")["Body"].read() == b"body %d" % number
