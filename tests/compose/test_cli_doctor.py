"""Each check of `trivet doctor` on something that is really so."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from compose import running
from compose.checks import configuration, disks, machine, store
from compose.checks.disks import Homes
from compose.checks.finding import Finding, Subject
from compose.credentials import settle, settle_cluster_secret
from compose.data_dir import DataDir
from compose.join_token import JoinToken
from compose.settings import Settings
from tests.catalog.fresh import fresh_catalog

SECRET = "a-secret-nobody-may-see"


def subject(root: Path, environment: dict[str, str] | None = None, **settings: object) -> Subject:
    """A store that does not run, founded or not."""
    made = replace(Settings(data=root), **settings)  # type: ignore[arg-type]
    return Subject(made, DataDir(root), environment or {}, {}, {})


def founded(root: Path) -> Subject:
    root.chmod(0o700)
    settle(DataDir(root), {})
    settle_cluster_secret(DataDir(root))
    fresh_catalog(DataDir(root).catalog, cluster_id=bytes(16))
    return subject(root)


def states(found: Iterator[Finding] | list[Finding]) -> list[str]:
    return [finding.state for finding in found]


def test_a_variable_that_nobody_reads_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    """Red when the names of the settings table are not the ones compared with."""
    found = list(configuration.settings(subject(tmp_path, {"TRIVET_GRACE_SECS": "5", "TRIVET_PORT": "9100"})))
    assert states(found) == ["warn"]
    assert "TRIVET_GRACE_SECS is no setting" in found[0].detail
    assert "did you mean TRIVET_GRACE_S?" in found[0].do


def test_known_variables_and_secrets_are_fine(tmp_path: Path) -> None:
    environment = {
        "TRIVET_ROOT_ACCESS_KEY": "me.myself",
        "TRIVET_ROOT_SECRET_KEY": SECRET,
        "TRIVET_METRICS_TOKEN": SECRET,
        "TRIVET_FRONTS": "2",
    }
    assert states(configuration.settings(subject(tmp_path, environment))) == ["ok"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TRIVET_ROOT_SECRET_KEY": SECRET}, "TRIVET_ROOT_ACCESS_KEY is not"),
        ({"TRIVET_PORT": "many"}, "TRIVET_PORT=many"),
        ({"TRIVET_METRICS_TOKEN": "short"}, "TRIVET_METRICS_TOKEN must have"),
    ],
)
def test_half_a_pair_and_an_unfit_value_are_bad(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    """And no secret is told."""
    (found,) = configuration.settings(subject(tmp_path, environment))
    assert found.state == "bad"
    assert said in found.detail
    assert SECRET not in found.detail + found.do


def test_what_a_restart_would_change_is_told(tmp_path: Path) -> None:
    """Red when the running store's settings are not looked at, or compared before both are written alike."""
    here = {"TRIVET_GRACE_S": "05", "TRIVET_PORT": "9001"}
    in_force = {**Settings(data=tmp_path).to_environment(), "TRIVET_GRACE_S": "5"}
    (found,) = configuration.settings(replace(subject(tmp_path, here), in_force=in_force))
    assert found.state == "warn"
    assert "TRIVET_PORT is '9001' here and '9000' in the running store" in found.detail


def test_secrets_must_be_readable_by_their_owner_only(tmp_path: Path) -> None:
    looked_at = founded(tmp_path)
    assert states(configuration.secrets(looked_at)) == ["ok"]
    (tmp_path / "credentials").chmod(0o644)
    (found,) = configuration.secrets(looked_at)
    assert (found.state, "chmod 600" in found.detail) == ("bad", True)
    (tmp_path / "cluster.secret").unlink()
    assert states(configuration.secrets(looked_at)) == ["bad", "bad"]


