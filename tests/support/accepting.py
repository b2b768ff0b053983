"""A server whose connections have a thread each, which a test says the rest of."""

import socket
import threading
from contextlib import suppress


class Accepting:
    """Listens from the start; ``_serve`` of who inherits gets each connection. What is needed there comes first."""

    def __init__(self, place: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self._server = socket.create_server(place, family=family, backlog=128)
        self.address: tuple[str, int] = self._server.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        """A connection from its beginning to its end."""
        raise NotImplementedError
