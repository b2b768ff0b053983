"""A GOAWAY whose error code HTTP/2 does not name (a flipped bit is enough): some of gRPC's releases end the process."""

import socket
import struct
import threading

from ..support.gateway_process import Eastgate
from ..support.waiting import until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, GOAWAY = 1, 4, 7
ROUNDS = 3
UNKNOWN_CODE = 0x8930_2464


def frame(kind: int, payload: bytes) -> bytes:
    """An HTTP/2 frame of stream 0 without flags."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload


def opens_a_stream(client: socket.socket) -> bool:
    """Wait for the HEADERS of a stream, which a GOAWAY must meet; False when the client goes without."""
    with client.makefile("rb") as stream:
        stream.read(len(PREFACE))
        while len(head := stream.read(9)) == 9:
            if head[3] == HEADERS:
                return True
            stream.read(int.from_bytes(head[:3], "big"))
    return False


def test_goaway_of_an_unknown_code_costs_the_stream_and_never_the_process() -> None:
    told: list[socket.socket] = []

    def say_goodbye() -> None:
        while len(told) < ROUNDS:
            connection, _ = listening.accept()
            connection.sendall(frame(SETTINGS, b""))
            if opens_a_stream(connection):
                connection.sendall(frame(GOAWAY, struct.pack(">II", 0, UNKNOWN_CODE)))
                told.append(connection)
            else:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=say_goodbye, daemon=True).start()
        with Eastgate(f"127.0.0.1:{listening.getsockname()[1]}") as gateway:
            until(lambda: len(told) == ROUNDS or not gateway.running, "the gateway comes back after each GOAWAY")
            assert gateway.running, gateway.stderr
            assert gateway.get("/ready")[0] == 503
    for connection in told:
        connection.close()