def test_a_join_token_stands_in_for_the_secret(tmp_path: Path) -> None:
    """Red when only the file of the data directory was looked for, which is on one host of several."""
    looked_at = founded(tmp_path)
    secret = bytes.fromhex((tmp_path / "cluster.secret").read_text().strip())
    (tmp_path / "cluster.secret").unlink()
    environment = {"TRIVET_JOIN_TOKEN": JoinToken(bytes(16), secret).render(), "TRIVET_CONFIG": "none"}
    (found,) = configuration.secrets(replace(looked_at, environment=environment))
    assert (found.state, "of the join token" in found.detail) == ("ok", True)


def test_the_data_directory_is_ours_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (found,) = configuration.directory(subject(tmp_path))
    assert (found.state, found.do) == ("warn", f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o700)
    assert states(configuration.directory(subject(tmp_path))) == ["ok"]
    assert states(configuration.directory(subject(tmp_path / "not" / "yet"))) == ["ok"]


@pytest.mark.parametrize(
    ("host", "token", "expected"),
    [
        ("127.0.0.1", "", ["ok"]),
        ("::1", "", ["ok"]),
        ("localhost", "", ["ok"]),
        ("0.0.0.0", "", ["warn", "warn"]),
        ("10.0.0.7", SECRET, ["warn"]),
        ("store.example", "", ["warn", "warn"]),
    ],
)
def test_an_open_endpoint_is_told(tmp_path: Path, host: str, token: str, expected: list[str]) -> None:
    environment = {"TRIVET_METRICS_TOKEN": token} if token else {}
    found = list(configuration.reach(subject(tmp_path, environment, host=host)))
    assert states(found) == expected
    assert all(SECRET not in finding.detail + finding.do for finding in found)


def test_this_machine_has_what_it_needs(tmp_path: Path) -> None:
    assert states(machine.versions(subject(tmp_path))) == ["ok", "ok"]
    assert states(machine.sqlite(subject(tmp_path))) == ["ok"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("msgspec>=999", "999 or newer is needed"),
        ("no-such-package>=1.0", "no-such-package is missing"),
        ("msgspec>=0.1", ""),
        ("no-such-package>=1.0; extra == 'dev'", ""),
    ],
)
def test_a_package_that_is_missing_or_too_old_is_named(line: str, said: str) -> None:
    fault = machine._package_fault(line)
    assert said in fault
    assert bool(fault) == bool(said)


@contextmanager
def process(command: str) -> Iterator[int]:
    """Of another program, with the limits that the command sets."""
    with subprocess.Popen(
        ["/bin/sh", "-c", f"{command}; echo up; exec sleep 60"], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield child.pid
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("ulimit -S -n 256", ["warn"]),
        ("ulimit -S -n 10; exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0", ["bad", "warn"]),
        ("ulimit -S -n 4096", ["ok"]),
    ],
)
def test_few_open_files_are_told(tmp_path: Path, limits: str, expected: list[str]) -> None:
    """The limit of the running process counts, not ours. Red when this process's own is looked at."""
    with process(limits) as pid:
        found = list(machine.open_files(replace(subject(tmp_path), running={"front-1": pid})))
    assert states(found) == expected


def test_a_clock_that_jumped_is_noticed(tmp_path: Path) -> None:
    """A process wrote its pid file an hour ago by the wall clock, and started a moment ago by the other one. Red
    when either clock is compared with itself.
    """
    (tmp_path / "run").mkdir()
    pid_file = tmp_path / "run" / "node-1.pid"
    with process(":") as pid:
        pid_file.write_text(str(pid))
        looked_at = replace(subject(tmp_path), running={"node-1": pid})
        assert states(machine.clock(looked_at)) == ["ok"]
        os.utime(pid_file, (time.time() - 3600,) * 2)
        (found,) = machine.clock(looked_at)
    assert found.state == "warn"
    assert "+3600 s since node-1" in found.detail


def test_files_from_the_future_are_noticed(tmp_path: Path) -> None:
    written = tmp_path / "node-1"
    written.mkdir()
    (written / "segment").touch()
    assert states(machine.clock(subject(tmp_path))) == ["ok"]
    os.utime(written / "segment", (time.time() + 90,) * 2)
    (found,) = machine.clock(subject(tmp_path))
    assert (found.state, "set back" in found.detail) == ("warn", True)


