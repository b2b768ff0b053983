"""What tests of the loop share."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .. import driven_engine
from ..driven_engine import ClosedPort, Gateway, upstream


@pytest.fixture(autouse=True)
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many threads the gateways of a test have; modules parametrise it with ``with_workers``."""
    count: int = getattr(request, "param", 0)
    monkeypatch.setattr(driven_engine, "WORKERS", count)
    return count


@pytest.fixture
def closed_port() -> Iterator[ClosedPort]:
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


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


@pytest.fixture
def gateway(server: socket.socket) -> Iterator[Gateway]:
    made = Gateway(server.getsockname())
    yield made
    made.close()
