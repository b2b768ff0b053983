import copy
import pickle
import random
import socket

import pytest
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.listener_table import ListenerAddress, ListenerTable

from ...oracle import listener_table


def packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def table_of(*addresses: tuple[str, int] | tuple[str, int, bool]) -> ListenerTable:
    """Listeners numbered in their order; the third value: takes IPv4 too."""
    return ListenerTable.compile(
        ListenerAddress(f"l{number}", packed(one[0]), one[1], number, *one[2:]) for number, one in enumerate(addresses)
    )


def found(table: ListenerTable, host: str, port: int) -> int | None:
    return table.find(Observed(destination=host, destination_port=port))


def test_exact_address_before_the_wildcard_of_its_port():
    table = table_of(("0.0.0.0", 80), ("10.0.0.1", 80), ("10.0.0.1", 443), ("0.0.0.0", 15001))
    assert found(table, "10.0.0.1", 80) == 1
    assert found(table, "10.0.0.2", 80) == 0
    assert found(table, "10.0.0.1", 443) == 2
    assert found(table, "10.0.0.2", 443) is None
    assert found(table, "10.0.0.1", 81) is None
    assert found(table, "0.0.0.0", 15001) == 3


def test_families_are_apart():
    table = table_of(("0.0.0.0", 80), ("::", 81), ("::1", 80))
    assert found(table, "1.2.3.4", 80) == 0
    assert found(table, "fd00::1", 80) is None
    assert found(table, "fd00::1", 81) == 1
    assert found(table, "1.2.3.4", 81) is None
    assert found(table, "::1", 80) == 2
    # The first bytes are the same.
    assert found(table_of(("::", 80)), "0.0.0.0", 80) is None


def test_a_wildcard_that_takes_ipv4_too_gives_way_to_who_has_it():
    assert found(table_of(("::", 80, True)), "1.2.3.4", 80) == 0
    assert found(table_of(("::", 80, True), ("0.0.0.0", 80)), "1.2.3.4", 80) == 1
    assert found(table_of(("0.0.0.0", 80), ("::", 80, True)), "1.2.3.4", 80) == 0
    assert found(table_of(("fd00::1", 80, True)), "1.2.3.4", 80) is None


def test_mapped_address_stands_for_its_ipv4_one():
    assert found(table_of(("::ffff:1.2.3.4", 80, True)), "1.2.3.4", 80) == 0
    assert found(table_of(("::ffff:1.2.3.4", 80)), "1.2.3.4", 80) is None


def test_what_has_no_address_belongs_to_nobody():
    table = table_of(("0.0.0.0", 0), ("::", 0), ("0.0.0.0", 80))
    assert table.find(Observed(destination_port=80)) is None
    assert table.find(Observed()) is None
    assert table_of().find(Observed(destination="1.2.3.4", destination_port=80)) is None


def test_one_listener_may_have_several_addresses():
    addresses = [ListenerAddress("l", packed(host), 80, 7) for host in ("10.0.0.1", "10.0.0.2", "fd00::1")]
    table = ListenerTable.compile(addresses)
    assert [found(table, host, 80) for host in ("10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.3")] == [7, 7, 7, None]
    assert len(table) == 3


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (ListenerAddress("b", packed("10.0.0.1"), 80, 1), "listeners a and b have the same address 10.0.0.1:80"),
        (ListenerAddress("b", packed("fd00::1"), 80, 1), "listeners c and b have the same address [fd00::1]:80"),
        (ListenerAddress("b", b"12345", 80, 1), "listener b: 5 bytes are no IP address"),
        (ListenerAddress("b", bytes(4), 65536, 1), "listener b: port 65536"),
        (ListenerAddress("b", bytes(4), -1, 1), "listener b: port -1"),
        (ListenerAddress("b", bytes(4), 80, 2**31 - 1), "listener b: number 2147483647"),
        (ListenerAddress("b", bytes(4), 80, -1), "listener b: number -1"),
    ],
)
def test_addresses_that_cannot_be(second, sentence):
    first = [ListenerAddress("a", packed("10.0.0.1"), 80, 0), ListenerAddress("c", packed("fd00::1"), 80, 0)]
    with pytest.raises(ValueError) as caught:
        ListenerTable.compile([*first, second])
    assert str(caught.value).startswith(sentence)


def test_random_tables_beside_the_model():
    rng = random.Random(2)
    hosts = ("0.0.0.0", "::", "1.2.3.4", "1.2.3.5", "::1", "fd00::1", "::ffff:1.2.3.4", "::ffff:0.0.0.0")
    asked = ("0.0.0.0", "::", "1.2.3.4", "1.2.3.5", "9.9.9.9", "::1", "fd00::1", "fd00::2")
    served = 0
    for _ in range(300):
        keys = rng.sample([(host, port) for host in hosts for port in (80, 81, 65535)], rng.randint(0, 12))
        listeners = [(*key, rng.random() < 0.5) for key in keys]
        table = table_of(*listeners)
        for host in asked:
            for port in (80, 81, 65535, 1):
                wanted = listener_table.find(listeners, host, port)
                assert found(table, host, port) == wanted, (listeners, host, port)
                served += wanted is not None
    assert served > 1000


def test_many():
    addresses = [(f"10.{n >> 8}.{n & 255}.1", 1 + n % 1000) for n in range(5000)]
    table = table_of(*addresses)
    assert [found(table, *address) for address in addresses] == list(range(5000))
    assert table.memory() < 5000 * 4 * 24
    assert found(table, "10.200.0.1", 7) is None


def test_is_not_made_or_copied_otherwise():
    with pytest.raises(TypeError, match=r"ListenerTable\.compile"):
        ListenerTable()
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(table_of())
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(table_of())
    assert ListenerTable.__new__(ListenerTable).find(Observed(destination="1.2.3.4")) is None
