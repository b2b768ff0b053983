"""The page's answers: states of clusters, what stands in its JSON, and who has to wait."""

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.admin import page
from eastgate.proxy.admin.http_server import Request
from eastgate.proxy.admin.page_moments import PageMoments, State, asked_moments, compared, model_of
from eastgate.proxy.admin.spill import Spill
from eastgate.proxy.control_errors import ControlErrors
from eastgate.proxy.membership.endpoint_flags import FAILED_ACTIVE_CHECK, FAILED_OUTLIER_CHECK
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.message import encode
from eastgate.xds.resources import Assignment, Cluster, Snapshot

NAME = "outbound|80||web.shop.svc.cluster.local"
GOOD, BAD = "HEALTHY", "UNHEALTHY"


def assignment(*priorities: list[str]) -> Assignment:
    """Health of the endpoints of each priority; addresses count up from 10.0.0.1."""
    number, groups = 0, []
    for priority, healths in enumerate(priorities):
        members = []
        for health in healths:
            number += 1
            where = {"address": f"10.0.0.{number}", "port_value": 80}
            members.append({"endpoint": {"address": {"socket_address": where}}, "health_status": health})
        groups.append({"locality": {"zone": f"z{priority}"}, "priority": priority, "lb_endpoints": members})
    said = {"cluster_name": NAME, "endpoints": groups}
    return decode_assignment(encode("envoy.config.endpoint.v3.ClusterLoadAssignment", said))


def compiled(*priorities: list[str], panic: int = 0, closed: str = "", **more: Any) -> Any:
    found = assignment(*priorities)
    shown = {
        "cluster": Cluster(name=NAME, type="EDS"),
        "table": ClusterTable.compile(found.columns, panic_threshold=panic),
        "assignment": found,
        "closed": closed,
        "failed": b"",
    }
    return SimpleNamespace(**(shown | more))


@pytest.mark.parametrize(
    ("cluster", "warming", "state"),
    [
        (compiled([GOOD, GOOD]), False, "well"),
        (compiled([GOOD] * 9 + [BAD]), False, "reduced"),
        # 140 % of a half: 70 stay.
        (compiled([GOOD, BAD], [GOOD]), False, "spilled"),
        (compiled([GOOD, BAD, BAD, BAD], panic=50), False, "panic"),
        (compiled([BAD]), False, "refusing"),
        (compiled([GOOD], closed="its TLS is not supported"), False, "refusing"),
        (compiled([]), False, "empty"),
        (compiled(table=None, assignment=None), True, "warming"),
        (compiled(table=None, assignment=None), False, "empty"),
        (compiled([GOOD], assignment=None), False, "direct"),
    ],
)
def test_state_is_what_an_operator_wants_to_know_first(cluster: Any, warming: bool, state: str) -> None:
    assert page.state_of(cluster, warming=warming) == state


def test_overview_counts_endpoints_and_open_connections() -> None:
    cluster = compiled([GOOD, BAD], [GOOD])
    cluster.table.hold(0)
    assert page.overview(NAME, cluster, warming=False) == {
        "name": NAME,
        "type": "EDS",
        "state": "spilled",
        "endpoints": 3,
        "healthy": 2,
        "loads": [70, 30],
        "active": 1,
    }


def test_endpoints_are_cut_and_counted_in_both_answers() -> None:
    def endpoint(number: int, share: float) -> dict[str, Any]:
        place = {"priority": number // 2, "locality": f"r/{number // 2}"}
        return {"address": f"10.0.0.{number}:80", **place, "share": share}

    now, then = ([endpoint(number, share) for number in range(3)] for share in (0.25, 0.5))
    connections = {one["address"]: (1, 2, 3) for one in now}
    whole = page.cut({"endpoints": now, "what_if": {"endpoints": then}}, connections, None)
    assert (whole["endpoints"], whole["what_if"]["endpoints"], whole["connections"]) == (now, then, connections)
    found = page.cut({"endpoints": now, "what_if": {"endpoints": then}}, connections, 1)
    assert (found["endpoints"], found["what_if"]["endpoints"]) == (now[:1], then[:1])
    assert found["connections"] == {"10.0.0.0:80": (1, 2, 3)}
    for one, share in ((found, 0.25), (found["what_if"], 0.5)):
        assert one["endpoint_count"] == 3
        assert one["groups"] == [
            {"priority": 0, "locality": "r/0", "share": 2 * share, "endpoints": 2},
            {"priority": 1, "locality": "r/1", "share": share, "endpoints": 1},
        ]


@pytest.mark.parametrize(("text", "rows"), [("", None), ("0", 0), ("200", 200)])
def test_rows_are_a_number(text: str, rows: int | None) -> None:
    assert page.rows_of({"rows": text}) == rows


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "\u0663"])
def test_rows_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        page.rows_of({"rows": text})


