"""The admin API of a running store with two fronts: every endpoint, its answers as its own document says."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.system.admin_client import BASE, AdminClient, ask
from tests.system.conftest import ROOT, Store, until

GRACE = {"TRIVET_GRACE_S": "1"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Four nodes, so that one may go, and two fronts that answer in turn."""
    made = Store(tmp_path_factory.mktemp("admin"), ("--nodes", "4", "--fronts", "2"), GRACE)
    made.start()
    s3 = made.client()
    s3.create_bucket(Bucket="held")
    for number in range(8):
        s3.put_object(Bucket="held", Key=f"a folder/{number}", Body=bytes([number]) * 5000)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def admin(running: Store) -> AdminClient:
    return AdminClient(running)


def test_the_document_is_served_unsigned_and_is_valid(admin: AdminClient) -> None:
    """The same on both fronts."""
    validate(admin.document)
    assert ask(admin.store, "GET", "/-/admin/openapi.json", signed=False).body == admin.document
    assert ask(admin.store, "GET", "/-/admin/v1/settings", signed=False).status == 401


def test_every_endpoint_answers_as_the_document_says(admin: AdminClient, tmp_path: Path) -> None:
    """Each operation of the document is called at least once, and its answer checked against its own schema. Red for
    an endpoint that nobody calls here, and for an answer with a field of another type than promised.
    """
    _look_at_the_store(admin)
    _look_at_buckets_and_objects(admin)
    _make_keys(admin)
    _read_metrics(admin)
    _change_nodes(admin, tmp_path)
    _do_long_work(admin)
    _read_events(admin)
    assert admin.called == admin.operation_ids


def _lately(admin: AdminClient) -> set[str]:
    return {each["operation"] for each in admin.call("GET", "/cluster/stats")["last_minute"]}


def _look_at_the_store(admin: AdminClient) -> None:
    well = {"status": "healthy", "reasons": []}
    until(lambda: admin.call("GET", "/cluster/health") == well, "the store is well")
    until(lambda: "PutObject" in _lately(admin), "the figures of both fronts are in the history")
    stats = admin.call("GET", "/cluster/stats")
    assert (stats["buckets"], stats["objects"], stats["logical_bytes"]) == (1, 8, 40_000)
    assert stats["nodes"] == {"up": 4}
    assert stats["codes"] == [{"k": 2, "m": 1}]
    assert stats["redundancy"]["whole"]
    listed = admin.call("GET", "/cluster/nodes")["nodes"]
    assert [node["name"] for node in listed] == ["node-1", "node-2", "node-3", "node-4"]
    assert all(node["answers"] and node["figures"]["sync_us"]["count"] > 0 for node in listed)
    assert admin.call("GET", "/cluster/nodes/node-2")["directory"] == str(admin.store.data / "node-2")
    settings = {each["env"]: each["value"] for each in admin.call("GET", "/settings")["settings"]}
    assert settings["TRIVET_GRACE_S"] == "1"
    assert admin.store.secret_key not in json.dumps(settings)


def _look_at_buckets_and_objects(admin: AdminClient) -> None:
    assert [bucket["name"] for bucket in admin.call("GET", "/buckets")["buckets"]] == ["held"]
    assert admin.call("GET", "/buckets/held")["bytes"] == 40_000
    assert admin.call("PUT", "/buckets/held/quota", {"quota_bytes": 1 << 30})["quota_bytes"] == 1 << 30
    found = admin.call("GET", "/objects/held/a%20folder/3?verify=true")
    blob = json.dumps(found).partition('"blob": "')[2].partition('"')[0]
    admin.call("GET", f"/blobs/{blob}")


def _read_events(admin: AdminClient) -> None:
    latest = admin.call("GET", "/cluster/events?limit=2")
    numbers = [each["number"] for each in latest["events"]]
    assert numbers == sorted(numbers, reverse=True)
    assert latest["next_before"] == numbers[-1]
    drains = admin.call("GET", f"/cluster/events?before={numbers[-1]}&kind=drain-started")["events"]
    assert drains
    assert all(each["kind"] == "drain-started" and each["number"] < numbers[-1] for each in drains)
    of_one = admin.call("GET", "/cluster/events?node=node-5")["events"]
    assert "node-added" in {each["kind"] for each in of_one}, "also now that it is removed"
    assert {each["node"].partition("#")[0] for each in of_one} == {"node-5"}
    after = admin.call("GET", f"/cluster/events?after={numbers[1]}")
    assert ([each["number"] for each in after["events"]], after["next_before"]) == (numbers[:1], None)