def test_nodes_on_one_disk_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    together = Homes(tmp_path, {"node-1": tmp_path / "a", "node-2": tmp_path / "b"})
    (found,) = disks.shared(subject(tmp_path), together)
    assert found.state == "warn"
    assert "node-1, node-2 lie on one disk" in found.detail
    apart = Homes(tmp_path, {"node-1": tmp_path / "a", "node-2": Path("/dev/shm")})
    assert states(disks.shared(subject(tmp_path), apart)) == ["ok"]


def test_memory_is_no_disk(tmp_path: Path) -> None:
    found = list(disks.file_systems(subject(tmp_path), Homes(tmp_path, {"node-1": Path("/dev/shm")})))
    assert [finding.state for finding in found if "node-1" in finding.detail] == ["bad"]


def test_a_node_below_its_reserve_and_a_missing_one(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    homes = Homes(tmp_path, {"node-1": tmp_path, "node-2": tmp_path / "gone"})
    low = list(disks.space(subject(tmp_path, node_reserve_bytes=2 * free), homes))
    assert states(low)[1:] == ["bad", "bad"]
    assert "takes no new objects" in low[1].detail
    assert "trivet node recover node-2 --lost" in low[2].do
    near = list(disks.space(subject(tmp_path, node_reserve_bytes=int(free * 0.7)), homes))
    assert states(near)[1:] == ["warn", "bad"]


def test_a_sync_is_measured_and_nothing_stays_behind(tmp_path: Path) -> None:
    (found,) = disks.sync_speed(subject(tmp_path), Homes(tmp_path, {"node-1": tmp_path}))
    assert found.state in {"ok", "warn"}
    assert "ms a sync" in found.detail
    assert list(tmp_path.iterdir()) == []


def test_a_catalog_is_examined_without_being_changed(tmp_path: Path) -> None:
    looked_at = founded(tmp_path)
    before = DataDir(tmp_path).catalog.read_bytes()
    seen = store.catalog_of(looked_at)
    assert (states(seen.findings), seen.usable) == (["ok"], True)
    assert DataDir(tmp_path).catalog.read_bytes() == before


def test_a_damaged_catalog_is_noticed(tmp_path: Path) -> None:
    """One page that nothing else here reads. Red without the check of all pages."""
    looked_at = founded(tmp_path)
    path = DataDir(tmp_path).catalog
    with closing(dbapi2.connect(str(path))) as connection:
        row = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'versions'").fetchone()
    with path.open("r+b") as file:
        file.seek((row[0] - 1) * 4096)
        file.write(b"\xa5" * 64)
    seen = store.catalog_of(looked_at)
    assert (states(seen.findings), seen.usable) == (["bad"], False)
    assert "trivet catalog restore" in seen.findings[0].do


def test_no_database_at_all_is_noticed(tmp_path: Path) -> None:
    DataDir(tmp_path).catalog.write_bytes(b"not a database, by far" * 1000)
    seen = store.catalog_of(subject(tmp_path))
    assert (states(seen.findings), seen.usable) == (["bad"], False)


@pytest.mark.parametrize(("revision", "state"), [("0001", "warn"), ("9999", "bad")])
def test_a_schema_of_another_release_is_left_as_it_is(tmp_path: Path, revision: str, state: str) -> None:
    looked_at = founded(tmp_path)
    with closing(dbapi2.connect(str(DataDir(tmp_path).catalog))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()
    seen = store.catalog_of(looked_at)
    assert (states(seen.findings), seen.usable) == ([state], False)
    assert revision in seen.findings[0].detail


def test_a_pid_of_another_program_is_not_a_store(tmp_path: Path) -> None:
    place = DataDir(tmp_path)
    place.run.mkdir()
    with process(":") as pid:
        place.pid_file("supervisor").write_text(str(pid))
        assert running.supervisor_pid(place) is None
    place.pid_file("supervisor").write_text("")
    assert running.supervisor_pid(place) is None
