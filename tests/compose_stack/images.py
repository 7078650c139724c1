"""The images that the stack is built on, made from Debian's packages under the same tags where they are not there.

The base is what debootstrap makes; PostgreSQL and Prometheus are the installed packages' files in it, started as the
official images start them.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.compose_stack.engine import Engine, run
from tests.system.conftest import ROOT

COMPOSE_FILE = ROOT / "compose" / "docker-compose.yml"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LIBRARIES = Path("/usr/lib/of-postgresql")
_DEBOOTSTRAP_WAIT_S = 600.0

_POSTGRES_ENTRYPOINT = r"""#!/bin/sh
# What the official image does with these variables: docker_setup_env, docker_init_database_dir, docker_setup_db.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --encoding=UTF8 --locale=C.UTF-8 --username="$POSTGRES_USER" \
        --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 >/dev/null
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    printf 'CREATE DATABASE %s;' "$POSTGRES_DB" | postgres --single -j postgres >/dev/null
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


def _tag(service: str) -> str:
    """The default of the variable that names its image."""
    text = COMPOSE_FILE.read_text()
    found = re.search(rf"\$\{{{service.upper()}_IMAGE:-(\S+)\}}", text)
    assert found, f"the image of {service} has no default"
    return found.group(1)


def base_tag() -> str:
    """The default of the Dockerfile's argument."""
    found = re.search(
        r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "compose" / "Dockerfile").read_text(), re.MULTILINE
    )
    assert found, "the base image has no default"
    return found.group(1)


def make_missing_images(engine: Engine, folder: Path) -> None:
    """All that the stack needs but Grafana. Skips where they can't be had."""
    folder.mkdir()
    if not engine.has_image(base_tag()):
        _import(engine, _debian(folder / "base"), base_tag())
    if not engine.has_image(_tag("postgres")):
        _make_postgres(engine, folder / "postgres")
    if not engine.has_image(_tag("prometheus")):
        _make_prometheus(engine, folder / "prometheus")


def _debian(root: Path) -> Path:
    """A Debian of this machine's release, so that its libraries are those of the packages installed here."""
    release = platform.freedesktop_os_release()
    if shutil.which("debootstrap") is None or os.geteuid() != 0 or release.get("ID") != "debian":
        pytest.skip(f"no image {base_tag()}, and it is made on Debian only, by root, with debootstrap")
    packages = "--include=python3,python3-venv,ca-certificates"
    run(
        ["debootstrap", "--variant=minbase", packages, release["VERSION_CODENAME"], str(root)],
        os.environ,
        _DEBOOTSTRAP_WAIT_S,
    )
    # Who trusts an authority of his own here trusts it in the build too.
    shutil.copyfile(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
    return root


def _import(engine: Engine, root: Path, tag: str) -> None:
    archive = root.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=".", filter=_without_downloads)
    engine.docker("import", str(archive), tag)
    archive.unlink()


def _without_downloads(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.startswith("./var/cache/apt/archives/") else entry


def _make_postgres(engine: Engine, context: Path) -> None:
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not homes:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    home = homes[-1].parent.parent
    share = Path("/usr/share/postgresql") / home.name
    for folder in (home, share):
        # Single files of them are links to others of the same folders, or into /etc.
        shutil.copytree(folder, context / "root" / folder.relative_to("/"), ignore=_unused)
    zones = Path("/usr/share/zoneinfo")
    shutil.copytree(zones, context / "root" / zones.relative_to("/"), symlinks=True)
    binaries = [home / "bin" / name for name in ("postgres", "initdb", "pg_isready")]
    _copy_libraries(
        [*binaries, *(home / "lib").glob("libpq*.so"), home / "lib" / "dict_snowball.so"], context
    )
    (context / "entrypoint").write_text(_POSTGRES_ENTRYPOINT)
    (context / "Dockerfile").write_text(
        f"FROM {base_tag()}\n"
        "RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 postgres \\\n"
        " && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data\n"
        "COPY root/ /\n"
        "COPY entrypoint /usr/local/bin/entrypoint\n"
        "RUN chmod 0755 /usr/local/bin/entrypoint\n"
        f"ENV PGDATA=/var/lib/postgresql/data PATH={home}/bin:/usr/local/bin:/usr/bin:/bin\n"
        f"ENV LD_LIBRARY_PATH={_LIBRARIES}\n"
        "STOPSIGNAL SIGINT\n"
        "USER postgres\n"
        'ENTRYPOINT ["entrypoint"]\n'
    )
    engine.docker("build", "--tag", _tag("postgres"), str(context))


def _make_prometheus(engine: Engine, context: Path) -> None:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    context.mkdir()
    shutil.copy(binary, context / "prometheus")
    (context / "Dockerfile").write_text(
        f"FROM {base_tag()}\n"
        "COPY prometheus /bin/prometheus\n"
        "RUN install -d -o nobody -g nogroup /prometheus\n"
        "USER nobody\n"
        'ENTRYPOINT ["/bin/prometheus"]\n'
    )
    engine.docker("build", "--tag", _tag("prometheus"), str(context))


def _unused(_folder: str, names: list[str]) -> set[str]:
    """Of PostgreSQL's folders: the compiler for queries, which needs all of LLVM, and manuals."""
    return {name for name in names if name in {"bitcode", "man"} or name.startswith("llvmjit")}


def _copy_libraries(binaries: list[Path], context: Path) -> None:
    """What they are linked with, as the loader says, without the C library: that of the base fits its loader."""
    told = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=True).stdout
    target = context / "root" / _LIBRARIES.relative_to("/")
    target.mkdir(parents=True)
    for name in sorted(set(re.findall(r"=> (/\S+)", told))):
        if not re.match(r"lib(c|m|dl|rt|pthread|resolv)\.so", Path(name).name):
            shutil.copy(name, target)
