"""The commands about a store whose processes run by themselves, with the catalog in a database: they say what they can
know, and no more."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from catalog import nodes
from catalog.engine import Catalog
from catalog.transaction import Transaction
from cluster.node.files import RealFiles
from cluster.node.identity import initialise
from compose.data_dir import DataDir, write_private
from tests.compose.in_process import Done, trivet
from tests.postgres import CLUSTER_ID, PostgresServer, new_database
from tests.system.conftest import ROOT, TRIVET, WITH_US, own_environment, until

SILENT = ("b", "c")


class Host(NamedTuple):
    """One of several: it has the token's secret and the database, and none of the store's processes. Of the nodes that
    run by themselves `a` answers, the others are away."""

    data: Path
    url: str
    node: subprocess.Popen[bytes] | None
    address: str

    def ask(self, *words: str, **environment: str) -> Done:
        return trivet(self.data, *words, environment={"TRIVET_CATALOG": self.url, **environment})

    def json(self, *words: str) -> Any:
        done = self.ask(*words, "--json")
        assert done.stderr == ""
        return json.loads(done.stdout)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def _written(url: str, register: Callable[[Transaction], None]) -> None:
    catalog = Catalog.open(url)
    await catalog.start()
    await catalog.write(register)
    await catalog.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    url, place, home = new_database(postgres_server), DataDir(folder / "data"), folder / "elsewhere"
    place.root.mkdir(mode=0o700)
    write_private(place.cluster_secret, "ab" * 32 + "\n")
    port, region, zone = _free_port(), "eu-west-1", "eu-west-1a"
    identity = initialise(home, cluster_id=CLUSTER_ID, name="a", region=region, zone=zone, files=RealFiles())

    def register(tx: Transaction) -> None:
        known = {"state": nodes.UP, "host": "127.0.0.1", "region": region, "zone": zone}
        nodes.register(tx, node_id=identity.node_id, name="a", port=port, **known)
        for number, name in enumerate(SILENT, 1):
            nodes.register(tx, node_id=bytes([number]) * 16, name=name, port=_free_port(), **known)

    asyncio.run(_written(url, register))
    which = ("--cluster-id", CLUSTER_ID.hex(), "--node-id", identity.node_id.hex())
    command = [*WITH_US, *TRIVET, "node", "--dir", str(home), "--listen", f"127.0.0.1:{port}", *which]
    node = subprocess.Popen(
        command,
        cwd=ROOT,
        # The same file of settings as on the other hosts, without the secret that it names for them.
        env=own_environment(
            {"TRIVET_DATA": str(place.root), "TRIVET_CATALOG_FILE": str(folder / "not-here")}
        ),
        stdin=subprocess.DEVNULL,
    )
    try:
        made = Host(place.root, url, node, f"127.0.0.1:{port}")
        until(lambda: made.json("node", "list")[0]["answers"], "the node answers")
        yield made
    finally:
        node.terminate()
        node.wait(20)


def test_nodes_are_as_they_say(host: Host) -> None:
    """Red when only the disks and the supervisor of this host were looked at: "gone", "does not run"."""
    first, *others = host.json("node", "list")
    assert (first["name"], first["answers"], first["address"]) == ("a", True, host.address)
    assert first["free_bytes"] > 0
    assert [(node["answers"], node["free_bytes"]) for node in others] == [(False, None)] * 2
    said = host.ask("node", "list").stdout
    assert host.address in said
    assert said.count("not known") == len(SILENT)
    assert "gone" not in said
    assert "does not run" not in said


def test_the_directory_of_a_node_elsewhere_is_not_looked_for_here(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """Of a `trivet up` on another host, where it has the same name as one here. Red when the free space of this host's
    disk was told, or "gone"."""
    url, place = new_database(postgres_server), DataDir(tmp_path / "data")
    place.root.mkdir(mode=0o700)
    write_private(place.cluster_secret, "ab" * 32 + "\n")

    def register(tx: Transaction) -> None:
        socket_path, directory = str(place.node_socket("a")), str(tmp_path)
        known = {"state": nodes.UP, "host": socket_path, "port": 0, "region": "r", "zone": "z"}
        nodes.register(tx, node_id=bytes(16), name="a", directory=directory, **known)  # type: ignore[arg-type]

    asyncio.run(_written(url, register))
    asked = Host(place.root, url, None, "")
    (seen,) = asked.json("node", "list")
    assert (seen["directory"], seen["answers"], seen["free_bytes"]) == (str(tmp_path), False, None)
    said = asked.ask("node", "list").stdout
    assert "not known" in said
    assert "gone" not in said


def test_a_store_of_which_nothing_runs_here(host: Host) -> None:
    """It runs, for a node answers. Red when the processes of this host alone were asked."""
    assert host.json("status")["running"] is True
    assert "not running" not in host.ask("status").stdout


def test_what_is_done_to_nodes_that_run_by_themselves(host: Host) -> None:
    """Red: the note "takes effect at its next start", and that "nothing needs" the data directory any more, where the
    catalog's secret lies."""
    done = host.ask("node", "add", str(host.data / "new"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "trivet node --dir" in done.stderr
    assert not (host.data / "new").exists()
    assert host.ask("node", "undrain", "a").returncode == 1
    assert host.json("node", "recover", "a")["notes"] == []
    said = host.ask("node", "replace", "c")
    assert said.returncode == 1, "it is up, as far as the catalog knows"


def test_a_new_key_comes_with_an_endpoint_that_is_known(host: Host) -> None:
    """Red when it was that of a `trivet up` that was never started."""
    assert "--endpoint-url http://FRONT:PORT " in host.ask("key", "create").stdout
    token = host.data.parent / "token"
    token.write_text(trivet_token())
    token.chmod(0o600)
    told = {"TRIVET_JOIN": "http://10.0.0.11:9000/", "TRIVET_JOIN_TOKEN_FILE": str(token)}
    assert "--endpoint-url http://10.0.0.11:9000 " in host.ask("key", "create", **told).stdout


def trivet_token() -> str:
    from compose.join_token import JoinToken

    return JoinToken(CLUSTER_ID, bytes.fromhex("ab" * 32)).render()


def test_without_the_secret_the_catalog_is_told(host: Host, tmp_path: Path) -> None:
    done = trivet(tmp_path, "node", "list", environment={"TRIVET_CATALOG": host.url})
    assert done.returncode == 0
    assert "can't be asked from here" in done.stdout
    assert "does not run" not in done.stdout


def test_when_no_node_answers_nobody_knows(host: Host) -> None:
    """The last test of this file: the node stays away. Red when `running` was said to be false."""
    assert host.node is not None
    host.node.terminate()
    host.node.wait(20)
    assert "not known from here" in host.ask("node", "list").stdout
    seen = host.ask("status")
    assert seen.returncode == 1
    assert seen.stdout.startswith("trivet critical")
    assert "not known from here" in " ".join(seen.stdout.split())
    assert host.json("status")["running"] is None
