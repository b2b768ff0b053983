"""Echo workloads of a trial, run as a process: `python -m eastgate.trial.workload`.

Each listens on loopback, answers every connection with its text, and counts. With a certificate it demands one of the
mesh from its clients; without it is an ordinary HTTP server, which knows nothing of a mesh.
Commands are JSON lines on stdin, each answered by one on stdout; the process ends when stdin does:

| command | answer |
|---|---|
| {"listen": [{"name", "host", "text", and "chain", "key", "root", "spiffe_id" or none}]} | {"ports": {name: port}} |
| {"counts": true} | {"answered": {name: n}, "failed": {name: n}} since the last time |
"""

import json
import socket
import ssl
import sys
import threading
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eastgate.mesh.ca import WorkloadCertificate, server_context

THREADS = 8
BACKLOG = 1024
# A client that does not speak occupies one thread no longer than this.
TIMEOUT_S = 5.0
ALPN = ("istio",)


class EchoWorkload:
    """One listener, with threads that accept, shake hands, answer and close."""

    def __init__(self, name: str, host: str, text: str, context: ssl.SSLContext) -> None:
        self.name = name
        self._text = text.encode()
        self._context = context
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        for _ in range(THREADS):
            threading.Thread(target=self._accept, daemon=True, name=name).start()

    def take_counts(self) -> Counter[str]:
        """Connections answered and failed since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            return counts

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            kind = "failed"
            try:
                connection.settimeout(TIMEOUT_S)
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    # Counted before it is sent: who has the answer can rely on the count.
                    kind = "answered"
                    with self._lock:
                        self._counts[kind] += 1
                    secured.sendall(self._text)
                    with suppress(OSError):
                        secured.unwrap()
            except OSError:
                if kind == "failed":
                    with self._lock:
                        self._counts[kind] += 1
            finally:
                connection.close()


class HttpWorkload:
    """One HTTP server; a connection for each request."""

    def __init__(self, name: str, host: str, text: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        body = f"{text}\n".encode()
        count = self._count

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # Counted before it is sent: who has the answer can rely on the count.
                count()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        class Server(ThreadingHTTPServer):
            request_queue_size = BACKLOG

        server = Server((host, 0), Handler)
        self.port: int = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True, name=name).start()

    def take_counts(self) -> Counter[str]:
        """Requests answered since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            return counts

    def _count(self) -> None:
        with self._lock:
            self._counts["answered"] += 1


def _started(entry: dict[str, Any]) -> EchoWorkload | HttpWorkload:
    name, host, text = entry["name"], entry["host"], entry["text"]
    if "chain" not in entry:
        return HttpWorkload(name, host, text)
    return EchoWorkload(name, host, text, server_context(_certificate(entry), ALPN))


def _certificate(entry: dict[str, Any]) -> WorkloadCertificate:
    return WorkloadCertificate(entry["spiffe_id"], entry["chain"], entry["key"], entry["root"])


def main() -> None:
    """Serve the commands of the parent."""
    workloads: list[EchoWorkload | HttpWorkload] = []
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if "listen" in command:
            started = [_started(one) for one in command["listen"]]
            workloads += started
            answer = {"ports": {one.name: one.port for one in started}}
        elif "counts" in command:
            counts = {one.name: one.take_counts() for one in workloads}
            answer = {kind: {name: found[kind] for name, found in counts.items()} for kind in ("answered", "failed")}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
