"""One table of settings: read, passed on, documented."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose.cli.commands import NOT_OF_UP, app
from compose.configuration_document import PATH, document
from compose.refusal import StartRefused
from compose.setting import host_and_port, option_name
from compose.settings import CREDENTIALS, Settings, given, table


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    environment = {"TRIVET_PORT": "9100", "TRIVET_REGION": "eu-west-1"}
    settings = Settings.read(environment, {"port": 9200, "host": None})
    assert (settings.port, settings.region, settings.host) == (9200, "eu-west-1", "127.0.0.1")


def test_settings_survive_the_way_to_a_child_process() -> None:
    settings = Settings.read(
        {"TRIVET_DOMAINS": "s3.example,localhost", "TRIVET_NODE_DIRS": "/a:/b:/c"},
        {"data": Path("/some where"), "data_shards": 4},
    )
    assert Settings.read(settings.to_environment(), {}) == settings
    assert settings.node_dirs == (Path("/a"), Path("/b"), Path("/c"))


@pytest.mark.parametrize(
    ("environment", "flags", "named"),
    [
        ({"TRIVET_PORT": "ninethousand"}, {}, "TRIVET_PORT=ninethousand"),
        ({"TRIVET_PORT": "65536"}, {}, "TRIVET_PORT=65536"),
        ({}, {"port": -1}, "--port=-1"),
        ({"TRIVET_LOG_LEVEL": "loud"}, {}, "TRIVET_LOG_LEVEL=loud"),
    ],
)
def test_an_unfit_value_is_refused_by_its_name(
    environment: dict[str, str], flags: dict[str, object], named: str
) -> None:
    with pytest.raises(StartRefused, match=re.escape(named)):
        Settings.read(environment, flags)


def test_every_setting_is_an_option_of_up() -> None:
    """But secrets, which others would see in `ps`, and what only processes that run by themselves read."""
    shown = " ".join(CliRunner().invoke(app, ["up", "--help"], env={"COLUMNS": "400"}).output.split())
    for name, setting in table().items():
        is_option = f"{option_name(name)} " in shown
        assert is_option == (not setting.secret and name not in NOT_OF_UP), name
        if is_option:
            assert setting.help in shown
            assert setting.env in shown


def test_the_document_is_current() -> None:
    """Red when a setting changed and `make docs` was not run."""
    assert PATH.read_text() == document(), "make docs"


def test_the_reference_of_the_document_is_a_file_that_can_be_used(tmp_path: Path) -> None:
    """Each of its lines, and all together they are the defaults."""
    _, _, rest = document().partition("```toml\n")
    reference = rest.partition("```")[0]
    lines = re.findall(r"^# (\w+ = .*)$", reference, re.MULTILINE)
    secrets = [line for line in lines if line.split(" ")[0].endswith("_file")]
    assert len(lines) == len(fields(Settings)) + len(CREDENTIALS)
    assert len(secrets) == len(CREDENTIALS) + 2
    file = tmp_path / "trivet.toml"
    file.write_text("\n".join(line for line in lines if line not in secrets))
    assert Settings.read({"TRIVET_CONFIG": str(file)}, {}) == Settings()
    for line in secrets:
        file.write_text(line)
        given({"TRIVET_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"TRIVET_ADVERTISE": "10.0.0.5:9100"}, "TRIVET_LISTEN"),
        ({"TRIVET_JOIN": "http://10.0.0.5:9000"}, "TRIVET_JOIN_TOKEN_FILE"),
    ],
)
def test_half_a_setting_is_refused_and_the_other_half_named(
    environment: dict[str, str], missing: str
) -> None:
    with pytest.raises(StartRefused, match=missing) as refusal:
        Settings.read(environment, {})
    assert str(refusal.value).startswith(next(iter(environment)))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "listen",
            ["10.0.0.5:9100", "[::]:0", "node.example:1", ""],
            ["9100", "::1:9100", ":9100", "h:x", "h:70000"],
        ),
        ("advertise", ["10.0.0.5:9100"], ["0.0.0.0:9100", "[::]:9100", "10.0.0.5:0"]),
        (
            "join",
            ["http://a:9000", "http://a:9000,https://b/"],
            ["a:9000", "http://u:p@a:9000", "http://a/x"],
        ),
        ("node_name", ["node-1", "a", ""], ["-a", "a b", "x" * 64, "a/b"]),
        (
            "catalog",
            ["postgresql://u:p@h:5432/d", "postgres:///d?host=/run", ""],
            ["mysql://h/d", "/data/catalog"],
        ),
        ("join_token", ["trivet1." + "A" * 64, ""], ["A" * 64, "trivet1.AA", "trivet1.AA AA"]),
    ],
)
def test_what_can_be_given(name: str, good: list[str], bad: list[str]) -> None:
    setting = table()[name]
    for text in good:
        assert setting.render(setting.parse(text)) == text
    for text in bad:
        with pytest.raises(ValueError, match="must") as refusal:
            setting.parse(text)
        assert not setting.secret or text not in str(refusal.value)


def test_the_parts_of_an_address() -> None:
    assert host_and_port("[fd00::5]:9000") == ("fd00::5", 9000)
    assert host_and_port("node.example:9100") == ("node.example", 9100)


@pytest.mark.parametrize("variable", ["TRIVET_CATALOG", "TRIVET_JOIN_TOKEN"])
def test_a_secret_that_can_not_be_used_is_refused_without_showing_it(variable: str) -> None:
    """Red when a refusal quotes the value, as it does for other settings."""
    with pytest.raises(StartRefused, match=variable) as refusal:
        Settings.read({variable: "hush-hush"}, {})
    assert "hush" not in str(refusal.value)


def test_secrets_are_in_no_representation() -> None:
    """A log line or a traceback may have one of the settings in it. Red without repr=False."""
    settings = Settings(catalog="postgresql://u:hush@h/d", join_token="trivet1.hush")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("TRIVET_PROT", "TRIVET_PORT"),
        ("TRIVET_FRONT", "TRIVET_FRONTS"),
        ("TRIVET_NODES_DIRS", "TRIVET_NODE_DIRS"),
        ("TRIVET_LOGLEVEL", "TRIVET_LOG_LEVEL"),
        ("TRIVET_JOIN_TOKEN_FIEL", "TRIVET_JOIN_TOKEN_FILE"),
        ("TRIVET_METRIC_TOKEN", "TRIVET_METRICS_TOKEN"),
        ("TRIVET_GRACE_SEC", "TRIVET_GRACE_S"),
    ],
)
def test_a_variable_that_is_almost_one_of_ours_is_refused(variable: str, meant: str) -> None:
    with pytest.raises(StartRefused, match=f"{variable} is no setting of Trivet: write {meant}, or unset it"):
        Settings.read({variable: "1"}, {})


@pytest.mark.parametrize(
    "variable",
    [
        # Kubernetes, for services called trivet and trivet-node.
        *("TRIVET_SERVICE_HOST", "TRIVET_SERVICE_PORT", "TRIVET_PORT_9000_TCP", "TRIVET_PORT_9000_TCP_ADDR"),
        *("TRIVET_SERVICE_PORT_S3", "TRIVET_NODE_PORT", "TRIVET_NODE_SERVICE_HOST"),
        # Compose, and our tests.
        *("TRIVET_PUBLISH", "TRIVET_IMAGE", "TRIVET_PORT_1", "TRIVET_TEST_CATALOG", "TRIVET_CRASH_SAMPLES"),
    ],
)
def test_what_others_set_ends_no_start(variable: str) -> None:
    """Red with the nearness that a suggestion needs: TRIVET_SERVICE_PORT for TRIVET_PORT."""
    assert Settings.read({variable: "1"}, {}) == Settings()


def test_a_process_reads_only_the_secrets_that_it_needs(tmp_path: Path) -> None:
    """A host of nodes has the same file as the others, and no key to the catalog. Red when every process read all."""
    (tmp_path / "token").write_text("trivet1." + "A" * 64)
    (tmp_path / "token").chmod(0o600)
    given = {
        "TRIVET_CATALOG_FILE": str(tmp_path / "not-here"),
        "TRIVET_JOIN_TOKEN_FILE": str(tmp_path / "token"),
    }
    node = Settings.read(given, {}, secrets=("join_token",))
    assert (node.join_token, node.catalog) == ("trivet1." + "A" * 64, "")
    with pytest.raises(StartRefused, match="not-here"):
        Settings.read(given, {})
