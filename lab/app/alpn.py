"""A connection by mesh mTLS for each target, with an ALPN offer of one's own: `alpn.py FOLDER KIND:HOST:PORT:OFFER...`.

FOLDER holds cert-chain.pem and key.pem, as pilot-agent writes them. OFFER: protocols with commas between, or nothing.
Prints one JSON document, what became of each, in the words of each.py.
"""

import json
import socket
import ssl
import sys
from pathlib import Path

TIMEOUT_S = 5.0
REFUSED = "refused"
REQUESTS = {"http": b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n", "tcp": b"hello\n"}


def ask(folder: Path, target: str) -> str:
    """What became of it."""
    kind, host, port, offer = target.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Whom it meets is not what is asked here.
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(folder / "cert-chain.pem", folder / "key.pem")
    if offer:
        context.set_alpn_protocols(offer.split(","))
    try:
        with (
            socket.create_connection((host, int(port)), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="of.no.importance") as secured,
        ):
            secured.sendall(REQUESTS[kind])
            answer = b""
            while more := secured.recv(4096):
                answer += more
                if kind == "tcp":
                    break
    except TimeoutError:
        return "silence"
    except OSError:
        return REFUSED
    if kind == "http":
        head, _, answer = answer.partition(b"\r\n\r\n")
        words = head.split()
        if len(words) > 1 and words[1] != b"200":
            return words[1].decode(errors="replace")
    return answer.split()[0].decode(errors="replace") if answer.split() else REFUSED


print(json.dumps([ask(Path(sys.argv[1]), target) for target in sys.argv[2:]]))
