"""Debian's Prometheus with the configuration and the alert rules of `compose/prometheus`, faster than in operation."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.conftest import ROOT, WITH_US, is_running

FILES = ROOT / "compose" / "prometheus"
_START_WAIT_S = 20.0
_STOP_WAIT_S = 20.0


@dataclass(frozen=True)
class AlertRule:
    name: str
    query: str
    """With its comparison at the end."""


@dataclass(frozen=True)
class Firing:
    name: str
    labels: dict[str, str]


class Prometheus:
    """One Prometheus on a free port of the loopback address. It ends with the test run."""

    def __init__(self, folder: Path, target: str) -> None:
        """`target`: HOST:PORT of a front, scraped twice a second."""
        config = _once(r"targets: \[.*\]", f"targets: ['{target}']", (FILES / "prometheus.yml").read_text())
        config = _once(r"scrape_interval: \w+", "scrape_interval: 500ms", config)
        config = _once(r"evaluation_interval: \w+", "evaluation_interval: 500ms", config)
        folder.mkdir()
        (folder / "prometheus.yml").write_text(config)
        rules = re.sub(r"for: \w+", "for: 1s", (FILES / "alerts.yml").read_text())
        (folder / "alerts.yml").write_text(rules)
        self._log_path = folder / "log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(*WITH_US, "prometheus", f"--config.file={folder / 'prometheus.yml'}"),
                    *(f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.url = ""

    def wait_until_ready(self) -> None:
        """Returns when it answers; fails with its log when it does not."""
        give_up_at = time.monotonic() + _START_WAIT_S
        while not (found := re.search(r'msg="Listening on" address=(\S+)', self.log())):
            assert is_running(self._process.pid), f"Prometheus ended:\n{self.log()}"
            assert time.monotonic() < give_up_at, f"Prometheus does not listen:\n{self.log()}"
            time.sleep(0.02)
        self.url = f"http://{found.group(1)}"

    def log(self) -> str:
        return self._log_path.read_text()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def values(self, query: str) -> list[float]:
        """What the query gives now, one value a series; the label sets don't matter here."""
        asked = urllib.parse.urlencode({"query": query})
        told = _data(f"{self.url}/api/v1/query?{asked}")
        if told["resultType"] == "scalar":
            return [float(told["result"][1])]
        return [float(series["value"][1]) for series in told["result"]]

    def has_data(self, query: str) -> bool:
        """Whether some series has a number now."""
        return any(not math.isnan(value) for value in self.values(query))

    def rules(self) -> list[AlertRule]:
        """As Prometheus has read them."""
        groups = _data(f"{self.url}/api/v1/rules")["groups"]
        return [AlertRule(rule["name"], rule["query"]) for group in groups for rule in group["rules"]]

    def firing(self) -> list[Firing]:
        alerts = _data(f"{self.url}/api/v1/alerts")["alerts"]
        return [
            Firing(alert["labels"]["alertname"], alert["labels"])
            for alert in alerts
            if alert["state"] == "firing"
        ]


def _once(pattern: str, replacement: str, text: str) -> str:
    changed, times = re.subn(rf"\b{pattern}", replacement, text)
    assert times == 1, f"{pattern} stands {times} times in the configuration"
    return changed


def _data(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        told = json.load(answer)
    assert told["status"] == "success", told
    return told["data"]
