"""Where a configuration comes from: addresses of an admin as people write them, and what may listen there instead."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from eastgate.insight import dump_source
from eastgate.insight.dump_source import admin_url, fetch, load, with_query
from eastgate.insight.errors import DumpError, UnreachableError

from ..support.gateway_process import run_command

# A server that closes without a word leaves a socket of http.client to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:15000", "http://127.0.0.1:15000"),
        ("[::1]:15000", "http://[::1]:15000"),
        ("localhost:15000", "http://localhost:15000"),
        ("http://127.0.0.1:15000/", "http://127.0.0.1:15000"),
        ("https://proxy.example/admin/", "https://proxy.example/admin"),
    ],
)
def test_an_address_and_a_url_mean_the_same(text: str, url: str) -> None:
    assert admin_url(text) == url


WRONG = [
    ("http://127.0.0.1:abc", "Port could not be cast"),
    ("http://127.0.0.1:99999", "Port out of range"),
    ("http://127.0.0.1:0", "expected HOST:PORT"),
    ("http://[::1", "Invalid IPv6 URL"),
    ("a..b:15000", "'a..b' is no name of a host"),
    ("http://127.0.0.1:15000/a b", "without blanks"),
    ("http://127.0.0.1:15000/\n", "without blanks"),
    ("http://\N{SNOWMAN}:15000", "without blanks"),
    ("ftp://127.0.0.1:15000", "ftp://"),
    ("file:///etc/passwd", "file://"),
    ("http://", "expected HOST:PORT"),
    ("", "expected HOST:PORT"),
    ("http://me@127.0.0.1:15000", "expected HOST:PORT"),
    ("127.0.0.1:15000?x=1", "expected HOST:PORT"),
]


@pytest.mark.parametrize(("text", "cause"), WRONG, ids=[repr(text) for text, _ in WRONG])
def test_what_is_no_address_says_why(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        admin_url(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1:abc", "http://[::1", "http://127.0.0.1:15000/a b"])
@pytest.mark.parametrize("command", [["endpoints"], ["explain", "x"], ["doctor"], ["ledger"]], ids=lambda one: one[0])
def test_each_command_says_it_in_one_line(command: list[str], text: str) -> None:
    run = run_command(*command, "--admin", text)
    (line,) = run.stderr.splitlines()
    assert (run.returncode, run.stdout) == (2, "")
    assert line.startswith(f"eastgate: --admin: {text!r}: ")


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """A port that answers the first request with these bytes and ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


ANSWERS = [
    (b"", "closed connection without response|speaks no HTTP"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "speaks no HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "speaks no HTTP|no answer"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404 Not Found"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe", "not JSON"),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("data", "cause"), ANSWERS, ids=[str(data[:20]) for data, _ in ANSWERS])
def test_what_answers_something_else_is_one_error(data: bytes, cause: str) -> None:
    with answering(data) as url, pytest.raises(UnreachableError, match=cause) as caught:
        fetch(url)
    assert len(str(caught.value).splitlines()) == 1


@contextmanager
def without_end(piece: bytes, pause_s: float) -> Iterator[str]:
    """The URL of what answers with `piece` again and again, until the asker goes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                while True:
                    peer.sendall(piece)
                    time.sleep(pause_s)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("piece", "pause_s", "cause"),
    [(b" ", 0.05, "the answer did not end within 1 s"), (b"[" * 100_000, 0.0, "more than 4 MiB came, and no end")],
)
def test_an_answer_without_end_is_one_error(
    piece: bytes, pause_s: float, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump_source, "ANSWER_S", 1.0)
    monkeypatch.setattr(dump_source, "ANSWER_BYTES", 4 << 20)
    with without_end(piece, pause_s) as url, pytest.raises(UnreachableError, match=cause) as caught:
        fetch(url)
    assert len(str(caught.value).splitlines()) == 1


def test_a_port_of_grpc_is_said_to_be_none_of_an_admin() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(UnreachableError, match=r"speaks no HTTP .*gRPC port"):
            fetch(f"http://127.0.0.1:{port}/clusters")
    finally:
        server.stop(None)


def test_a_file_nested_without_end_is_no_dump(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(DumpError, match="nested too deeply"):
        load(str(path))


def test_a_query_holds_what_is_said() -> None:
    assert with_query("http://x/y", name="", type=None) == "http://x/y"
    assert with_query("http://x/y", name="a b&c") == "http://x/y?name=a%20b%26c"
