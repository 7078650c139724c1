#!/usr/bin/env bash
# What the tests need beside Python packages: rclone, FUSE, strace, Prometheus and others. Installs them where it may
# (root on Debian or Ubuntu); elsewhere it says what to install, and fails in CI (CI=true), where no test may be
# skipped unseen. With `stack`, what the tests of the Compose stack need too.
set -eu

missing=()
command -v rclone >/dev/null 2>&1 || missing+=(rclone)
command -v strace >/dev/null 2>&1 || missing+=(strace)
command -v fusermount3 >/dev/null 2>&1 || missing+=(fuse3)
command -v systemd-analyze >/dev/null 2>&1 || missing+=(systemd)
command -v prometheus >/dev/null 2>&1 || missing+=(prometheus)
command -v ip >/dev/null 2>&1 || missing+=(iproute2)
command -v curl >/dev/null 2>&1 || missing+=(curl)
[ -n "$(find /usr/lib/postgresql -name initdb -print -quit 2>/dev/null)" ] || missing+=(postgresql)
command -v docker-compose >/dev/null 2>&1 || docker compose version >/dev/null 2>&1 || missing+=(docker-compose)
if [ "${1:-}" = stack ]; then # what `make test-compose` uses beside these
    command -v dockerd >/dev/null 2>&1 || missing+=(docker.io)
    command -v debootstrap >/dev/null 2>&1 || missing+=(debootstrap)
fi
[ "${#missing[@]}" -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing system packages for the tests: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 && exit 0
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null && exit 0
fi

echo "The tests use these programs, please install them: ${missing[*]} (apt-get install ${missing[*]})" >&2
if [ "${CI:-}" = true ]; then
    exit 1
fi
echo "Going on without: the tests that need them are skipped and counted as such." >&2