def test_list_is_json_whatever_clusters_are_called() -> None:
    strange = 'a"b\\c\n</script>'
    text = "".join(page.pieces({strange: compiled([GOOD]), NAME: compiled([GOOD])}, frozenset()))
    assert [one["name"] for one in json.loads(text)["clusters"]] == [strange, NAME]
    assert json.loads("".join(page.pieces({}, frozenset()))) == {"clusters": []}


def test_snapshot_of_one_cluster_has_its_assignment_and_nothing_else() -> None:
    other = Cluster(name="other", type="EDS")
    mine = Cluster(name=NAME, type="EDS", eds_service_name="shared")
    snapshot = Snapshot(
        generation=1,
        clusters={NAME: mine, "other": other},
        assignments={"shared": assignment([GOOD]), "other": assignment([GOOD])},
    )
    found = page.only(snapshot, frozenset({NAME, "not there"}))
    assert (set(found.clusters), set(found.assignments)) == ({NAME}, {"shared"})


def test_who_does_not_ask_for_html_gets_text() -> None:
    assert page.wants_html(Request("GET", "/", headers={"accept": "text/html,application/xhtml+xml"}))
    assert not page.wants_html(Request("GET", "/", headers={"accept": "*/*"}))
    assert not page.wants_html(Request("GET", "/"))


@pytest.mark.parametrize("name", sorted(page.FILES))
def test_files_let_nothing_run_that_is_not_ours(name: str) -> None:
    answer = page.file_response(name)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.content_type == page.FILES[name]
    # Names of namespaces alone: nothing is loaded from another host.
    assert set(re.findall(r"https?://[\w.]+", answer.text)) <= {"http://www.w3.org"}


def shown(clusters: dict[str, Any]) -> Any:
    return SimpleNamespace(
        compiler=SimpleNamespace(clusters=clusters, observers=[]),
        bootstrap=dict,
        spill=Spill(),
        errors=ControlErrors(),
        snapshot=lambda: None,
    )


def test_one_is_computed_and_as_many_as_may_wait_do() -> None:
    async def scene() -> list[int]:
        people = page.PeoplesPage(shown({}))
        release, begun = asyncio.Event(), 0

        async def asked() -> Any:
            nonlocal begun
            begun += 1
            await release.wait()
            return lambda: {"a": 1}

        waiting = [asyncio.ensure_future(people._aside(asked)) for _ in range(page.MAX_WAITING)]
        await asyncio.sleep(0)
        too_many = await people._aside(asked)
        assert (too_many.status, too_many.headers["Retry-After"], begun) == (503, "1", 1)
        release.set()
        answers = [one.status for one in await asyncio.gather(*waiting)]
        # There is room again.
        return [*answers, (await people._aside(asked)).status]

    assert asyncio.run(scene()) == [200] * (page.MAX_WAITING + 1)


def test_unknown_cluster_is_named() -> None:
    answer = asyncio.run(page.PeoplesPage(shown({})).cluster({"name": "nobody"}))
    assert (answer.status, answer.text) == (404, "no cluster 'nobody'\n")


def test_moments_hold_what_was_published_with_what_was_found_out() -> None:
    found = assignment([GOOD, GOOD, GOOD])
    failed = bytes([0, FAILED_OUTLIER_CHECK, FAILED_ACTIVE_CHECK])
    model = model_of(State(Cluster(name=NAME, type="EDS"), found, failed))
    assert model is not None
    assert [one.failed for one in model.endpoints] == ["", "outlier", "active check"]
    assert model_of(None) is None


def test_ejection_moves_shares_between_two_moments() -> None:
    cluster, found = Cluster(name=NAME, type="EDS"), assignment([GOOD, GOOD])
    moved = compared({NAME: (State(cluster, found, b""), State(cluster, found, bytes([FAILED_OUTLIER_CHECK, 0])))})
    (one,) = moved["clusters"]
    assert (one["name"], one["kind"], one["moved_points"]) == (NAME, "changed", 50.0)
    assert "health HEALTHY -> " in str(one["endpoints"][0]["facts"])
    assert moved["more"] == 0


def test_clusters_that_come_and_go_are_compared_too() -> None:
    state = State(Cluster(name=NAME, type="EDS"), assignment([GOOD]), b"")
    assert [one["kind"] for one in compared({NAME: (None, state)})["clusters"]] == ["added"]
    assert [one["kind"] for one in compared({NAME: (state, None)})["clusters"]] == ["removed"]


@pytest.mark.parametrize(
    "query", [{}, {"before": "x"}, {"before": "-1"}, {"before": "1", "after": ""}, {"before": "9" * 99}]
)
def test_questions_that_mean_nothing(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="ids of /ui/moments"):
        asked_moments(query)


def test_later_moment_may_be_named_first() -> None:
    assert asked_moments({"before": "7", "after": "3"}) == (3, 7)
    assert asked_moments({"before": "7"}) == (7, None)


def test_moment_that_there_is_not() -> None:
    with pytest.raises(KeyError):
        PageMoments().question({"before": "1"})
