"""A name server on loopback whose answers the test changes. UDP, A and AAAA records only."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Self

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


class DnsServer:
    """Answers `records`: name -> addresses of both families, with one TTL each. ``silent``: answers nothing at all.

    ``failing`` names are answered SERVFAIL, unknown ones NXDOMAIN; ``asked`` counts (name, record type).
    """

    def __init__(self) -> None:
        self.records: dict[str, Sequence[str]] = {}
        self.ttl_s: dict[str, int] = {}
        self.failing: set[str] = set()
        self.silent = False
        self.asked: Counter[tuple[str, int]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(10)
        self._socket.close()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()
        return host, port

    def _run(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            if not self.silent:
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, end = ".".join(labels).lower(), at + 5
        (kind,) = struct.unpack_from("!H", query, at + 1)
        self.asked[name, kind] += 1
        code, found = NOERROR, []
        if name in self.failing:
            code = SERVFAIL
        elif name not in self.records:
            code = NXDOMAIN
        else:
            packed = [ip_address(one) for one in self.records[name]]
            found = [one.packed for one in packed if (one.version == 4) == (kind == A) and kind in (A, AAAA)]
        header = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(found), 0, 0)
        answers = (struct.pack("!HHHIH", 0xC00C, kind, 1, self.ttl_s.get(name, 60), len(data)) + data for data in found)
        return header + query[12:end] + b"".join(answers)
