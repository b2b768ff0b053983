"""Addresses of loopback: one owner each, free ports, and errors that say what to do."""

import socket
from contextlib import closing

import pytest
from eastgate.proxy.errors import TrialError
from eastgate.trial import loopback
from eastgate.trial.loopback import Loopback, is_free, some_port


@pytest.fixture
def port() -> int:
    return some_port("127.0.0.1")


def test_two_trials_have_addresses_of_their_own(port: int) -> None:
    with closing(Loopback.claim(port)) as first, closing(Loopback.claim(port)) as second:
        assert first.address(1) != second.address(1)
        assert first.address(1).rpartition(".")[0] == first.address(2).rpartition(".")[0]
        taken = first.address(1)
    with closing(Loopback.claim(port)) as again:
        assert again.address(1) == taken


def test_a_block_where_somebody_listens_is_passed_over(port: int) -> None:
    with closing(Loopback.claim(port)) as found:
        address = found.address(1)
    with socket.create_server((address, port)), closing(Loopback.claim(port)) as other:
        assert not is_free(address, port)
        assert other.address(1) != address


def test_a_port_that_is_taken_everywhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "BLOCKS", 3)
    with socket.create_server(("", 0)) as server:
        number = server.getsockname()[1]
        with pytest.raises(TrialError, match=f"port {number} of the service is not free at any address of loopback"):
            Loopback.claim(number)


def test_a_port_that_takes_root_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str, __: int) -> bool:
        raise PermissionError(13, "below 1024 takes root")

    monkeypatch.setattr(loopback, "is_free", refused)
    with pytest.raises(TrialError, match="port 80 of the service, where its clients reach it: below 1024 takes root"):
        Loopback.claim(80)
