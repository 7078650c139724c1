"""Names that are not there, or are taken: the command says where to look, in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose import credentials
from compose.cli.commands import app
from compose.data_dir import DataDir
from compose.refusal import CommandRefused
from tests.catalog.fresh import fresh_catalog

BUCKETS = "there is no bucket nowhere: trivet bucket list"
KEYS = "trivet key list shows those there are"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names")
    fresh_catalog(DataDir(root).catalog, cluster_id=bytes(16))
    credentials.settle_cluster_secret(DataDir(root))
    made = CliRunner().invoke(app, ["key", "create", "--access-key", "taken", "--data", str(root)])
    assert made.exit_code == 0, made.output
    return root


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bucket", "show", "nowhere"), BUCKETS),
        (("bucket", "quota", "nowhere", "1GiB"), BUCKETS),
        (("bucket", "recount", "nowhere"), BUCKETS),
        (("key", "show", "nobody"), KEYS),
        (("key", "disable", "nobody"), KEYS),
        (("key", "role", "nobody", "admin"), KEYS),
        (("key", "delete", "nobody"), KEYS),
        (("key", "create", "--access-key", "taken"), "choose another name"),
    ],
)
def test_the_command_says_where_to_look(data: Path, words: tuple[str, ...], said: str) -> None:
    """Red when it comes out as a catalog that could not do it now: to try again would not help."""
    refused = CliRunner().invoke(app, [*words, "--data", str(data)])
    assert isinstance(refused.exception, CommandRefused), refused.exception
    assert said in str(refused.exception)
