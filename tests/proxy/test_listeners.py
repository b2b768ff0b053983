"""Which listeners an engine has: opened, moved, published by their addresses and forgotten."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.proxy import listeners as listeners_module
from eastgate.proxy.compile.compiled import CompiledListener
from eastgate.proxy.listeners import Listeners
from eastgate.xds.listener_filters import ProxyHeaders
from eastgate.xds.resources import Listener

ROUTES = RouteTable.compile([ChainSpec("none", refusal=Reason.POLICY)])
OUTBOUND = Listener("out", (("127.0.0.1", 0),), (), use_original_dst=True, original_dst=True)


def tabled(name: str, *addresses: tuple[str, int], **fields: Any) -> Listener:
    return Listener(name, addresses or (("10.0.0.1", 80),), (), bind_to_port=False, **fields)


class Watched:
    """An engine, and what it was asked for in order."""

    def __init__(self) -> None:
        self.engine = Engine(ClusterSlots(4), seed=1)
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.engine, name)

        def call(*arguments: Any, **named: Any) -> Any:
            arguments = tuple(tuple(one) if name == "publish_addresses" else one for one in arguments)
            self.calls.append((name, arguments[0] if arguments else None))
            return method(*arguments, **named)

        return call

    def named(self, *names: str) -> list[str]:
        return [name for name, _ in self.calls if name in names]

    def published(self) -> list[list[str]]:
        return [[one.name for one in addresses] for name, addresses in self.calls if name == "publish_addresses"]


@pytest.fixture
def engine() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.engine.close()


@pytest.fixture
def listeners(engine: Watched) -> Listeners:
    return Listeners(engine, call_later=lambda _, __: None)  # type: ignore[arg-type]


def apply(listeners: Listeners, *wanted: Listener) -> None:
    assert listeners.apply({one.name: CompiledListener(one, ROUTES, ()) for one in wanted}) == set()


def test_a_socket_that_is_opened_anew_is_there_before_the_old_one_goes(listeners: Listeners, engine: Watched) -> None:
    apply(listeners, OUTBOUND)
    engine.calls.clear()
    apply(listeners, replace(OUTBOUND, backlog=64))
    assert engine.named("listen", "stop_accepting") == ["listen", "stop_accepting"]


def test_addresses_are_published_when_they_change_and_only_then(listeners: Listeners, engine: Watched) -> None:
    one, two = tabled("a"), tabled("b", ("::1", 80), ("10.0.0.2", 81))
    apply(listeners, OUTBOUND, one)
    apply(listeners, OUTBOUND, replace(one, warnings=("w",)))
    apply(listeners, OUTBOUND, one, two)
    apply(listeners, OUTBOUND, two)
    apply(listeners, two)
    assert engine.published() == [["out", "a"], ["out", "a", "b", "b"], ["out", "b", "b"], []]


def test_a_stop_hands_over_to_nobody(listeners: Listeners, engine: Watched) -> None:
    inbound = tabled("in", ("10.0.0.9", 1), traffic_direction="INBOUND")
    apply(listeners, OUTBOUND, tabled("a"), inbound)
    listeners.stop_accepting(inbound_only=True)
    listeners.stop_accepting()
    apply(listeners, OUTBOUND, tabled("a"), inbound)
    assert engine.published() == [["out", "a", "in"], ["out", "a"], []]


def test_where_two_stand_the_first_one_has_the_connections(
    listeners: Listeners, engine: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        apply(listeners, OUTBOUND, tabled("a"), tabled("b"))
    assert engine.published() == [["out", "a"]]
    (said,) = [record for record in caplog.records if record.getMessage() == "listener has no connections"]
    assert said.__dict__["fields"]["name"] == "b"


def test_what_cannot_be_served_any_more_is_closed(listeners: Listeners, engine: Watched) -> None:
    apply(listeners, OUTBOUND)
    apply(listeners, replace(OUTBOUND, transparent=True))
    assert listeners.open["out"].skipped.startswith("transparent")
    assert (engine.named("listen", "stop_accepting"), listeners.open["out"].bound) == (["listen", "stop_accepting"], {})
    apply(listeners, OUTBOUND)
    assert len(listeners.open["out"].bound) == 1


def test_listeners_that_left_are_remembered_up_to_a_number(
    listeners: Listeners, engine: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners_module, "LEFT_KEPT", 2)
    numbers = {}
    for name in "abc":
        apply(listeners, OUTBOUND, tabled(name))
        numbers[name] = next(iter(listeners.open[name].bound.values())).number
    apply(listeners, OUTBOUND)
    assert listeners.counters().keys() == {"out", "b", "c"}
    assert [listeners.name_of(number) for number in numbers.values()] == ["", "b", "c"]
    # One that is there again goes on from where it was.
    apply(listeners, OUTBOUND, tabled("c"))
    assert listeners.counters().keys() == {"out", "b", "c"}
    with pytest.raises(ValueError, match="there is no listener"):
        engine.engine.listener_counters(numbers["a"])


@pytest.mark.parametrize(
    ("fields", "silent_ms"),
    [
        ({"traffic_direction": "INBOUND", "tls_inspector": True, "original_dst": True}, 1500),
        ({"traffic_direction": "OUTBOUND", "tls_inspector": True, "original_dst": True}, 0),
        ({"traffic_direction": "INBOUND", "tls_inspector": False, "original_dst": True}, 0),
        ({"traffic_direction": "INBOUND", "tls_inspector": True, "original_dst": False}, 0),
    ],
)
def test_only_clients_of_a_sidecars_application_may_be_silent(fields: dict[str, Any], silent_ms: int) -> None:
    said: dict[str, Any] = {}

    class Listening:
        def listen(self, *_: object, **named: object) -> int:
            said.update(named)
            return 0

        def bound_address(self, _: int) -> tuple[str, int]:
            return "127.0.0.1", 1

        def publish_addresses(self, _: object) -> None:
            return None

    made = Listeners(Listening(), call_later=lambda _, __: None, silent_inbound_s=1.5)  # type: ignore[arg-type]
    apply(made, replace(Listener("in", (("127.0.0.1", 0),), ()), **fields))
    assert said["silent_timeout_ms"] == silent_ms


def test_proxy_headers_are_counted_by_the_stat_prefix_of_their_filter(listeners: Listeners) -> None:
    def headed(name: str, port: int, stat_prefix: str) -> Listener:
        return tabled(name, ("10.0.0.1", port), proxy_headers=ProxyHeaders(stat_prefix=stat_prefix))

    assert set(listeners.proxied()) == {""}
    apply(listeners, headed("a", 1, "x"), headed("b", 2, "x"), headed("c", 3, "y"), tabled("d"))
    assert set(listeners.proxied()) == {"", "x", "y"}
    apply(listeners, headed("b", 2, "x"), headed("c", 3, ""))
    assert set(listeners.proxied()) == {"", "x"}


def test_counters_go_by_stat_prefix_then_address_then_name(listeners: Listeners) -> None:
    unbound = tabled("name", ("10.0.0.2", 0))
    apply(listeners, tabled("a", ("10.0.0.1", 80), stat_prefix="x"), tabled("b", ("10.0.0.1", 81)), unbound)
    assert [listeners.address_of(name) for name in ("a", "b", "name")] == ["x", "10.0.0.1:81", "name"]
