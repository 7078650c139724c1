"""One TOML file: between the environment and the defaults, and exact about what it can't use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compose import config_file, credentials
from compose.refusal import StartRefused
from compose.resolving import resolve
from compose.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trivet.toml"
    path.touch(0o644)
    return path


def _read(file: Path, text: str) -> Settings:
    file.write_text(text)
    return Settings.read({"TRIVET_CONFIG": str(file)}, {})


def test_options_win_over_the_environment_that_over_the_file_and_the_file_over_defaults(file: Path) -> None:
    """Red for any two places that change their order."""
    file.write_text('port = 9001\nregion = "eu-west-1"\nnodes = 5\n')
    resolved = resolve(
        {"TRIVET_CONFIG": str(file), "TRIVET_PORT": "9002", "TRIVET_REGION": "eu-west-2", "TRIVET_ZONE": ""},
        {"port": 9003, "host": None},
    )
    settings = resolved.settings
    assert (settings.port, settings.region, settings.nodes, settings.fronts) == (9003, "eu-west-2", 5, 0)
    assert resolved.sources == {"port": "--port", "region": "TRIVET_REGION", "nodes": f"nodes in {file}"}
    assert resolved.file == file


def test_each_kind_of_value(file: Path) -> None:
    settings = _read(
        file,
        'data = "/srv/trivet"\nport = 9100\ndomains = ["s3.example", "localhost"]\nnode_dirs = ["/a", "/b"]\n'
        'listen = "10.0.0.5:9000"\n',
    )
    assert (settings.data, settings.port, settings.domains) == (
        Path("/srv/trivet"),
        9100,
        ("s3.example", "localhost"),
    )
    assert (settings.node_dirs, settings.listen) == ((Path("/a"), Path("/b")), "10.0.0.5:9000")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 9000", "prot in {file} is no setting of Trivet: write port, or remove the line"),
        ("TRIVET_PORT = 9000", "write port, or remove the line"),
        ("log-level = 'info'", "write log_level, or remove the line"),
        ("node_dir = ['/a']", "write node_dirs, or remove the line"),
        ("catalog_fil = '/x'", "write catalog_file, or remove the line"),
        ("port_file = '/x'", "port_file in {file} is no setting"),
        ("colour = 'red'", "remove the line; `trivet config show` names all settings"),
        (
            "[front]\nport = 9000",
            "[front] in {file} is no setting of Trivet: write the settings without a table",
        ),
        ("port = '9000'", "port in {file} can't be used: write a whole number without quotes: port = 9000"),
        ("port = true", "write a whole number without quotes: port = NUMBER"),
        ("port = 1.5", "write a whole number without quotes: port = NUMBER"),
        ("port = 99999", "port in {file}=99999 can't be used: must be from 0 to 65535"),
        ("region = 5", 'write text in quotes: region = "5"'),
        ("domains = 'localhost'", 'write a list of texts: domains = ["localhost"]'),
        ("domains = [1]", "write a list of texts"),
        ("advertise = '10.0.0.5:9100'", "advertise in {file} says where others reach a node"),
        ("port = ", "{file} is not TOML"),
        ("port = 1\nport = 2", "{file} is not TOML"),
    ],
)
def test_what_can_not_be_used_is_refused_with_what_to_write(file: Path, text: str, said: str) -> None:
    """One line for an operator, and never a traceback."""
    with pytest.raises(StartRefused, match=re.escape(said.format(file=file))) as refusal:
        _read(file, text)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """Red when it counts as empty: the store would come up elsewhere, and empty."""
    with pytest.raises(StartRefused, match="can't be read: No such file"):
        Settings.read({"TRIVET_CONFIG": str(tmp_path / "none.toml")}, {})


def test_bytes_that_are_no_text_and_a_file_without_end(file: Path) -> None:
    file.write_bytes(b"zone = '\xff'")
    with pytest.raises(StartRefused, match="not UTF-8"):
        Settings.read({"TRIVET_CONFIG": str(file)}, {})
    with pytest.raises(StartRefused, match="more than"):
        Settings.read({"TRIVET_CONFIG": "/dev/zero"}, {})


def test_the_file_of_the_system_is_read_where_it_is_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_file, "SYSTEM_FILE", file)
    file.write_text("port = 9001")
    assert Settings.read({}, {}).port == 9001
    assert Settings.read({"TRIVET_CONFIG": "none"}, {}).port == 9000
    file.unlink()
    assert Settings.read({}, {}).port == 9000


def test_child_processes_read_no_file(file: Path) -> None:
    """Red when they do: one that is edited into nonsense, or with an empty value told by an option, would stop or
    change processes of a running store at their next restart."""
    settings = _read(file, 'zone = "a"\nport = 9001\n')
    environment = {"TRIVET_CONFIG": str(file), **settings.to_environment()}
    file.write_text("nonsense")
    assert Settings.read(environment, {}) == settings


def test_a_literal_secret_is_taken_from_a_file_of_its_owner_only(file: Path) -> None:
    """Red when the mode is not looked at."""
    text = 'catalog = "postgresql://u:hush@h/d"'
    with pytest.raises(StartRefused, match=r"catalog is a secret.*write catalog_file.*chmod 600") as refusal:
        _read(file, text)
    assert "hush" not in str(refusal.value)
    file.chmod(0o600)
    assert _read(file, text).catalog == "postgresql://u:hush@h/d"


def test_secrets_of_the_file_reach_the_credentials_and_child_processes(file: Path, tmp_path: Path) -> None:
    """Red when only the table's settings are handed on: a front would look for keys that were never made."""
    (tmp_path / "secret-key").write_text("a-long-secret\n")
    file.write_text(
        f'root_access_key = "root"\nroot_secret_key_file = "{tmp_path / "secret-key"}"\nmetrics_token = "scrape-me"\n'
    )
    file.chmod(0o600)
    environment = {"TRIVET_CONFIG": str(file)}
    root = credentials.RootCredentials("root", "a-long-secret")
    assert credentials.from_environment(environment) == root
    handed_on = {
        **credentials.to_environment(environment),
        **Settings.read(environment, {}).to_environment(),
    }
    file.unlink()
    assert credentials.from_environment(handed_on) == root
    assert credentials.metrics_token(handed_on) == "scrape-me"
    assert "a-long-secret" not in "".join(handed_on.values()), "it stays in its file"


def test_half_of_the_root_credentials_in_the_file(file: Path) -> None:
    file.write_text('root_access_key = "root"')
    file.chmod(0o600)
    with pytest.raises(StartRefused, match="TRIVET_ROOT_SECRET_KEY_FILE"):
        credentials.from_environment({"TRIVET_CONFIG": str(file)})
