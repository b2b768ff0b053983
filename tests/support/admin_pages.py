"""An admin of stock Envoy that answers from recorded dumps, and knows no page that Envoy has not."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from . import dumps


def envoy_pages(role: str) -> dict[str, Any]:
    """Of an Envoy of the lab: anthos-sidecar or gke-gateway."""
    folder = dumps.ENVOY / role
    read = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("config_dump", "clusters")}
    return {f"/{name}": document for name, document in read.items()}


@contextmanager
def serving(pages: Mapping[str, Any]) -> Iterator[int]:
    """The port of a server on loopback that has these JSON pages, whatever their query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(urlsplit(self.path).path)
            body = b"invalid path.\n" if page is None else json.dumps(page).encode()
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, *_: object) -> None:
            """Tests read what they need elsewhere."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
