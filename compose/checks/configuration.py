"""Settings, secrets and who may reach the store."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from compose import credentials
from compose.checks.finding import Finding, Subject, bad, ok, warn
from compose.credentials import METRICS_TOKEN_VARIABLE
from compose.join_token import cluster_secret
from compose.refusal import StartRefused
from compose.setting import Setting
from compose.settings import Settings, given, table
from compose.variables import unknown


def settings(subject: Subject) -> Iterator[Finding]:
    """Variables that nobody reads, values that can't be used, one half of a pair, what a restart would change."""
    strange = unknown(subject.environment)
    for name, near in strange.items():
        meant = f"did you mean {near}? " if near else ""
        yield warn("settings", f"{name} is no setting of Trivet", f"{meant}unset {name}")
    plain = {setting.env: setting for setting in table().values() if not setting.secret}
    given_here = sorted(name for name, text in subject.environment.items() if text and name in plain)
    try:
        Settings.read(subject.environment, {})
        credentials.from_environment(subject.environment)
        credentials.metrics_token(subject.environment)
    except StartRefused as refusal:
        yield bad("settings", str(refusal), "correct it before the next start")
        return
    differing = [
        name
        for name in given_here
        if name in subject.in_force
        and _rendered(plain[name], subject.environment[name]) != subject.in_force[name]
    ]
    for name in differing:
        if name == table()["data"].env:
            continue  # the supervisor may have been told the same directory by another name
        yield warn(
            "settings",
            f"{name} is {subject.environment[name]!r} here and {subject.in_force[name]!r} in the running store",
            "stop the store and start it again to have it as here, or unset the variable",
        )
    if not strange and not differing:
        yield ok("settings", _known(len(given_here)))


def _known(given: int) -> str:
    if not given:
        return "defaults"
    return "one variable set, and it is known" if given == 1 else f"{given} variables set, all of them known"


def _rendered(setting: Setting, text: str) -> str:
    """As the supervisor hands it on."""
    return setting.render(setting.parse(text))


def secrets(subject: Subject) -> Iterator[Finding]:
    """The credentials and the cluster secret can be read, by their owner only."""
    if not subject.founded:
        return
    environment = subject.in_force or subject.environment
    faults = []
    try:
        credentials.load(subject.place, environment)
    except StartRefused as refusal:
        faults.append(
            bad("secrets", str(refusal), "or set both TRIVET_ROOT_ACCESS_KEY and TRIVET_ROOT_SECRET_KEY")
        )
    try:
        in_force = Settings.read(environment, {"data": subject.place.root}, secrets=("join_token",))
        cluster_secret(in_force)
    except StartRefused as refusal:
        faults.append(
            bad(
                "secrets",
                str(refusal),
                "without it no process can reach a node: put back the file of this store, or name its join token "
                "(TRIVET_JOIN_TOKEN_FILE)",
            )
        )
    yield from faults
    if not faults:
        found = given(environment).find("root_access_key")
        source = f"from {found.source}" if found is not None else str(subject.place.credentials)
        secret = "of the join token" if in_force.join_token else "readable by its owner only"
        yield ok("secrets", f"root key {source}, cluster secret {secret}")


def directory(subject: Subject) -> Iterator[Finding]:
    """The data directory is ours alone."""
    root = subject.place.root
    if not root.exists():
        parent = _first_existing(root.absolute())
        if os.access(parent, os.W_OK | os.X_OK):
            yield ok("data directory", f"{root} is not there yet; trivet up makes it")
        else:
            yield bad(
                "data directory", f"{root} can't be made: {parent} is not ours to write", "choose another one"
            )
        return
    about = root.stat()
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield bad(
            "data directory", f"{root} can't be written", f"run this as its owner (user id {about.st_uid})"
        )
    elif about.st_uid != os.geteuid():
        yield warn(
            "data directory",
            f"{root} belongs to user {about.st_uid}, this is user {os.geteuid()}",
            "run the commands as the user that runs the store: files made now would not be its own",
        )
    elif about.st_mode & 0o077:
        yield warn("data directory", f"{root} can be entered by other users", f"chmod 700 {root}")
    else:
        yield ok("data directory", f"{root.absolute()}, for its owner only")


def _first_existing(path: Path) -> Path:
    return path if path.exists() or path == path.parent else _first_existing(path.parent)


def reach(subject: Subject) -> Iterator[Finding]:
    """Who can reach the endpoint, and read its metrics."""
    host = subject.in_force.get(table()["host"].env, subject.settings.host)
    source = subject.in_force or subject.environment
    if _is_loopback(host):
        yield ok("endpoint", f"on {host}: only this machine reaches it")
        return
    if not _has_metrics_token(source):
        yield warn(
            "endpoint",
            f"on {host}, and everybody who reaches it can read /-/metrics",
            f"set {METRICS_TOKEN_VARIABLE} and start the store again",
        )
    yield warn(
        "endpoint",
        f"on {host}, without TLS: who listens on the network sees the objects",
        "put a proxy that encrypts before it, or keep the network to yourself",
    )


def _has_metrics_token(environment: Mapping[str, str]) -> bool:
    try:
        return bool(credentials.metrics_token(environment))
    except StartRefused:
        return True  # `settings` says what is wrong with it


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
