"""The queries of the dashboard that Grafana shows, as Prometheus is asked them."""

from __future__ import annotations

import json
from typing import NamedTuple

from tests.system.conftest import ROOT

DASHBOARD = ROOT / "compose" / "grafana" / "dashboards" / "trivet.json"
# Grafana's own variables, and the step of subqueries, for a store that is watched for some seconds only.
_VARIABLES = {"$__rate_interval": "10s", "$__range": "2m", ":15s]": ":1s]"}


class Panel(NamedTuple):
    title: str
    queries: tuple[str, ...]


def panels() -> list[Panel]:
    """All that show something; rows are only headings."""
    told = json.loads(DASHBOARD.read_text())["panels"]
    return [
        Panel(panel["title"], tuple(_filled_in(target["expr"]) for target in panel["targets"]))
        for panel in told
        if panel["type"] != "row"
    ]


def _filled_in(query: str) -> str:
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, f"a variable that nobody fills in: {query}"
    return query
