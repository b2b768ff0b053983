"""What tests of the loop share."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest


@pytest.fixture
def closed_port() -> Iterator[Callable[[], tuple[str, int]]]:
    """Addresses that refuse: bound and not listening. Held to the end, or the kernel would give one out again: to the
    next endpoint, or to a connection as its own port. A server may take one over.
    """
    with ExitStack() as stack:

        def bound() -> tuple[str, int]:
            taken = stack.enter_context(socket.socket())
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", 0))
            host, port = taken.getsockname()
            return host, port

        yield bound
