"""What the churn writes and reads: services for gateways only, single moves, times of which none is too good."""

import json
import random
import socket
import threading
import time

import pytest
from eastgate.xds.message import encode

from lab import churn, gateways
from lab.errors import LabError


def test_service_is_seen_by_gateways_only_and_matched_by_theirs() -> None:
    one = churn.entry(churn.host(7), [churn.endpoint("10.200.0.1", 9090, "net")])
    assert one["spec"]["exportTo"] == [gateways.NAMESPACE]
    assert one["metadata"] == {"name": "s0007", "namespace": churn.WHERE}
    # The Gateway's hosts: "*.local".
    assert one["spec"]["hosts"] == ["s0007.churn.local"]
    assert one["spec"]["endpoints"][0]["ports"] == {one["spec"]["ports"][0]["name"]: 9090}


def test_addresses_are_different_and_nowhere() -> None:
    found = churn.addresses(random.Random(1), 1000)
    assert len(set(found)) == 1000
    assert all(one.startswith("10.2") and socket.inet_aton(one) for one in found)


@pytest.mark.parametrize("port", churn.PORTS)
def test_port_of_a_push_is_found_in_its_bytes(port: int) -> None:
    address = encode("envoy.config.core.v3.SocketAddress", {"address": "10.0.0.1", "port_value": port})
    assert b"\x18" + churn.varint(port) in address
    other = next(one for one in churn.PORTS if one != port)
    assert b"\x18" + churn.varint(other) not in address


def test_pick_counts_only_when_the_new_one_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [b"19001"] * 3 + [b"19002"]

        def answer() -> None:
            for word in words:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    time.sleep(0.01)
                    connection.sendall(word)

        thread = threading.Thread(target=answer)
        thread.start()
        begin = time.monotonic()
        took = churn.picked("127.0.0.1", b"hello", 19002, begin, gateway_port=listener.getsockname()[1])
        thread.join()
    assert 40 <= took <= (time.monotonic() - begin) * 1000


def test_pick_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(churn, "PICKED_S", 0.05)
    with pytest.raises(LabError, match="does not pick"):
        churn.picked("127.0.0.1", b"hello", 19002, time.monotonic(), gateway_port=1)


def test_hello_is_one_record_with_the_name() -> None:
    first = churn.hello("outbound_.80_._.a.local")
    assert first[0] == 22
    assert b"outbound_.80_._.a.local" in first
    assert b"istio" in first


def test_result_tells_both_proxies() -> None:
    cost = churn.Cost(median_ms=1.5, p99_ms=9.0, longest_ms=12.0, cpu_s=0.5, cpu_load_s=0.25, rss_mib=60)
    lines = list(churn.Result(10, 2, 3.0, 150, 3, cost, cost).lines())
    assert lines[0] == "10 services x 2 endpoints, 150 changes in 3 s, 3 pushes timed"
    assert "median 1.5 ms, p99 9.0 ms" in lines[1]
    assert json.dumps(lines)
