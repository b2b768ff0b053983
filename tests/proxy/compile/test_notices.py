"""What has no effect and what refuses: said once for each change, and taken back."""

from dataclasses import replace
from types import MappingProxyType

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.notices import PATIENCE_S, Notice, NoticeBook, Sort, listener_notices, some
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules
from eastgate.xds.resources import Listener, Snapshot
from eastgate.xds.route import RouteConfiguration

from .test_compiler import NAME, OTHER, SEALED, assignment, chain, cluster, listener, snapshot, two

IGNORED = Notice(Sort.NOT_HONOURED, "upstream_config: the upstream extension is not used")


class Clock:
    """Seconds that a test moves on."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[object, ...]]:
    """(event, kind, names, count, reason) of each notice in the log since the last look."""
    found = [
        (record.getMessage(), *(fields[key] for key in ("type", "name", "count", "reason")))
        for record in caplog.records
        if "count" in (fields := record.__dict__["fields"])
    ]
    caplog.clear()
    return found


def test_warning_is_told_once_however_many_say_it_and_pushes_come(caplog: pytest.LogCaptureFixture) -> None:
    compiler = Compiler(ClusterSlots(16))
    one = cluster(warnings=(IGNORED.text,))
    other = replace(one, name=OTHER)
    pushed = replace(two(one, listener(chain())), clusters=MappingProxyType({NAME: one, OTHER: other}))
    compiler.apply(pushed)
    assert told(caplog) == [("configuration not honoured", "CDS", f"{NAME}, {OTHER}", 2, IGNORED.text)]
    compiler.apply(pushed)
    # Changed, and it says what it said before.
    compiler.apply(replace(pushed, clusters=MappingProxyType({NAME: replace(one, lb_policy="RANDOM"), OTHER: other})))
    assert told(caplog) == []
    assert compiler.notices.of("CDS", NAME) == (IGNORED,)


def test_cluster_that_no_longer_warns_or_left_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    compiler = Compiler(ClusterSlots(16))
    endpoints = assignment(("10.0.0.1", 80))
    compiler.apply(snapshot(cluster(warnings=(IGNORED.text,)), endpoints, None))
    compiler.apply(snapshot(cluster(), endpoints, None))
    assert compiler.notices.by_resource == {}
    compiler.apply(snapshot(cluster(warnings=(IGNORED.text,)), endpoints, None))
    # It says it anew.
    assert len(told(caplog)) == 2
    compiler.apply(Snapshot())
    assert compiler.notices.by_resource == {}


def test_closed_cluster_says_that_it_refuses(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    compiler = Compiler(ClusterSlots(16), clock=clock)
    compiler.apply(snapshot(cluster(upstream_tls=SEALED), assignment(("10.0.0.1", 80)), listener(chain())))
    assert compiler.notices.of("CDS", NAME) == (Notice(Sort.REFUSED, "secret default has not arrived"),)
    assert told(caplog) == []
    assert compiler.notices.wait_s == PATIENCE_S
    clock.now_s += PATIENCE_S
    assert compiler.notices.wait_s == 0
    compiler.notices.tell()
    assert compiler.notices.wait_s is None
    assert told(caplog) == [("connections will be refused", "CDS", NAME, 1, "secret default has not arrived")]


def test_refusal_that_ends_and_begins_anew_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    book = NoticeBook(clock)
    refused = Notice(Sort.REFUSED, "secret default has not arrived")
    for notices in ((refused,), (), (refused,)):
        book.note("CDS", NAME, notices)
        clock.now_s += 1
    book.note("CDS", OTHER, (refused,))
    book.forget("CDS", OTHER)
    clock.now_s += PATIENCE_S
    book.tell()
    assert told(caplog) == [("connections will be refused", "CDS", NAME, 1, refused.text)]


def told_of(one: Listener) -> tuple[Notice, ...]:
    return listener_notices(one, Snapshot(), handed_over=False)


def test_chains_that_refuse_for_one_reason_are_told_together() -> None:
    reason = "its authorization policy (rbac) is not evaluated"
    chains = [replace(chain(f"c{number}"), refusal=reason) for number in range(5)]
    one = listener(*chains, replace(chain("other"), refusal="another"), chain())
    assert [notice.text for notice in told_of(one)] == [
        f"filter chains c0, c1, c2 and 2 more: {reason}",
        "filter chain other: another",
    ]


def test_what_policies_ask_and_nobody_knows_is_told_once() -> None:
    path = Predicate("unknown", what="url_path")
    rules = Rules("DENY", (Policy("p", (path,), (Predicate("any"),)),))
    one = replace(chain(), policies=(RbacFilter(rules),))
    (notice,) = told_of(listener(one, one))
    assert notice.sort is Sort.NOT_HONOURED
    assert notice.text.startswith("policy p asks for url_path, which is not known here")


def test_nameless_and_default_chains_are_told_by_their_place() -> None:
    nameless = replace(chain(), name="", refusal="no")
    one = replace(listener(chain(), nameless), default_filter_chain=nameless)
    assert [notice.text for notice in told_of(one)] == ["filter chains #1, #default: no"]


@pytest.mark.parametrize("capturing", ["use_original_dst", "original_dst"])
def test_listener_that_is_not_served_says_so(capturing: str) -> None:
    one = replace(listener(chain()), transparent=True, original_dst=True, use_original_dst=capturing != "original_dst")
    (notice,) = told_of(one)
    assert notice.sort is Sort.REFUSED
    assert notice.text.startswith("not served: transparent")
    # It takes what is sent to it all the same.
    assert told_of(replace(listener(chain()), transparent=True)) == ()


def test_listener_without_socket_says_when_nothing_leads_to_it(caplog: pytest.LogCaptureFixture) -> None:
    compiler = Compiler(ClusterSlots(16))
    alone = snapshot(None, None, replace(listener(chain()), bind_to_port=False))
    compiler.apply(alone)
    (notice,) = compiler.notices.of("LDS", "l")
    assert notice == Notice(
        Sort.REFUSED, "no connection comes to it: bind_to_port is false, and no listener has use_original_dst"
    )
    outbound = replace(
        listener(chain()), name="out", addresses=(("0.0.0.0", 15001),), use_original_dst=True, original_dst=True
    )
    both = replace(alone, listeners=MappingProxyType({**alone.listeners, "out": outbound}))
    compiler.apply(both)
    assert compiler.notices.by_resource == {}
    compiler.apply(
        replace(alone, listeners=MappingProxyType({**alone.listeners, "out": replace(outbound, transparent=True)}))
    )
    assert notice in compiler.notices.of("LDS", "l")


def test_routes_that_come_end_a_refusal_and_warn_by_themselves(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    compiler = Compiler(ClusterSlots(16), clock=clock)
    routed = listener(replace(chain(), route_config_name="r"))
    without = snapshot(None, None, routed)
    compiler.apply(without)
    (notice,) = compiler.notices.of("LDS", "l")
    assert "routes are missing (RDS r)" in notice.text
    routes = RouteConfiguration("r", warnings=("virtual_hosts.cors: not done",))
    compiler.apply(replace(without, routes=MappingProxyType({"r": routes})))
    assert compiler.notices.by_resource == {("RDS", "r"): (Notice(Sort.NOT_HONOURED, "virtual_hosts.cors: not done"),)}
    assert [event for event, *_ in told(caplog)] == ["configuration not honoured"]
    # What came with the same push was awaited, and never told.
    clock.now_s += PATIENCE_S
    compiler.notices.tell()
    assert told(caplog) == []
    compiler.apply(Snapshot())
    assert compiler.notices.by_resource == {}


def test_warnings_of_inline_routes_are_those_of_the_listener() -> None:
    inline = RouteConfiguration("r", warnings=("virtual_hosts.cors: not done",))
    one = replace(
        listener(replace(chain(), route_config=inline), replace(chain(), route_config=inline)), warnings=("w",)
    )
    assert [notice.text for notice in told_of(one)] == ["w", "virtual_hosts.cors: not done"]


def test_names_are_few() -> None:
    assert some(["a"]) == "a"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert NoticeBook().of("CDS", "a") == ()
