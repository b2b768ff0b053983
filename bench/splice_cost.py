"""CPU of the gateway per gigabyte relayed, copied and spliced, in interleaved pairs of one run.

    python -m bench.splice_cost [--gigabytes 2] [--pairs 7] [--chunk 1048576]

The engine, the sender and the receiver are processes of their own, the engine on one CPU and the others on another;
what is counted is the CPU time of the engine's process, in which the kernel also does most of the receiver's TCP.
`copy` is what eastgate does without pipes: peek, send, discard.
"""

import argparse
import os
import resource
import signal
import socket
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe

from tests.fastpath.driven_engine import Gateway, client_hello

GIGABYTE = 1_000_000_000


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child ends with `work`. Returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def receive_forever(server: socket.socket, chunk: int) -> None:
    """Endpoint: takes hello, length (8 bytes) and so many bytes, and answers with one byte."""
    hello = len(client_hello())
    buffer = bytearray(chunk)
    while True:
        peer, _ = server.accept()
        with peer:
            head = b""
            while len(head) < hello + 8:
                head += peer.recv(hello + 8 - len(head))
            left = int.from_bytes(head[hello:], "big")
            while left > 0:
                left -= peer.recv_into(buffer, min(left, chunk))
            peer.sendall(b"k")


def serve_orders(endpoint: tuple[str, int], orders: Connection, cpu: int) -> None:
    """The engine's process: answers its address, then the CPU seconds it has used, at each order to splice or not."""
    os.sched_setaffinity(0, {cpu})
    gateway = Gateway(endpoint, workers=1)
    orders.send(gateway.address)
    while True:
        gateway.engine.set_splicing(orders.recv())
        used = resource.getrusage(resource.RUSAGE_SELF)
        orders.send(used.ru_utime + used.ru_stime)


def send(address: tuple[str, int], length: int, chunk: int) -> None:
    block = os.urandom(chunk)
    with socket.create_connection(address) as client:
        client.sendall(client_hello() + length.to_bytes(8, "big"))
        left = length
        while left > 0:
            left -= client.send(block[: min(left, chunk)])
        assert client.recv(1) == b"k"


def interval(values: list[float]) -> str:
    """Median and the range that holds it with about 95 % (order statistics)."""
    ordered = sorted(values)
    margin = max(0, round(len(ordered) / 2 - 0.98 * len(ordered) ** 0.5) - 1)
    return f"{statistics.median(ordered):.3f} [{ordered[margin]:.3f}, {ordered[-1 - margin]:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--chunk", type=int, default=1 << 20)
    asked = parser.parse_args()
    length = round(asked.gigabytes * GIGABYTE)
    # Sender and receiver stay on the last CPU, the engine has the first to itself.
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[-1:])
    server = socket.create_server(("127.0.0.1", 0))
    orders, theirs = Pipe()
    children = [
        in_child(lambda: receive_forever(server, asked.chunk)),
        in_child(lambda: serve_orders(server.getsockname(), theirs, usable[0])),
    ]
    try:
        address = orders.recv()
        cost: dict[bool, list[float]] = {False: [], True: []}
        speed: dict[bool, list[float]] = {False: [], True: []}
        for pair in range(asked.pairs + 1):
            for splicing in (False, True) if pair % 2 else (True, False):
                orders.send(splicing)
                before, began = orders.recv(), time.perf_counter()
                send(address, length, asked.chunk)
                took = time.perf_counter() - began
                orders.send(splicing)
                used = orders.recv() - before
                if pair:
                    cost[splicing].append(used / asked.gigabytes)
                    speed[splicing].append(asked.gigabytes / took)
        print(f"{asked.pairs} pairs of {asked.gigabytes:g} GB; median [95 % interval]")
        for splicing, name in ((False, "copy"), (True, "splice")):
            print(f"{name:7} CPU s/GB {interval(cost[splicing])}   GB/s {interval(speed[splicing])}")
        ratios = [spliced / copied for copied, spliced in zip(cost[False], cost[True], strict=True)]
        print(f"splice / copy {interval(ratios)}")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
