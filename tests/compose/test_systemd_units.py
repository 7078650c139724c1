"""The units are what systemd understands, and give the processes no more than they need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from compose.cli.main import is_process

UNITS = Path(__file__).resolve().parents[2] / "compose" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
EXPOSURE_MAX = 2.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (package systemd)"
)


def _installed(folder: Path) -> list[Path]:
    """Copies whose program is there; an instance of each template."""
    copies = []
    for unit in sorted([*SERVICES, *UNITS.glob("*.socket")]):
        copy = folder / unit.name.replace("@.", "@node-1.")
        copy.write_text(unit.read_text().replace("/opt/trivet/bin/trivet", "/bin/true"))
        copies.append(copy)
    return copies


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """It only warns of a key that it does not know: any word from it is a fault."""
    copies = _installed(tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, copies)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in (done.stderr + done.stdout).splitlines() if "trivet" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
def test_the_processes_are_shut_in(tmp_path: Path) -> None:
    """`systemd-analyze security` calls 2 and less OK; without any of it a service has 9.6."""
    for copy in _installed(tmp_path):
        if copy.suffix == ".service":
            done = subprocess.run(
                ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(copy)],
                capture_output=True,
                text=True,
                check=False,
            )
            level = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
            assert level is not None, done.stderr
            assert float(level[1]) <= EXPOSURE_MAX, copy.name


def test_all_services_are_shut_in_alike() -> None:
    """Red when a line is added to one of them only."""
    sandboxes = {
        unit.read_text().partition("# What it needs of the machine")[2].partition("[Install]")[0]
        for unit in SERVICES
    }
    assert len(SERVICES) == 4
    assert len(sandboxes) == 1
    assert "ProtectSystem=strict\n" in sandboxes.pop()


def test_no_secret_goes_to_the_journal() -> None:
    """The words of a first start have the generated root key in them, on stdout. Red without the line."""
    assert "\nStandardOutput=null\n" in (UNITS / "trivet.service").read_text()


def test_a_reload_is_a_rolling_restart() -> None:
    """It finds the store by the unit's environment. tests/system/test_hosts.py restarts a store under load."""
    text = (UNITS / "trivet.service").read_text()
    (start,) = re.findall(r"^ExecStart=(\S+) up$", text, re.MULTILINE)
    (words,) = re.findall(rf"^ExecReload={start} (.+)$", text, re.MULTILINE)
    assert is_process(words.split())
    assert "\nEnvironment=TRIVET_DATA=" in text


@needs_systemd
def test_the_user_and_the_directories(tmp_path: Path) -> None:
    """`--root` keeps both away from this machine."""
    (tmp_path / "etc").mkdir()
    for program, options, file in (
        ("systemd-sysusers", [], "trivet.sysusers"),
        ("systemd-tmpfiles", ["--create"], "trivet.tmpfiles"),
    ):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (package systemd)")
        done = subprocess.run(
            [program, f"--root={tmp_path}", *options, str(UNITS / file)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and "permitted" in done.stderr:
            pytest.skip(f"{program} needs root here")
        assert done.returncode == 0, done.stderr
    assert "trivet:" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "var/lib/trivet").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/trivet").stat().st_mode & 0o777 == 0o750
