"""The join token: what it looks like, what it opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose import credentials
from compose.announcing import FrontAddress
from compose.data_dir import DataDir
from compose.init_store import init_store, join_token
from compose.join_token import JoinToken, cluster_secret
from compose.refusal import StartRefused
from compose.settings import Settings

TOKEN = JoinToken(b"c" * 16, b"s" * 32)


def test_a_token_is_one_word_and_comes_back_whole() -> None:
    text = TOKEN.render()
    assert text.startswith("trivet1.")
    assert text.isprintable()
    assert " " not in text
    assert JoinToken.parse(f" {text}\n") == TOKEN
    assert "ssss" not in repr(TOKEN)


@pytest.mark.parametrize(
    "text", ["", "trivet1.", TOKEN.render()[:-1], TOKEN.render()[8:], "trivet1.####", "trivet2.AA"]
)
def test_what_is_no_token_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(StartRefused) as refused:
        JoinToken.parse(text)
    assert len(text) < 9 or text[8:] not in str(refused.value)


def test_a_token_takes_the_place_of_the_secret_file(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, join_token=TOKEN.render())
    assert cluster_secret(settings) == TOKEN.secret
    credentials.settle_cluster_secret(DataDir(tmp_path))
    with pytest.raises(StartRefused, match="two different stores"):
        cluster_secret(settings)


def test_init_makes_a_store_once(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    assert "is made" in init_store(settings, {})
    first = join_token(settings)
    assert "is there" in init_store(settings, {})
    assert join_token(settings) == first
    assert JoinToken.parse(first).secret == cluster_secret(settings)


def test_init_finishes_what_a_crash_left(tmp_path: Path) -> None:
    """The secret is there before the catalog."""
    settings = Settings(data=tmp_path)
    secret = credentials.settle_cluster_secret(DataDir(tmp_path))
    init_store(settings, {})
    assert cluster_secret(settings) == secret


def test_init_refuses_a_catalog_whose_secret_is_not_here(tmp_path: Path) -> None:
    """Red when a second secret was made: nodes would answer nobody."""
    settings = Settings(data=tmp_path)
    init_store(settings, {})
    DataDir(tmp_path).cluster_secret.unlink()
    with pytest.raises(StartRefused, match="join token"):
        init_store(settings, {})


def test_s18_init_makes_no_catalog_beside_a_nodes_data(tmp_path: Path) -> None:
    """Red when only the directories of a plan were looked at."""
    (tmp_path / "node-1" / "segments").mkdir(parents=True)
    with pytest.raises(StartRefused, match="not empty"):
        init_store(Settings(data=tmp_path), {})
    assert not DataDir(tmp_path).catalog.exists()


def test_init_refuses_the_token_of_another_store(tmp_path: Path) -> None:
    init_store(Settings(data=tmp_path), {})
    secret = cluster_secret(Settings(data=tmp_path))
    other = JoinToken(b"another cluster!", secret)
    with pytest.raises(StartRefused, match="not of the store"):
        init_store(Settings(data=tmp_path, join_token=other.render()), {})


def test_a_fronts_url_is_an_address() -> None:
    assert FrontAddress.parse("http://front-1:9000") == FrontAddress("front-1", 9000, encrypted=False)
    assert FrontAddress.parse("https://[fd00::5]/") == FrontAddress("fd00::5", 443, encrypted=True)
    for url in ("front-1:9000", "ftp://front-1", "http://front-1/path", "http://front-1:port"):
        with pytest.raises(StartRefused, match="no front's URL"):
            FrontAddress.parse(url)
