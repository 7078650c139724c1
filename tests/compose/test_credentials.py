"""Root credentials and the cluster secret."""

import configparser
import stat
from pathlib import Path

import pytest

from compose import credentials
from compose.data_dir import DataDir, write_private
from compose.refusal import StartRefused

GIVEN = {"TRIVET_ROOT_ACCESS_KEY": "root", "TRIVET_ROOT_SECRET_KEY": "a%long/secret"}


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path)


def test_generated_once_and_kept(data: DataDir) -> None:
    first = credentials.settle(data, {})
    assert credentials.settle(data, {}) == credentials.load(data, {}) == first
    assert len(first.access_key) == 20
    assert len(first.secret_key) == 40
    assert stat.S_IMODE(data.credentials.stat().st_mode) == 0o600
    assert first.secret_key not in repr(first)


def test_two_stores_never_share_a_password(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(credentials.settle(DataDir(tmp_path / name), {}))
    assert made[0].secret_key != made[1].secret_key
    assert made[0].access_key != made[1].access_key


def test_the_file_is_an_aws_shared_credentials_file(data: DataDir) -> None:
    made = credentials.settle(data, {})
    parser = configparser.RawConfigParser()
    parser.read(data.credentials)
    assert dict(parser["trivet"]) == {
        "aws_access_key_id": made.access_key,
        "aws_secret_access_key": made.secret_key,
    }


def test_the_environment_wins_and_is_not_written_down(data: DataDir) -> None:
    assert credentials.settle(data, GIVEN) == credentials.RootCredentials("root", "a%long/secret")
    assert not data.credentials.exists()


@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_half_a_pair_is_refused_and_the_missing_half_named(missing: str) -> None:
    half = {name: value for name, value in GIVEN.items() if name != missing}
    with pytest.raises(StartRefused, match=f"but {missing} is not"):
        credentials.from_environment(half)


@pytest.mark.parametrize(
    ("access_key", "secret_key"), [("ab", "long enough"), ("a/b/c", "longenough"), ("root", "short")]
)
def test_unfit_credentials_are_refused_without_showing_them(access_key: str, secret_key: str) -> None:
    with pytest.raises(StartRefused) as refusal:
        credentials.from_environment(
            {"TRIVET_ROOT_ACCESS_KEY": access_key, "TRIVET_ROOT_SECRET_KEY": secret_key}
        )
    assert secret_key not in str(refusal.value)


def test_a_damaged_file_is_refused_without_showing_it(data: DataDir) -> None:
    write_private(data.credentials, "aws_secret_access_key = hush-hush\n")
    with pytest.raises(StartRefused) as refusal:
        credentials.load(data, {})
    assert "hush" not in str(refusal.value)
    assert str(data.credentials) in str(refusal.value)


def test_a_file_that_others_can_read_is_refused(data: DataDir) -> None:
    credentials.settle(data, {})
    data.credentials.chmod(0o644)
    with pytest.raises(StartRefused, match="chmod 600"):
        credentials.load(data, {})


def test_cluster_secret_is_made_once(data: DataDir) -> None:
    secret = credentials.settle_cluster_secret(data)
    assert len(secret) == 32
    assert credentials.settle_cluster_secret(data) == secret
    assert stat.S_IMODE(data.cluster_secret.stat().st_mode) == 0o600


def test_a_short_cluster_secret_is_refused(data: DataDir) -> None:
    write_private(data.cluster_secret, "abcd\n")
    with pytest.raises(StartRefused, match="64 hexadecimal"):
        credentials.settle_cluster_secret(data)
