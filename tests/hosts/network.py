"""Hosts on one machine: a network namespace each, with its own address, on a switch that a test can pull cables of.

The switch has a namespace of its own too, so that no firewall of this machine looks at what goes through it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

CLONE_NEWNET = 0x40000000


def missing() -> str:
    """Why this can't be had here; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    probe = f"trivet-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode != 0:
        return "this kernel makes no network namespaces"
    _ip("netns", "delete", probe)
    return ""


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class Network:
    """Make hosts with `host`; what runs in them must have ended before `close`."""

    def __init__(self) -> None:
        self._id = f"{os.getpid() % 1_000_000:x}"
        self._subnet = f"10.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}"
        self._switch = f"trivet-{self._id}-switch"
        self._hosts: dict[str, Host] = {}
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        self.address = f"{self._subnet}.1"
        """Of the test itself: it is reached from all hosts, and reaches them."""
        self._cable = f"tv{self._id}r"
        self._plug(self._cable, f"tv{self._id}s1")
        self.database = f"{self._subnet}.254"
        """Another address of the test's, for a server that one host can be cut off from."""
        for address in (self.address, self.database):
            _ip("address", "add", f"{address}/24", "dev", self._cable)
        _ip("link", "set", self._cable, "up")

    def _plug(self, end: str, other: str) -> None:
        _ip("link", "add", end, "type", "veth", "peer", "name", other)
        _ip("link", "set", other, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", other, "master", "bridge", "up")

    def host(self, name: str) -> Host:
        """The host of that name, made at the first call."""
        if name not in self._hosts:
            number = len(self._hosts) + 2
            space = f"trivet-{self._id}-{name}"
            end, other = f"tv{self._id}h{number}", f"tv{self._id}s{number}"
            _ip("netns", "add", space)
            self._plug(end, other)
            _ip("link", "set", end, "netns", space)
            address = f"{self._subnet}.{number}"
            _ip("-n", space, "address", "add", f"{address}/24", "dev", end)
            _ip("-n", space, "link", "set", end, "up")
            _ip("-n", space, "link", "set", "lo", "up")
            self._hosts[name] = Host(space, address, self._switch, other)
        return self._hosts[name]

    def close(self) -> None:
        """The ends of cables go with their namespaces."""
        for host in self._hosts.values():
            _ip("netns", "delete", host.space)
        _ip("netns", "delete", self._switch)


class Host:
    """One namespace; `inside` is what a command line begins with."""

    def __init__(self, space: str, address: str, switch: str, cable: str) -> None:
        self.space = space
        self.address = address
        self.inside = ("ip", "netns", "exec", space)
        self._switch = switch
        self._cable = cable

    def cut(self) -> None:
        """Pulls the cable: nothing comes or goes, and nobody is told."""
        _ip("-n", self._switch, "link", "set", self._cable, "down")

    def mend(self) -> None:
        _ip("-n", self._switch, "link", "set", self._cable, "up")

    def lose(self, address: str) -> None:
        """What is sent to that address vanishes, in silence."""
        _ip("-n", self.space, "route", "add", "blackhole", f"{address}/32")

    def find(self, address: str) -> None:
        """The inverse of `lose`."""
        _ip("-n", self.space, "route", "delete", "blackhole", f"{address}/32")

    def listener(self, port: int) -> socket.socket:
        """A listening socket on this host, made by this process: what systemd holds for a socket unit."""
        made: list[socket.socket] = []

        def make() -> None:
            # The namespace is the thread's; the socket stays where it was made.
            with Path(f"/run/netns/{self.space}").open() as space:
                assert ctypes.CDLL(None).setns(space.fileno(), CLONE_NEWNET) == 0
            made.append(socket.create_server((self.address, port), backlog=1024))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]
