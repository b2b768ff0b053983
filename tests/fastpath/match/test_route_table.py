import copy
import pickle

import pytest
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

from .specs import chain, istio

# ---- weighted targets


def test_target_is_the_interval_that_holds_the_draw_modulo_the_total():
    table = RouteTable.compile([chain(targets=((7, 10), (8, 20), (9, 70)))])
    assert [table.target(0, draw) for draw in (0, 9, 10, 29, 30, 99)] == [7, 7, 8, 8, 9, 9]
    # 2^64-1 = 100 * 184467440737095516 + 15.
    assert [table.target(0, draw) for draw in (100, 2**64 - 1)] == [7, 8]


def test_targets_of_one_cluster_and_of_the_largest_sum():
    table = RouteTable.compile([chain(targets=((3, 5),))], chain(targets=((1, 2**32 - 2), (2, 1))))
    assert {table.target(0, draw) for draw in range(10)} == {3}
    assert [table.target(1, draw) for draw in (2**32 - 3, 2**32 - 2, 2**32 - 1)] == [1, 2, 1]


def test_target_of_a_chain_that_has_none():
    table = RouteTable.compile([chain(refusal=Reason.POLICY)])
    with pytest.raises(ValueError, match="chain 0 has no targets"):
        table.target(0, 0)
    with pytest.raises(ValueError, match="no chain 1: there are 1"):
        table.target(1, 0)
    with pytest.raises(OverflowError):
        table.target(-1, 0)


# ---- the table as an object


def test_many_names():
    chains = [istio(str(n), f"outbound_.{n % 97}_._.service-{n}.ns-{n % 31}.svc.cluster.local") for n in range(3000)]
    table = RouteTable.compile(chains)
    for index, spec in enumerate(chains):
        assert table.match(Observed(server_name=spec.server_names[0], application_protocols=("istio",))) == index
        assert table.match(Observed(server_name=spec.server_names[0] + "x", application_protocols=("istio",))) < 0


def test_memory_of_a_chain_of_istiods_shape():
    chains = [istio(str(n), f"outbound_.80_._.service-{n:04}.default.svc.cluster.local") for n in range(3000)]
    # A chain with its target takes 88 bytes, its branch 8, its place in the hash table at most 24, its name 4 + 2 + 56
    # rounded up to words; the list of ALPN values is there once.
    assert RouteTable.compile(chains).memory() < 3000 * (88 + 8 + 24 + 64) + 1000


def test_spin_matches_what_match_matches():
    table = RouteTable.compile([chain("a", "a.example"), chain("b", "b" * 255)])
    assert table.spin(["a.example", "B" * 255, "c.example", ""], 4) == 2
    assert table.spin(["a.example", "c.example"], 5) == 3
    assert table.spin([], 5) == 0


def test_only_compile_makes_a_table():
    with pytest.raises(TypeError, match=r"RouteTable\.compile"):
        RouteTable()
    empty = RouteTable.__new__(RouteTable)
    assert len(empty) == 0
    assert empty.match(Observed(server_name="a.b")) == -Reason.UNKNOWN_SERVER_NAME
    assert empty.nearest_server_name("a.b") == ""


def test_a_table_is_not_copied():
    table = RouteTable.compile([chain("a")])
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(table)
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(table)
