"""Redirected connections and the listeners that they belong to, in a namespace with real redirect rules."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.loop.listener_states import ListenerDirectory, ListenerStates
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.listener_table import ListenerAddress
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

from ...support.netns import Seen, run_scenario
from . import capture_scenario

MANY = capture_scenario.MANY


@pytest.fixture(scope="module", params=[0, 1, 4], ids=lambda count: f"workers={count}")
def seen(request: pytest.FixtureRequest) -> Seen:
    for tables in ("iptables", "ip6tables"):
        if shutil.which(tables) is None and not os.environ.get("CI"):
            pytest.skip(f"{tables} is not installed")
    return run_scenario("tests.fastpath.loop.capture_scenario", str(request.param))


@pytest.mark.netns
@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("exact", "exact"),
        ("exact6", "exact"),
        ("wild", "wild"),
        ("wild6", "wild"),
        ("other", "socket"),
        ("other6", "socket"),
        ("wildcard of another port", "socket"),
    ],
)
def test_a_connection_is_handed_to_the_listener_of_its_address(seen: Seen, address: str, name: str) -> None:
    assert seen["found"][address] == {name: MANY}


@pytest.mark.netns
def test_it_is_counted_where_it_was_handed_to(seen: Seen) -> None:
    assert seen["found"]["counted"] == {"socket": 3 * MANY, "exact": 2 * MANY, "wild": 2 * MANY}


@pytest.mark.netns
def test_a_listener_without_a_socket_is_routed_anew(seen: Seen) -> None:
    assert seen["routed anew"] == ["other", "exact"]


@pytest.mark.netns
def test_a_connection_outlives_its_listener_which_is_forgotten_after_it(seen: Seen) -> None:
    held = seen["held"]
    assert (held["held"], held["new"], held["forgotten"]) == (["exact", "exact"], "socket", None)
    assert held["more"] == 1
    assert held["then"].startswith("there is no listener")


@pytest.mark.netns
def test_listeners_that_come_and_go_under_load_lose_no_connection(seen: Seen) -> None:
    assert sum(seen["replaced"].values()) == 120
    # Between two of them connections may have stayed with the socket; none was refused.
    assert seen["replaced"].keys() <= {"exact", "socket"}


@pytest.mark.netns
def test_what_cannot_be_published_is_named_and_changes_nothing(seen: Seen) -> None:
    *said, still = seen["not published"]
    assert said == [
        "listeners a and b have the same address 10.0.0.1:80",
        "listener a no longer accepts",
        "listener a no longer accepts",
    ]
    assert still == "exact"


@pytest.mark.netns
def test_a_connection_to_the_proxy_itself_is_a_loop(seen: Seen) -> None:
    looped = seen["looped"]
    assert set(looped["ends"].values()) == {"end"}
    assert looped["refused"] == {"loop": len(looped["ends"])}
    assert looped["elsewhere"] == "elsewhere"


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(ClusterSlots(4), seed=1)
    yield made
    made.close()


ROUTES = RouteTable.compile([ChainSpec("none", refusal=Reason.POLICY)])


def test_a_listener_without_a_socket_has_no_bound_address(engine: Engine) -> None:
    number = engine.listen("", 0, routes=ROUTES, bind_to_port=False)
    with pytest.raises(ValueError, match="has no socket that accepts"):
        engine.bound_address(number)


def test_numbers_are_not_used_again(engine: Engine) -> None:
    first = engine.listen("", 0, routes=ROUTES, bind_to_port=False)
    engine.publish_addresses([ListenerAddress("first", bytes(4), 80, first)])
    engine.publish_addresses(())
    engine.stop_accepting(first)
    assert engine.forget(first) is not None
    assert engine.listen("", 0, routes=ROUTES, bind_to_port=False) > first
    with pytest.raises(ValueError, match=f"there is no listener {first}"):
        engine.forget(first)


def test_a_published_listener_is_not_forgotten(engine: Engine) -> None:
    number = engine.listen("", 0, routes=ROUTES, bind_to_port=False)
    assert engine.forget(number) is None
    engine.publish_addresses([ListenerAddress("one", bytes(4), 80, number)])
    engine.stop_accepting(number)
    assert engine.forget(number) is None
    engine.publish_addresses(())
    assert engine.forget(number) is not None


@pytest.mark.parametrize("kind", [ListenerStates, ListenerDirectory])
def test_only_an_engine_makes_them(kind: Any) -> None:
    with pytest.raises(TypeError, match="an Engine makes"):
        kind()
