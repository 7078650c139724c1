"""The sockets that the supervisor hands out."""

import socket
from pathlib import Path

import pytest

from compose import listening
from compose.refusal import StartRefused


def test_a_taken_port_is_named_with_what_to_type() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartRefused) as refusal:
            listening.listen_s3("127.0.0.1", port)
    assert f"port {port}" in str(refusal.value)
    assert "PORT=" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(StartRefused, match=r"no\.such\.host\.invalid"):
        listening.listen_s3("no.such.host.invalid", 0)


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_url_is_one_that_a_client_here_can_use(host: str, shown: str) -> None:
    with listening.listen_s3(host, 0) as listener:
        assert listening.url(listener) == f"http://{shown}:{listener.getsockname()[1]}"
        socket.create_connection((shown, listener.getsockname()[1])).close()


def test_a_node_listens_where_only_its_owner_can_connect(tmp_path: Path) -> None:
    path = tmp_path / "node-1.sock"
    listening.listen_node(path).close()  # left by an earlier life
    with listening.listen_node(path) as listener:
        assert listening.address(listener) == (str(path), 0)
        assert not listener.get_inheritable()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_node_listens_on_the_loopback_where_the_path_is_too_long(tmp_path: Path) -> None:
    with listening.listen_node(tmp_path / ("n" * 120)) as listener:
        host, port = listening.address(listener)
        assert host == "127.0.0.1"
        socket.create_connection((host, port)).close()