def _make_keys(admin: AdminClient) -> None:
    made = admin.call("POST", "/keys", {"role": "admin", "description": "of a test"})
    name = made["access_key"]
    other = (name, made["secret_key"])
    assert ask(admin.store, "GET", "/-/admin/v1/settings", key=other).status == 200
    assert name in [key["access_key"] for key in admin.call("GET", "/keys")["keys"]]
    assert admin.call("PATCH", f"/keys/{name}", {"role": "readonly"})["role"] == "readonly"
    assert ask(admin.store, "GET", "/-/admin/v1/settings", key=other).status == 403
    assert admin.call("GET", f"/keys/{name}")["role"] == "readonly"
    admin.call("DELETE", f"/keys/{name}")
    assert ask(admin.store, "GET", "/-/admin/v1/settings", key=other).status == 401


def _read_metrics(admin: AdminClient) -> None:
    def puts() -> int:
        told = admin.call("GET", "/metrics/summary?from=0")["operations"]
        return sum(each["count"] for each in told if each["operation"] == "PutObject")

    until(lambda: puts() == 8, "both fronts have handed in what they did")
    rows = admin.call("GET", "/metrics/export")
    assert sum(row["count"] for row in rows if row["operation"] == "PutObject") == 8
    text = admin.call("GET", "/metrics/export?format=csv&to=2100-01-01")
    table = list(csv.DictReader(io.StringIO(text)))
    assert sum(int(row["count"]) for row in table if row["operation"] == "PutObject") == 8
    assert table[0]["minute_at"] == rows[0]["minute_at"]
    assert admin.call("GET", "/metrics/export?to=1000") == []
    admin.call("POST", "/metrics/clear")
    assert puts() == 0
    summary = admin.call("GET", "/metrics/summary")
    assert summary["incidents"]["failures"] == 0


def _change_nodes(admin: AdminClient, folder: Path) -> None:
    added = admin.call("POST", "/cluster/nodes", {"directory": str(folder / "disk"), "region": "test"})
    assert (added["name"], added["region"], added["notes"]) == ("node-5", "test", [])
    until(lambda: admin.call("GET", "/cluster/nodes/node-5")["state"] == "up", "the new node is up")
    drain = admin.call("POST", "/cluster/drain/node-5")
    assert (drain["kind"], drain["node"]) == ("drain", "node-5")
    admin.wait_for_operation(drain["id"])
    until(lambda: admin.call("GET", "/cluster/nodes/node-5")["empty"], "nothing lies on it")
    assert admin.call("DELETE", "/cluster/nodes/node-5")["state"] == "removed"
    admin.call("GET", "/cluster/nodes/node-5", expected=404)


def _do_long_work(admin: AdminClient) -> None:
    scrub = admin.call("POST", "/cluster/scrub")
    recovery = admin.call("POST", "/cluster/recovery/node-1")
    assert admin.call("GET", "/cluster/recovery/node-1")["id"] == recovery["id"]
    admin.wait_for_operation(recovery["id"])
    numbers = [each["id"] for each in admin.call("GET", "/operations?limit=5")["operations"]]
    assert numbers == sorted(numbers, reverse=True)
    assert {scrub["id"], recovery["id"]} <= set(numbers)
    _cancel_a_drain(admin)


def _cancel_a_drain(admin: AdminClient) -> None:
    """While the steward stands still: it would have moved these few objects before anybody can say stop."""
    number = 0

    def cancelled() -> bool:
        nonlocal number
        steward = admin.store.pids()["steward"]
        os.kill(steward, signal.SIGSTOP)
        try:
            drain = ask(admin.store, "POST", BASE + "/cluster/drain/node-4")
            if drain.status == 503:  # it was stopped in the middle of a write, which holds up all others
                return False
            number = drain.body["id"]
            assert admin.call("GET", "/cluster/nodes/node-4")["state"] == "draining"
            assert admin.call("DELETE", f"/operations/{number}")["state"] == "cancelled"
        finally:
            os.kill(steward, signal.SIGCONT)
        return True

    until(cancelled, "the drain could be begun and cancelled")
    assert admin.call("GET", "/cluster/nodes/node-4")["state"] == "up"
    admin.call("DELETE", f"/operations/{number}", expected=409)


