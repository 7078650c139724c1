"""The files of image and stack: what Compose makes of them, and that nothing is forgotten."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from typing import Any

import pytest

from tests.compose_stack.engine import Engine
from tests.compose_stack.images import COMPOSE_FILE
from tests.compose_stack.stack import compose_commands
from tests.system.conftest import ROOT

DOCKERFILE = (ROOT / "compose" / "Dockerfile").read_text()


@pytest.mark.parametrize(
    "command", compose_commands() or [()], ids=lambda command: "-".join(command) or "none"
)
def test_each_compose_takes_the_file(command: tuple[str, ...]) -> None:
    """docker compose v2 and docker-compose 1.29 read it, warn of nothing, and find the same services in it, two of
    them in the profile `monitoring`."""
    if not command:
        pytest.skip(
            "neither docker compose nor docker-compose is installed (Debian: apt-get install docker-compose)"
        )

    def told(*options: str) -> str:
        judged = subprocess.run(
            [*command, "--file", str(COMPOSE_FILE), *options],
            env=Engine("").environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (judged.returncode, judged.stderr) == (0, "")
        return judged.stdout

    assert set(told("--profile", "monitoring", "config", "--services").split()) == {
        *("secrets", "init", "postgres", "front-1", "front-2", "steward-1", "steward-2"),
        *("node-1", "node-2", "node-3", "prometheus", "grafana"),
    }
    assert told("--profile", "monitoring", "config").count("monitoring") == 2


def test_the_image_has_every_package() -> None:
    """Each package of the wheel is copied by the Dockerfile and let through by .dockerignore.

    Red when `COPY s3front s3front` is left out.
    """
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE)) == packages
    let_through = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    files = {"LICENSE", "README.md", "pyproject.toml", "requirements.lock"}
    assert let_through == packages | files


def test_the_dashboard_asks_the_provisioned_source() -> None:
    """A panel whose data source has another uid than the provisioned one shows nothing."""
    grafana = ROOT / "compose" / "grafana"
    source = (grafana / "provisioning" / "datasources" / "prometheus.yml").read_text()
    uids = set(re.findall(r"^ +uid: (\S+)$", source, re.MULTILINE))

    def asked(part: Any) -> set[str]:
        if isinstance(part, list):
            return set().union(*map(asked, part))
        if isinstance(part, dict):
            own = {part["datasource"]["uid"]} if "datasource" in part else set()
            return own.union(*map(asked, part.values()))
        return set()

    assert asked(json.loads((grafana / "dashboards" / "trivet.json").read_text())) == uids
    assert (
        f"path: {_mounted('./grafana/dashboards')}"
        in (grafana / "provisioning" / "dashboards" / "trivet.yml").read_text()
    )


def _mounted(folder: str) -> str:
    found = re.search(rf"- {re.escape(folder)}:(\S+):ro", COMPOSE_FILE.read_text())
    assert found, f"{folder} is not mounted"
    return found.group(1)


def test_the_stack_has_a_name_of_its_own() -> None:
    """Volumes of a stack that is called after its folder, `compose`, are shared with every other such folder's."""
    assert "COMPOSE_PROJECT_NAME=trivet" in (COMPOSE_FILE.parent / ".env").read_text().splitlines()


def test_no_published_port_leaves_this_machine_unasked() -> None:
    """There is no TLS: each port is published on the loopback address unless TRIVET_PUBLISH says otherwise."""
    published = re.findall(r'ports: \["(.*)"\]', COMPOSE_FILE.read_text())
    assert len(published) == 4
    assert all(each.startswith("${TRIVET_PUBLISH:-127.0.0.1}:") for each in published)
