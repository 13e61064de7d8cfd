import socket

import pytest

from latchflow.dev.ports import Ports
from latchflow.errors import ConfigurationError


def test_chosen_ports_are_free_and_all_different() -> None:
    ports = Ports()

    chosen = [ports.choose() for _ in range(50)]

    assert len(set(chosen)) == 50
    with socket.create_server(("127.0.0.1", chosen[0])):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_given_port_that_somebody_listens_on_is_refused(host: str) -> None:
    with socket.create_server((host, 0)) as holder:
        port = holder.getsockname()[1]

        with pytest.raises(ConfigurationError, match=rf"Port {port} .*--ui-port"):
            Ports().choose(port, "--ui-port")


def test_one_port_for_two_options_is_refused() -> None:
    ports = Ports()
    port = Ports().choose()
    ports.choose(port, "--api-port")

    with pytest.raises(ConfigurationError, match="another option"):
        ports.choose(port, "--ui-port")
