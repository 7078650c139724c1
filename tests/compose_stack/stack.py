"""The stack of compose/docker-compose.yml as a project of its own on an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import boto3

from tests.compose_stack.engine import Engine, run
from tests.compose_stack.images import COMPOSE_FILE
from tests.system.conftest import CLEAN_CONFIG

_COMMAND_WAIT_S = 400.0


def compose_commands() -> list[tuple[str, ...]]:
    """Each Compose that is installed: the plugin of docker (v2), and docker-compose (1.29 and later)."""
    found: list[tuple[str, ...]] = []
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            found.append(("docker", "compose"))
    if shutil.which("docker-compose"):
        found.append(("docker-compose",))
    return found


class Stack:
    """All names and volumes begin with `project`; `ports`: of front-1, front-2 and Prometheus on 127.0.0.1."""

    def __init__(
        self, engine: Engine, command: Sequence[str], project: str, ports: tuple[int, int, int]
    ) -> None:
        self.engine = engine
        self.project = project
        self.fronts = tuple(f"http://127.0.0.1:{port}" for port in ports[:2])
        self.prometheus = f"http://127.0.0.1:{ports[2]}"
        self._command = (*command, "--project-name", project, "--file", str(COMPOSE_FILE))
        own = {
            "TRIVET_IMAGE": f"{project}:tested",
            "TRIVET_PORT_1": str(ports[0]),
            "TRIVET_PORT_2": str(ports[1]),
            "PROMETHEUS_PORT": str(ports[2]),
        }
        self.image = own["TRIVET_IMAGE"]
        self.of_project = ("--filter", f"label=com.docker.compose.project={project}")
        self._environment = {**engine.environment, **own}

    def compose(self, *arguments: str) -> str:
        return run([*self._command, *arguments], self._environment, _COMMAND_WAIT_S)

    def container(self, service: str) -> str:
        """Its id, of one that has ended too."""
        named = ("--filter", f"label=com.docker.compose.service={service}")
        found = self.engine.docker("ps", "--all", "--quiet", *self.of_project, *named).split()
        assert len(found) == 1, f"{service}: {found}"
        return found[0]

    def left_over(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        return [
            *self.engine.docker("ps", "--all", "--quiet", *self.of_project).split(),
            *self.engine.docker("volume", "ls", "--quiet", *self.of_project).split(),
            *self.engine.docker("network", "ls", "--quiet", *self.of_project).split(),
        ]

    def client(self, front: int) -> Any:
        """A boto3 client with the credentials that the stack made. Its user closes it."""
        keys = [
            self.compose("exec", "-T", "front-1", "cat", f"/secrets/{name}").strip()
            for name in ("access-key", "secret-key")
        ]
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.fronts[front],
            region_name="us-east-1",
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            config=CLEAN_CONFIG,
        )

    def health(self, front: int) -> str:
        """What /-/health/cluster says; empty when it can't be asked."""
        try:
            with urllib.request.urlopen(f"{self.fronts[front]}/-/health/cluster", timeout=5) as answer:
                return str(json.load(answer)["status"])
        except (OSError, ValueError):
            return ""

    def figure(self, query: str) -> float | None:
        """The number that Prometheus gives for the query now; None without one."""
        asked = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"{self.prometheus}/api/v1/query?{asked}", timeout=5) as answer:
                result = json.load(answer)["data"]["result"]
        except (OSError, ValueError):
            return None
        return float(result[0]["value"][1]) if result else None

    def whole(self) -> bool:
        """Whether it is healthy and no object is below full redundancy, as Prometheus scraped it lately."""
        below = "max(max_over_time(trivet_objects_below_full_redundancy[15s]))"
        return self.health(0) == "healthy" and self.figure(below) == 0

    def logs(self) -> str:
        """The last lines of each service, each as far as a screen is wide, for a test that failed."""
        lines = self.compose("logs", "--no-color", "--tail", "20").splitlines()
        return "\n".join(line[:240] for line in lines)


def project_name() -> str:
    """No other run on this machine has it."""
    return f"trivet-test-{os.getpid()}"
