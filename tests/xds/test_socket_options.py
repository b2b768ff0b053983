"""Socket options: which are honoured, which are named, and which numbers cannot be."""

import socket

import pytest
from eastgate.xds.socket_options import HONOURED, SocketOption, decode_socket_options


def test_options_of_istios_keepalive_are_honoured_in_order() -> None:
    warnings: list[str] = []
    said = [
        {"description": "on", "level": 1, "name": 9, "int_value": 1},
        {"level": 6, "name": 4, "int_value": 120, "state": "STATE_LISTENING"},
        {"level": 6, "name": 5, "int_value": 60},
    ]
    assert decode_socket_options(said, warnings) == (
        SocketOption(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        SocketOption(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120),
        SocketOption(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60),
    )
    assert warnings == []


@pytest.mark.parametrize(
    "option",
    [
        # SO_REUSEPORT is ours to decide; bytes are no number; of one kind of socket or IP version alone.
        {"level": 1, "name": 15, "int_value": 1},
        {"level": 1, "name": 9, "buf_value": b"\1\0\0\0"},
        {"level": 1, "name": 9},
        {"level": 1, "name": 9, "int_value": 1, "type": b""},
        {"level": 1, "name": 9, "int_value": 1, "ip_version": "IPV6"},
        {},
    ],
)
def test_other_options_are_named(option: dict[str, object]) -> None:
    warnings: list[str] = []
    assert decode_socket_options([{**option, "description": "why"}], warnings) == ()
    (warning,) = warnings
    assert warning.startswith(f"socket_options: level {option.get('level', 0)}, name {option.get('name', 0)} (why)")


@pytest.mark.parametrize("value", [-1, 2**31, 2**63 - 1])
def test_number_that_no_option_holds_is_an_error(value: int) -> None:
    with pytest.raises(ValueError, match="int_value"):
        decode_socket_options([{"level": 1, "name": 36, "int_value": value}], [])


def test_every_honoured_option_has_its_name() -> None:
    assert all(getattr(socket, name) == number for (_, number), name in HONOURED.items())
