"""docs/configuration.md, from the table of settings (see compose.api_document, which writes it)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from compose.cli.commands import NOT_OF_UP
from compose.config_file import CONFIG_VARIABLE, SYSTEM_FILE
from compose.setting import Setting, option_name
from compose.settings import CREDENTIALS, Settings, default_text, table

PATH = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

_HEAD = f"""# Configuration

Written by `make docs` from the table of settings, which every process reads.

A setting is given by an option, an environment variable or a key of one TOML file. **Options win over the environment,
that wins over the file, and the file over the defaults.** The file is the one that `--config FILE` or the variable
`{CONFIG_VARIABLE}` names, else `{SYSTEM_FILE}` where that is there; `{CONFIG_VARIABLE}=none` means no file. An
empty variable counts as not set.

```sh
trivet config show          # each setting, its value in force and where that comes from; --json for programs
trivet doctor               # also names variables that look like settings and are none
```

In the file, an unknown key, a value of the wrong kind and half a setting (one root key without the other,
`advertise` without `listen`, `join` without a token) end the start with exit code 78 and one line that says what to
write. So does a variable that is almost one of ours; others that begin alike are told of and no more. (Kubernetes sets
some for a service called trivet, `TRIVET_PORT` among them, as a URL: say `enableServiceLinks: false`, or call the
service otherwise.) Settings are read once, at the start; `trivet up` hands its own to all processes that it starts.

## Secrets

The root credentials, the token for metrics, the join token and the URL of the catalog are secrets. They have no
options, because those can be seen in `ps`. Each is given by its variable, or by a file: `NAME_FILE` names it, in TOML
`name_file`. Both at once are refused. Written out in the TOML file they are refused unless it is for its owner only
(`chmod 600`). A process reads those that it needs: a node only the join token, so the others' files need not be on its
host. They stand in no log, no answer of the admin API and not in `trivet config show`, which says `(set)`.
"""

_UNITS = """
## systemd

`compose/systemd/` has the units: `trivet.service` is the whole store on one machine, `trivet-front.socket` with
`trivet-front.service`, `trivet-node@.service` and `trivet-steward.service` are the processes of a store on several
hosts. They run as the user `trivet`, see the file system read-only but for `/var/lib/trivet`, are restarted when they
stop answering, and end their requests before they stop. As root, in a checkout:

```sh
python3 -m venv /opt/trivet && /opt/trivet/bin/pip install --require-hashes -r requirements.lock
/opt/trivet/bin/pip install --no-deps .
install -m 644 compose/systemd/*.service compose/systemd/*.socket /etc/systemd/system/
install -m 644 compose/systemd/trivet.sysusers /etc/sysusers.d/trivet.conf && systemd-sysusers
install -m 644 compose/systemd/trivet.tmpfiles /etc/tmpfiles.d/trivet.conf && systemd-tmpfiles --create
systemctl daemon-reload && systemctl enable --now trivet.service
```
"""


def document() -> str:
    """The whole text."""
    return (
        "\n".join(
            [_HEAD, *_secrets(), "", "## Settings", "", *_settings(), "", *_reference(), _UNITS.rstrip()]
        )
        + "\n"
    )


def _secrets() -> Iterator[str]:
    yield "| key | variable | or a file named by | |"
    yield "| --- | --- | --- | --- |"
    for name, env in CREDENTIALS.items():
        yield f"| `{name}` | `{env}` | `{env}_FILE` | {_CREDENTIAL_HELP[name]} |"
    for name, setting in table().items():
        if setting.secret:
            yield f"| `{name}` | `{setting.env}` | `{setting.file_env}` | {setting.help} |"


_CREDENTIAL_HELP = {
    "root_access_key": "access key of the root user; made at the first start when neither root key is given",
    "root_secret_key": "its secret key",
    "metrics_token": "what a scrape of `/-/metrics` must bring as `Authorization: Bearer`; without it anybody may read",
}


def _settings() -> Iterator[str]:
    yield "Options are those of `trivet up`, except where the text names another process."
    yield ""
    yield "| option | variable | default | |"
    yield "| --- | --- | --- | --- |"
    for name, setting in table().items():
        if not setting.secret:
            default = f"`{default_text(name)}`" if default_text(name) else ""
            yield f"| `{option_name(name)}` | `{setting.env}` | {default} | {setting.help} |"


def _reference() -> Iterator[str]:
    yield "## trivet.toml"
    yield ""
    yield "All keys, with their defaults. Take what you change."
    yield ""
    yield "```toml"
    for name, env in CREDENTIALS.items():
        yield f"# {_CREDENTIAL_HELP[name]} ({env})".replace("`", "")
        yield f'# {name}_file = "/etc/trivet/{name.replace("_", "-")}"'
        yield ""
    for entry in fields(Settings):
        setting: Setting = table()[entry.name]
        yield f"# {setting.help}".replace("`", "")
        if entry.name in NOT_OF_UP:
            yield "# (not for trivet up)"
        yield f"# {_example(entry.name, setting, entry.default)}"
        yield ""
    yield "```"


def _example(name: str, setting: Setting, default: object) -> str:
    if setting.secret:
        return f'{name}_file = "/etc/trivet/{name.replace("_", "-")}"'
    if isinstance(default, int):
        return f"{name} = {default}"
    if isinstance(default, tuple):
        return f"{name} = [{', '.join(f'{chr(34)}{word}{chr(34)}' for word in default)}]"
    return f'{name} = "{default}"'
