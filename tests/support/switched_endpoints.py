"""Endpoints on loopback addresses that can be switched off, which refuses connections, and on again."""

import queue
import selectors
import socket
import threading
from collections.abc import Callable


class SwitchedEndpoints:
    """One thread, a listening socket per address; each connection gets one byte, the number of its endpoint."""

    def __init__(self, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, -1)
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue()
        self._listening: dict[int, socket.socket] = {}
        self._running = True
        self.port = 0
        for number in range(count):
            self._open(number)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def address(self, number: int) -> tuple[str, int]:
        return f"127.0.0.{2 + number}", self.port

    def switch(self, number: int, *, on: bool) -> None:
        """Return when it has been done; one that is that way already stays."""
        if (number in self._listening) != on:
            self._tell(lambda: self._open(number) if on else self._close(number))

    def close(self) -> None:
        def end() -> None:
            self._running = False

        self._tell(end)
        self._thread.join()
        for number in tuple(self._listening):
            self._close(number)
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _open(self, number: int) -> None:
        listening = socket.create_server(self.address(number), backlog=1024)
        self.port = listening.getsockname()[1]
        self._selector.register(listening, selectors.EVENT_READ, number)
        self._listening[number] = listening

    def _close(self, number: int) -> None:
        listening = self._listening.pop(number)
        self._selector.unregister(listening)
        listening.close()

    def _tell(self, order: Callable[[], None]) -> None:
        done = threading.Event()

        def carry_out() -> None:
            order()
            done.set()

        self._orders.put(carry_out)
        self._waker.send(b"x")
        assert done.wait(10)

    def _serve(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                if key.data < 0:
                    self._woken.recv(1)
                    self._orders.get()()
                    break
                assert isinstance(key.fileobj, socket.socket)
                peer, _ = key.fileobj.accept()
                with peer:
                    # Closed with something unread, the connection would be reset and the answer lost.
                    peer.settimeout(10)
                    peer.recv(65536)
                    peer.sendall(bytes([key.data]))
