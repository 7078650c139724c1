"""The sockets that the supervisor hands out."""

import socket

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


def test_children_do_not_inherit_by_accident() -> None:
    with listening.listen_node() as listener:
        assert not listener.get_inheritable()
        assert listener.getsockname()[0] == "127.0.0.1"
