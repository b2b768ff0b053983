"""A ledger made of Envoy's config_dump: versions, what waits, what was refused."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from eastgate.insight.dump_ledger import age_s, ledger_among, ledger_of
from eastgate.insight.errors import DumpError
from eastgate.proxy.admin.ledger_page import ledger_text

from ..support import dumps

NOW = datetime(2026, 11, 29, 12, 0, 10, tzinfo=UTC)
AT = "2026-11-29T12:00:00.000Z"
HELD = {"version_info": "v1", "last_updated": AT}
ERROR = {"error_state": {"version_info": "v2", "last_update_attempt": AT, "details": "weights"}}


def rows(section: dict[str, Any], **query: str) -> list[dict[str, Any]]:
    return list(ledger_of({"configs": [section]}, NOW, **query)["resources"])


def test_recorded_envoy_has_accepted_everything() -> None:
    """Stock Envoy in the place of a gateway: so many of each type as its dump has."""
    document = json.loads((dumps.ENVOY / "gke-gateway" / "config_dump.json").read_text())
    found = ledger_of(document, NOW)["resources"]
    assert {one["state"] for one in found} == {"ACKED"}
    assert {"CDS", "EDS", "LDS"} <= {one["type"] for one in found}
    (clusters,) = [one for one in document["configs"] if one["@type"].endswith("ClustersConfigDump")]
    assert sum(one["type"] == "CDS" for one in found) == len(clusters["dynamic_active_clusters"])
    assert all(one["accepted"]["age_s"] is not None for one in found if one["type"] == "CDS")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"dynamic_active_clusters": [{"cluster": {"name": "a"}, **HELD}]}, ("CDS", "a", "ACKED", "v1", None)),
        ({"dynamic_warming_clusters": [{"cluster": {"name": "a"}, **HELD}]}, ("CDS", "a", "REQUESTED", "v1", None)),
        ({"dynamicActiveClusters": [{"cluster": {"name": "a"}}], "x": 1}, ("CDS", "a", "ACKED", None, None)),
        (
            {"dynamic_listeners": [{"name": "l", "active_state": HELD, **ERROR}]},
            ("LDS", "l", "NACKED", "v1", "weights"),
        ),
        ({"dynamic_listeners": [{"name": "l", "warming_state": HELD}]}, ("LDS", "l", "REQUESTED", "v1", None)),
        # What was never accepted.
        (
            {"dynamic_endpoint_configs": [{"error_state": {**ERROR["error_state"], "failed_configuration":
             {"cluster_name": "e"}}}]},
            ("EDS", "e", "NACKED", None, "weights"),
        ),
        ({"dynamic_route_configs": [{"route_config": {"name": "80"}, **HELD}]}, ("RDS", "80", "ACKED", "v1", None)),
        ({"dynamic_active_secrets": [{"name": "default", **HELD}]}, ("SDS", "default", "ACKED", "v1", None)),
    ],
)  # fmt: skip
def test_state_of_a_resource(section: dict[str, Any], expected: tuple[Any, ...]) -> None:
    (one,) = rows(section)
    accepted, rejected = one["accepted"] or {}, one["rejected"] or {}
    seen = (one["type"], one["name"], one["state"], accepted.get("version"), rejected.get("reason"))
    assert seen == expected
    assert [shown["age_s"] for shown in (accepted, rejected) if shown] == [10.0] * bool(accepted) + [10.0] * bool(
        rejected
    )


def test_query_chooses() -> None:
    section = {
        "dynamic_active_clusters": [{"cluster": {"name": name}, **HELD} for name in ("b", "a")],
        "dynamic_listeners": [{"name": "a", **ERROR}],
    }
    assert [(one["type"], one["name"]) for one in rows(section)] == [("CDS", "a"), ("CDS", "b"), ("LDS", "a")]
    assert [one["name"] for one in rows(section, kind="cds", name="b")] == ["b"]
    assert [one["type"] for one in rows(section, state="nacked")] == ["LDS"]


def test_text_has_a_row_for_each() -> None:
    section = {"dynamic_listeners": [{"name": "l", "active_state": HELD, **ERROR}]}
    lines = ledger_text(ledger_of({"configs": [section]}, NOW), "x").splitlines()
    assert lines[1].split() == ["LDS", "NACKED", "l", "v1", "10s", "-", "v2", "10s", "weights"]


@pytest.mark.parametrize("document", [[], {"configs": 3}, {"configs": [{"dynamic_listeners": [{"name": 3}]}]}])
def test_what_is_no_dump_is_said_in_a_sentence(document: Any) -> None:
    with pytest.raises(DumpError, match="not a config_dump"):
        ledger_of(document, NOW)


def test_age_of_a_time_that_is_none() -> None:
    assert (age_s("", NOW), age_s("soon", NOW), age_s("2026-11-29T13:00:00Z", NOW)) == (None, None, 0.0)


OWN = {
    "stream": {},
    "resources": [{"type": "CDS", "state": "NACKED", "name": "a"}, {"type": "LDS", "state": "ACKED", "name": "b"}],
}
DUMP = {"configs": [{"dynamic_active_clusters": [{"cluster": {"name": "a"}, **HELD}, {"cluster": {"name": "b"}}]}]}


def test_a_proxys_own_ledger_counts_before_its_dump() -> None:
    source, found = ledger_among([("x", DUMP), ("y", OWN), ("z", {"cluster_statuses": []})], NOW, state="nacked")
    assert (source, found) == ("y", {"stream": {}, "resources": OWN["resources"][:1]})
    source, found = ledger_among([("x", DUMP), ("z", {"cluster_statuses": []})], NOW, name="b")
    assert (source, [row["name"] for row in found["resources"]]) == ("x", ["b"])


@pytest.mark.parametrize(
    ("documents", "cause"),
    [
        ([("x", DUMP), ("y", DUMP)], "^x and y: a ledger each: name the dump of one proxy$"),
        ([("x", {"cluster_statuses": []})], "^x: no config_dump and no ledger$"),
        ([("x", None)], "^x: no config_dump and no ledger$"),
        ([("x", [1])], "^x: no config_dump and no ledger$"),
        ([("x", {"stream": {}, "resources": [1]})], "^x: not a ledger: TypeError"),
        ([("x", {"stream": {}})], "^x: not a ledger: KeyError"),
    ],
)
def test_dumps_without_one_ledger_say_why(documents: list[tuple[str, Any]], cause: str) -> None:
    with pytest.raises(DumpError, match=cause):
        ledger_among(documents, NOW)
