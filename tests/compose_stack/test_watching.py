"""Dashboard and alerts against a real Prometheus that scrapes a store under load."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count, product
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.compose_stack.dashboard import DASHBOARD, panels
from tests.compose_stack.prometheus import FILES, Prometheus
from tests.system.conftest import CLEAN_CONFIG, ROOT, TRIVET, Store, own_environment, until

BUCKET = "watched"
BODY = b"trivet " * 20_000


class Watched(NamedTuple):
    store: Store
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A store with two fronts, a client that does not stop, an event, and a Prometheus."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("watched")
    store = Store(folder, ("--fronts", "2"))
    with ExitStack() as ending:
        ending.callback(store.stop)
        store.start()
        prometheus = Prometheus(folder / "prometheus", urlsplit(store.endpoint).netloc)
        ending.callback(prometheus.stop)
        store.client().create_bucket(Bucket=BUCKET)
        stop = threading.Event()
        load = threading.Thread(target=_load, args=(store, stop))
        load.start()
        ending.callback(load.join)
        ending.callback(stop.set)
        subprocess.run(
            [*TRIVET, "key", "create", "--data", str(store.data), "--role", "readonly"],
            cwd=ROOT,
            env=own_environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        prometheus.wait_until_ready()
        yield Watched(store, prometheus)


def _load(store: Store, stop: threading.Event) -> None:
    """All kinds of requests, until told to stop. What fails while a node dies is not judged here."""
    client = store.unmanaged_client(CLEAN_CONFIG.merge(Config(max_pool_connections=1)))
    for number in count():
        if stop.is_set():
            break
        at = {"Bucket": BUCKET, "Key": f"key-{number % 50}"}
        with suppress(ClientError, BotoCoreError):
            client.put_object(**at, Body=BODY)
            client.get_object(**at)["Body"].read()
            client.list_objects_v2(Bucket=BUCKET)
            client.head_object(**at)
            if number % 3 == 0:
                client.delete_object(**at)
    client.close()


def test_every_panel_shows_data(watched: Watched) -> None:
    """Each query of each panel gives a number soon.

    Red when a panel asks for a metric that is not told (`trivet_repair_queue` misspelt).
    """
    without = {query: panel.title for panel in panels() for query in panel.queries}
    assert len(without) > 40

    def all_have() -> bool:
        for query in [query for query in without if watched.prometheus.has_data(query)]:
            del without[query]
        return not without

    try:
        until(all_have, "data for every query", wait_s=20)
    except AssertionError:
        pytest.fail(f"panels without data: {without}")


def test_every_alert_can_fire(watched: Watched) -> None:
    """What each alert compares gives a number, so its silence means that all is well.

    Red when an alert asks for a metric or a label that is not told (`trivet_node_readonly`).
    """
    comparisons = {rule.name: _as_number(rule.query) for rule in watched.prometheus.rules()}
    assert len(comparisons) == (FILES / "alerts.yml").read_text().count("- alert:")

    def without() -> dict[str, str]:
        return {name: query for name, query in comparisons.items() if not watched.prometheus.has_data(query)}

    try:
        until(lambda: not without(), "data for every alert", wait_s=20)
    except AssertionError:
        pytest.fail(f"alerts without data: {without()}")


def _as_number(query: str) -> str:
    """The comparison at the end gives 0 or 1 instead of nothing or something."""
    changed, times = re.subn(r"(==|<|>) ([^=<>]+)$", r"\1 bool \2", query)
    assert times == 1, f"no comparison at the end: {query}"
    return changed


def test_every_metric_that_documents_alert_on_is_told(watched: Watched) -> None:
    """The table of alerts in docs/operations.md names only metrics that exist."""
    text = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics and alerts")[2]
    named = set(re.findall(r"trivet_[a-z_]+", text.partition("\n## ")[0]))
    assert len(named) > 10
    until(
        lambda: all(watched.prometheus.has_data(f"max({name})") for name in named),
        f"data for {sorted(named)}",
    )


def test_a_dead_node_fires_its_alert(watched: Watched) -> None:
    """A node whose process is killed and whose disk is gone is told by name and region; the others are not.

    Red when the rule compares the sum over nodes (`sum by (job)`): one node of three is then never missed.
    """
    store, prometheus = watched
    assert "TrivetNodeDown" not in {alert.name for alert in prometheus.firing()}
    home = store.data / "node-2"
    home.rename(store.data / "node-2-unmounted")
    os.kill(store.pids()["node-2"], signal.SIGKILL)

    def told() -> list[tuple[str, str]]:
        return [
            (alert.labels["node"], alert.labels["region"])
            for alert in prometheus.firing()
            if alert.name == "TrivetNodeDown"
        ]

    until(lambda: bool(told()), "the alert fires", wait_s=20)
    assert told() == [("node-2", "us-west-1")]
    (store.data / "node-2-unmounted").rename(home)


def test_alert_rules_by_their_own_examples() -> None:
    """`promtool test rules`: what makes each alert fire, after how long, and what does not.

    Red when a rule is not the one that its examples were written for (`sum by (job)` for `max by (node, region)`).
    """
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    examples = ROOT / "tests" / "compose_stack" / "alerts.test.yml"
    text = examples.read_text()
    for name in re.findall(r"- alert: (\w+)", (FILES / "alerts.yml").read_text()):
        assert re.search(rf"alertname: {name}\n", text), f"{name} has no example"
    for command in (
        ("check", "config", str(FILES / "prometheus.yml")),
        ("test", "rules", str(examples)),
    ):
        judged = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stdout + judged.stderr


def test_panels_can_be_told_apart() -> None:
    """Ids of panels and of the queries in a panel differ, or Grafana shows one for the other; none lies on another.

    Red when two panels are given one id, and when one is moved onto its neighbour.
    """
    told = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in told}) == len(told)
    taken: dict[tuple[int, int], str] = {}
    for panel in told:
        queries = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(queries)) == len(queries), panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for place in product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert place not in taken, (panel["title"], taken[place])
            taken[place] = panel["title"]