@pytest.mark.parametrize(
    ("method", "path", "body", "refused"),
    [
        ("GET", "/cluster/events?limit=5000", None, (400, "query.limit")),
        ("GET", "/cluster/nodes/nobody", None, (404, "")),
        ("GET", "/operations/999999", None, (404, "")),
        ("GET", "/operations/x", None, (400, "path.id")),
        ("DELETE", "/operations/999999", None, (404, "")),
        ("GET", "/cluster/recovery/node-3", None, (404, "")),
        ("GET", "/metrics/summary?from=soon", None, (400, "query.from")),
        ("GET", "/metrics/summary?from=2000&to=1000", None, (400, "query.to")),
        ("GET", "/metrics/export?format=xml", None, (400, "query.format")),
        ("POST", "/cluster/nodes", {"directory": "relative"}, (400, "body.directory")),
        ("POST", "/cluster/nodes", {"directory": "/a\0b"}, (400, "body.directory")),
        ("POST", "/cluster/nodes", {}, (400, "body.directory")),
        ("POST", "/cluster/nodes", {"directory": "/proc/self"}, (409, "")),
        ("POST", "/cluster/recovery/nobody", None, (404, "")),
        ("POST", "/cluster/recovery/node-1", {"lost": 1}, (400, "body.lost")),
        ("POST", "/cluster/recovery/node-1", {"lost": True}, (409, "")),
        ("POST", "/cluster/drain/nobody", None, (404, "")),
        ("DELETE", "/cluster/nodes/node-1", None, (409, "")),
        ("DELETE", "/cluster/nodes/nobody", None, (404, "")),
        ("DELETE", "/cluster/nodes/node-1?lost=maybe", None, (400, "query.lost")),
    ],
)
def test_wrong_input_is_a_problem_that_names_the_field(
    admin: AdminClient, method: str, path: str, body: Any, refused: tuple[int, str]
) -> None:
    """And changes nothing. Each refusal is one that the document promises."""
    status, field = refused
    problem = admin.call(method, path, body, expected=status)
    assert problem["status"] == status
    assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])
    states = {node["name"]: node["state"] for node in admin.call("GET", "/cluster/nodes")["nodes"]}
    assert set(states) == {"node-1", "node-2", "node-3", "node-4"}
    assert not {"draining", "joining", "removed"} & set(states.values())


def test_the_shell_lines_of_the_document_work(admin: AdminClient) -> None:
    """docs/api.md, line by line, with the address of this store: whoever follows it gets answers. Red when the body's
    digest is left out, as it was at first: curl 7.88 does not send it.
    """
    text = (ROOT / "docs" / "api.md").read_text()
    found = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert found
    shell = shutil.which("dash") or "sh"
    done = subprocess.run(
        [
            shell,
            "-euc",
            found[1].replace("http://127.0.0.1:9000", admin.store.endpoint).replace("-sS", "-sSf"),
        ],
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": admin.store.access_key,
            "AWS_SECRET_ACCESS_KEY": admin.store.secret_key,
        },
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert b'"recovery"' in done.stdout
    admin.wait_for_operation(admin.call("GET", "/cluster/recovery/node-2")["id"])


def test_a_node_that_lost_its_data_is_recovered_over_the_api(new_store: Any) -> None:
    """Its process is killed and its directory taken away: health says so at each step, events and MTTR afterwards."""
    store: Store = new_store(("--nodes", "3"), GRACE)
    store.start()
    s3 = store.client()
    s3.create_bucket(Bucket="held")
    for number in range(20):
        s3.put_object(Bucket="held", Key=str(number), Body=bytes([number]) * 4000)
    admin = AdminClient(store)
    directory = store.data / "node-2"
    directory.rename(store.data / "taken-away")  # its process sees that when it is started again
    pid = store.pids()["node-2"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: admin.call("GET", "/cluster/health")["status"] != "healthy", "health says so")
    seen = ask(store, "GET", "/-/health/cluster", signed=False)
    assert str(store.data) not in seen.raw.decode()
    recovery = admin.call("POST", "/cluster/recovery/node-2", {"lost": True})
    assert recovery["notes"] == []
    ended = admin.wait_for_operation(recovery["id"])
    assert ended["done"] == ended["total"] == 20
    until(lambda: admin.call("GET", "/cluster/health")["status"] == "healthy", "all is well again")
    until(lambda: ask(store, "GET", "/-/health/cluster", signed=False).status == 200, "for anybody")
    summary = admin.call("GET", "/metrics/summary")
    assert summary["incidents"]["failures"] >= 1
    assert summary["incidents"]["mttr_max_s"] > 0
    for number in range(20):
        assert s3.get_object(Bucket="held", Key=str(number))["Body"].read() == bytes([number]) * 4000
    shutil.rmtree(store.data / "taken-away")
