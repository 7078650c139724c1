"""Several hosts, each a network namespace with its own address: PostgreSQL, three nodes in three regions, two fronts,
two stewards, and clients that notice nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.hosts import network
from tests.hosts.cluster import Cluster, client
from tests.hosts.load import BUCKET, Load
from tests.postgres import PostgresServer, empty_database
from tests.system.conftest import CLEAN_CONFIG, until

pytestmark = pytest.mark.skipif(bool(network.missing()), reason=network.missing())

SDK = Config(connect_timeout=10, read_timeout=30)
"""With boto3's own retries."""
TAKEOVER_S_MAX = 15.0
"""A lease that nobody renews stands for 4.5 s; the rest is for a busy machine."""
NODES = ("n1", "n2", "n3")


class Hosts:
    """A store over five hosts and the test's own, on which PostgreSQL runs."""

    def __init__(self, folder: Path) -> None:
        self.net = network.Network()
        self.cluster = Cluster(folder)
        try:
            self.server = PostgresServer(host=self.net.database)
            with (self.server.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all 10.0.0.0/8 trust\n")
            self.server.start()
            self._url = empty_database(self.server)
            self.cluster = Cluster(folder, self._url)
            self.cluster.found()
            self.endpoints = []
            for name in ("f1", "f2"):
                host = self.net.host(name)
                self.cluster.add_front(name, host.listener(9000), host.inside)
                self.endpoints.append(f"http://{host.address}:9000")
            for name in NODES:
                host = self.net.host(name)
                self.cluster.add_node(name, f"{host.address}:9100", ",".join(self.endpoints), host.inside)
            for name in ("s1", "s2"):
                self.cluster.add_steward(name, self.net.host(f"f{name[1]}").inside)
            until(lambda: self.nodes() == dict.fromkeys(NODES, "up"), "all nodes are up")
            for endpoint in self.endpoints:
                self.until_well(endpoint)
        except BaseException:
            self.close()
            raise

    def nodes(self) -> dict[str, str]:
        rows = self.server.execute(
            "SELECT name, state FROM nodes WHERE state <> 'removed'", database=self._url.rpartition("/")[2]
        )
        return {str(name): str(state) for name, state in rows}

    def lease(self) -> tuple[str | None, int]:
        rows = self.server.execute(
            "SELECT holder, counter FROM leases", database=self._url.rpartition("/")[2]
        )
        return rows[0] if rows else (None, 0)  # type: ignore[return-value]

    def steward_in_office(self) -> str:
        holder = self.lease()[0]
        return next(
            name
            for name in ("s1", "s2")
            if holder is not None and f"steward {holder} in office" in self.cluster.processes[name].log()
        )

    def until_well(self, endpoint: str) -> None:
        """The front takes writes, with all nodes there."""
        s3 = client(endpoint, CLEAN_CONFIG)

        def writes() -> bool:
            try:
                s3.create_bucket(Bucket="probe")
                s3.put_object(Bucket="probe", Key="probe", Body=b"x" * 1000)
            except Exception:  # noqa: BLE001 - whatever it is, not yet
                return False
            return True

        until(writes, f"{endpoint} takes writes")
        s3.close()

    def roll(self) -> None:
        """Each process once, one after the other, each waited for."""
        for name in NODES:
            process = self.cluster.processes[name]
            process.restart()
            process.until_ready()
            until(lambda: self.nodes() == dict.fromkeys(NODES, "up"), f"all nodes are up after {name}")
        for name in ("s1", "s2", "f1", "f2"):
            self.cluster.processes[name].restart()
            if name.startswith("f"):
                self.until_well(self.endpoints[int(name[1]) - 1])

    def check(self, load: Load) -> None:
        """Everything acknowledged is there, over each front."""
        for endpoint in self.endpoints:
            s3 = client(endpoint, SDK)
            for key, body in load.acknowledged.items():
                assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, f"{key} over {endpoint}"
            s3.close()

    def close(self) -> None:
        self.cluster.close()
        if hasattr(self, "server"):
            self.server.close()
        self.net.close()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    made = Hosts(tmp_path_factory.mktemp("hosts"))
    s3 = client(made.endpoints[0], SDK)
    s3.create_bucket(Bucket=BUCKET)
    s3.close()
    yield made
    made.close()


def test_everything_is_restarted_under_load_and_no_client_notices(hosts: Hosts) -> None:
    """Without retries. No connection is refused: the sockets of the fronts are held while they restart.

    Red when a front refuses a write because a node is gone before it has noticed that the one before is back.
    """
    with Load([*hosts.endpoints, hosts.endpoints[0]], CLEAN_CONFIG) as load:
        hosts.roll()
    assert load.failures == []
    assert load.done > 50
    hosts.check(load)


def test_a_steward_that_is_killed_is_succeeded_within_seconds(hosts: Hosts) -> None:
    until(lambda: hosts.lease()[0] is not None, "a steward is in office")
    before = hosts.lease()[0]
    process = hosts.cluster.processes[hosts.steward_in_office()]
    process.stop(signal.SIGKILL)
    began_s = time.monotonic()
    until(lambda: hosts.lease()[0] not in (before, None), "the other steward is in office")
    assert time.monotonic() - began_s < TAKEOVER_S_MAX
    process.start()


def test_a_node_that_was_cut_off_is_missed_by_nobody_and_comes_back(hosts: Hosts) -> None:
    """Its silence is all that tells of it: no connection is closed."""
    with Load(hosts.endpoints, SDK) as load:
        before = load.done
        until(lambda: load.done > before + 5, "there is load")
        hosts.net.host("n2").cut()
        until(lambda: hosts.nodes()["n2"] == "down", "the steward sees it")
        before = load.done
        until(lambda: load.done > before + 10, "work goes on without it")
        hosts.net.host("n2").mend()
        until(lambda: hosts.nodes()["n2"] == "up", "it is back")
    assert load.failures == []
    hosts.check(load)


def test_a_front_that_is_cut_off_from_the_database_says_503_and_recovers(hosts: Hosts) -> None:
    """Nobody tells it: what it sends there vanishes. The other front, which is not cut off, notices nothing."""
    cut_off, other = (client(endpoint, CLEAN_CONFIG) for endpoint in hosts.endpoints)
    host = hosts.net.host("f1")
    host.lose(hosts.net.database)
    try:
        with pytest.raises(ClientError) as refused:
            cut_off.put_object(Bucket=BUCKET, Key="while-away", Body=b"x")
        other.put_object(Bucket=BUCKET, Key="meanwhile", Body=b"x")
    finally:
        host.find(hosts.net.database)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    hosts.until_well(hosts.endpoints[0])
    assert cut_off.get_object(Bucket=BUCKET, Key="meanwhile")["Body"].read() == b"x"
    cut_off.close()
    other.close()


@pytest.mark.long
def test_links_are_cut_and_mended_and_everything_restarted_for_a_while(hosts: Hosts) -> None:
    """Three rounds: each node is cut off and frozen, then everything restarted, while clients write."""
    with Load([*hosts.endpoints] * 2, SDK) as load:
        for _ in range(3):
            for name in NODES:
                hosts.net.host(name).cut()
                until(lambda name=name: hosts.nodes()[name] == "down", f"{name} is missed")  # type: ignore[misc]
                hosts.net.host(name).mend()
                until(lambda name=name: hosts.nodes()[name] == "up", f"{name} is back")  # type: ignore[misc]
                process = hosts.cluster.processes[name]
                assert process.running is not None
                process.running.send_signal(signal.SIGSTOP)
                until(lambda name=name: hosts.nodes()[name] == "down", f"{name} is missed")  # type: ignore[misc]
                process.running.send_signal(signal.SIGCONT)
                until(lambda name=name: hosts.nodes()[name] == "up", f"{name} is back")  # type: ignore[misc]
            hosts.roll()
    assert load.failures == []
    hosts.check(load)
