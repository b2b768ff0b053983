"""Say the cluster's name to whoever connects, and end: a service at layer 4."""

import os
import socketserver

ANSWER = os.environ["CLUSTER"].encode() + b"\n"


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        # The client speaks first, as behind a sidecar that looks at the first bytes.
        self.request.recv(64)
        self.request.sendall(ANSWER)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


Server(("", 8080), Echo).serve_forever()
