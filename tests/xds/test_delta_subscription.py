"""The Delta protocol's rules, one by one, without a socket."""

from typing import Any

from eastgate.xds.delta_subscription import DELTA_REQUEST, DELTA_RESPONSE, DeltaRequest, DeltaSubscriptions
from eastgate.xds.message import encode, read

from .istiod import CDS, EDS, LDS, packed

TYPES = ((CDS, True), (EDS, False), (LDS, True))
A, B, C = "outbound_.80_._.a", "outbound_.80_._.b", "outbound_.80_._.c"


def response(type_url: str, nonce: str, versions: dict[str, str], removed: tuple[str, ...] = ()) -> bytes:
    resources = [
        {"name": name, "version": version, "resource": packed(type_url, b"\x0a\x01x")}
        for name, version in versions.items()
    ]
    value: dict[str, Any] = {"system_version_info": "v", "resources": resources, "type_url": type_url, "nonce": nonce}
    return encode(DELTA_RESPONSE, {**value, "removed_resources": removed})


def connected() -> DeltaSubscriptions:
    """After one round of all types, with A and B wanted and answered."""
    streams = DeltaSubscriptions(TYPES)
    streams.restart()
    streams.read(response(CDS, "c1", {A: "1", B: "1"}))
    streams.answer(CDS, "v")
    streams.want(EDS, [A, B])
    streams.release()
    streams.read(response(EDS, "e1", {A: "1", B: "1"}))
    streams.answer(EDS, "v")
    streams.read(response(LDS, "l1", {"listener": "1"}))
    streams.answer(LDS, "v")
    return streams


def test_first_request_is_the_wildcard_of_clusters_alone() -> None:
    assert DeltaSubscriptions(TYPES).restart() == [DeltaRequest(CDS, subscribe=("*",))]


def test_others_follow_the_first_clusters() -> None:
    streams = DeltaSubscriptions(TYPES)
    streams.restart()
    streams.read(response(CDS, "c1", {A: "1"}))
    assert streams.answer(CDS, "v") == [DeltaRequest(CDS, "c1")]
    assert streams.want(EDS, [A]) == []
    assert streams.release() == [DeltaRequest(EDS, subscribe=(A,)), DeltaRequest(LDS, subscribe=("*",))]
    assert streams.release() == []


def test_nothing_is_asked_of_a_type_without_names() -> None:
    streams = DeltaSubscriptions(TYPES)
    streams.restart()
    streams.read(response(CDS, "c1", {}))
    assert streams.want(EDS, []) == []
    assert streams.release() == [DeltaRequest(LDS, subscribe=("*",))]


def test_change_of_names_says_the_difference_and_carries_no_nonce() -> None:
    streams = connected()
    assert streams.want(EDS, [B, C]) == [DeltaRequest(EDS, subscribe=(C,), unsubscribe=(A,))]
    assert streams.want(EDS, [C, B]) == []


def test_last_name_is_unsubscribed_and_may_come_back() -> None:
    streams = connected()
    assert streams.want(EDS, []) == [DeltaRequest(EDS, unsubscribe=(A, B))]
    assert streams.want(EDS, [A]) == [DeltaRequest(EDS, subscribe=(A,))]


def test_answers_carry_the_newest_nonce_and_no_names() -> None:
    streams = connected()
    streams.read(response(EDS, "e2", {A: "2"}))
    streams.read(response(EDS, "e3", {A: "3"}))
    assert streams.answer(EDS, "v") == [DeltaRequest(EDS, "e3")]
    streams.read(response(EDS, "e4", {A: "4"}))
    assert streams.answer(EDS, "v", "broken", [A]) == [DeltaRequest(EDS, "e4", error="broken")]


def test_response_without_nonce_is_not_answered() -> None:
    streams = connected()
    streams.read(response(CDS, "", {A: "1"}))
    assert streams.answer(CDS, "v") == []


def test_new_stream_says_what_is_held_with_versions_of_what_was_accepted() -> None:
    streams = connected()
    streams.read(response(CDS, "c2", {A: "2", B: "2", C: "2"}))
    streams.answer(CDS, "v", "B and C are broken", [B, C])
    held = {CDS: (A, B), EDS: (A, B), LDS: ("listener",)}
    assert streams.restart(held) == [
        DeltaRequest(CDS, subscribe=("*",), initial_versions={A: "2", B: "1"}),
        DeltaRequest(EDS, subscribe=(A, B), initial_versions={A: "1", B: "1"}),
        DeltaRequest(LDS, subscribe=("*",), initial_versions={"listener": "1"}),
    ]


def test_what_was_removed_is_not_held_any_more() -> None:
    streams = connected()
    streams.read(response(CDS, "c2", {}, (B,)))
    streams.answer(CDS, "v")
    assert streams[CDS].versions == {A: "1"}


def test_names_held_from_elsewhere_have_an_empty_version() -> None:
    streams = DeltaSubscriptions(TYPES)
    requests = streams.restart({CDS: (A,), EDS: (A,), LDS: ("listener",)})
    assert requests[0] == DeltaRequest(CDS, subscribe=("*",), initial_versions={A: ""})
    # Which assignments are wanted is known after the first response.
    assert [one.type_url for one in requests] == [CDS, LDS]
    assert streams.want(EDS, [A]) == [DeltaRequest(EDS, subscribe=(A,))]


def test_response_says_names_versions_and_removals() -> None:
    streams = connected()
    found = streams.read(response(CDS, "c2", {A: "2"}, (B,)))
    assert (found.version, found.nonce, found.names, found.removed) == ("v", "c2", [A], [B])
    assert found.resources == [packed(CDS, b"\x0a\x01x")]


def bare(type_url: str, *wrappers: dict[str, Any]) -> bytes:
    return encode(DELTA_RESPONSE, {"resources": wrappers, "type_url": type_url, "nonce": "h"})


def test_heartbeat_is_told_apart_by_the_version_that_is_held() -> None:
    streams = connected()
    found = streams.read(bare(CDS, {"name": A, "version": "1", "ttl": "3s"}, {"name": B, "version": "2"}, {"name": C}))
    assert found.heartbeats == {A: "3s"}
    # The others mean something that was never told: the store rejects what has no body.
    assert (list(found.names), list(found.resources)) == ([B, C], [b"", b""])
    assert streams.answer(CDS, "v", "no body", [B, C]) == [DeltaRequest(CDS, "h", error="no body")]
    assert streams[CDS].versions == {A: "1", B: "1"}


def test_ttl_stands_beside_its_resource() -> None:
    streams = connected()
    one = {"name": A, "version": "2", "resource": packed(CDS, b"\x0a\x01x"), "ttl": "4s"}
    found = streams.read(bare(CDS, one, {**one, "name": B, "ttl": "0s"}))
    assert (found.ttls, dict(found.heartbeats)) == (["4s", "0s"], {})


def test_requests_are_written_with_all_their_fields() -> None:
    request = DeltaRequest(EDS, "n", (A,), (B,), {C: "3"}, "x" * 5000)
    assert read(DELTA_REQUEST, request.encode({"id": "me"})) == {
        "node": {"id": "me"},
        "type_url": EDS,
        "resource_names_subscribe": [A],
        "resource_names_unsubscribe": [B],
        "initial_resource_versions": {C: "3"},
        "response_nonce": "n",
        "error_detail": {"code": 3, "message": "x" * 4096},
    }
