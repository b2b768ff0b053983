"""Rules of the state-of-the-world protocol, as a real istiod holds its clients to them."""

from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.message import read
from eastgate.xds.subscription import Request, SotwSubscription, SotwSubscriptions


def eds(*names: str) -> SotwSubscription:
    one = SotwSubscription(EDS, wildcard=False)
    one.want(names)
    return one


def answered(one: SotwSubscription, nonce: str) -> Request | None:
    one.received(nonce)
    return one.ack("v-" + nonce)


def test_wildcard_type_is_asked_for_without_names() -> None:
    assert SotwSubscription(CDS, wildcard=True).restart() == Request(CDS)


def test_type_with_names_is_silent_while_none_is_wanted() -> None:
    one = SotwSubscription(EDS, wildcard=False)
    assert one.restart() is None
    assert one.want([]) is None
    assert one.want(["b", "a", "b"]) == Request(EDS, names=("a", "b"))


def test_ack_carries_nonce_version_and_the_names_wanted_now() -> None:
    one = eds("a")
    assert answered(one, "n1") == Request(EDS, "v-n1", "n1", ("a",))


def test_unchanged_names_are_not_sent_again() -> None:
    one = eds("a")
    answered(one, "n1")
    assert one.want(["a"]) is None


def test_changed_names_go_out_with_the_newest_nonce() -> None:
    one = eds("a")
    answered(one, "n1")
    assert one.want(["a", "b"]) == Request(EDS, "v-n1", "n1", ("a", "b"))
    assert one.want(["b"]) == Request(EDS, "v-n1", "n1", ("b",))


def test_names_dropped_in_a_race_are_said_again_by_the_next_ack() -> None:
    """istiod drops the request with nonce n1, because it has sent n2 meanwhile."""
    one = eds("a")
    answered(one, "n1")
    one.want(["a", "b"])
    assert answered(one, "n2") == Request(EDS, "v-n2", "n2", ("a", "b"))


def test_the_last_name_is_given_up_once_and_answered_anew_when_it_comes_back() -> None:
    """istiod would take a request that repeats the names for an ACK."""
    one = eds("a")
    answered(one, "n1")
    assert one.want([]) == Request(EDS, "v-n1", "n1", ())
    assert one.want([]) is None
    # A response that was on its way: an ACK without names would give up again what was given up.
    assert answered(one, "n2") is None
    assert one.want(["a"]) == Request(EDS, "v-n2", "n2", ("a",))


def test_nothing_is_given_up_that_was_not_asked_for_on_this_stream() -> None:
    one = eds("a")
    one.prepare([])
    assert one.restart() is None
    assert one.want([]) is None


def test_nack_keeps_the_previous_version() -> None:
    one = eds("a")
    answered(one, "n1")
    one.received("n2")
    assert one.nack("bad") == [Request(EDS, "v-n1", "n2", ("a",), "bad")]
    assert one.version == "v-n1"


def test_first_nack_has_an_empty_version() -> None:
    one = SotwSubscription(CDS, wildcard=True)
    one.restart()
    one.received("n1")
    assert one.nack("bad") == [Request(CDS, "", "n1", (), "bad")]


def test_names_in_doubt_are_said_again_after_a_nack() -> None:
    """A NACK is not read for names, and the request before it may have been dropped."""
    one = eds("a")
    answered(one, "n1")
    one.want(["a", "b"])
    one.received("n2")
    assert one.nack("bad") == [
        Request(EDS, "v-n1", "n2", ("a", "b"), "bad"),
        Request(EDS, "v-n1", "n2", ("a", "b")),
    ]
    # That one may be dropped too, so the next NACK says it again, and an ACK ends it.
    one.received("n3")
    assert len(one.nack("bad")) == 2
    answered(one, "n4")
    one.received("n5")
    assert len(one.nack("bad")) == 1


def test_reconnect_begins_with_empty_nonce_full_names_and_the_last_version() -> None:
    one = eds("a", "b")
    answered(one, "n1")
    assert one.restart() == Request(EDS, "v-n1", "", ("a", "b"))
    assert one.want(["a", "b"]) is None


def test_response_without_nonce_is_not_answered() -> None:
    """An ACK without nonce would be taken for a first request, and answered, without end."""
    one = eds("a")
    one.received("")
    assert one.ack("v") is None
    assert one.nack("bad") == []


def subscriptions() -> SotwSubscriptions:
    return SotwSubscriptions([(CDS, True), (EDS, False), (LDS, True)])


def test_other_types_wait_for_the_first_response_of_a_first_stream() -> None:
    all_types = subscriptions()
    assert all_types.restart() == [Request(CDS)]
    all_types.received(CDS, "n1")
    assert all_types.answer(CDS, "v1") == [Request(CDS, "v1", "n1")]
    assert all_types.want(EDS, ["a"]) == []
    assert all_types.release() == [Request(EDS, names=("a",)), Request(LDS)]
    assert all_types.release() == []


def test_rejected_first_response_releases_the_others_too() -> None:
    all_types = subscriptions()
    all_types.restart()
    all_types.received(CDS, "n1")
    assert all_types.answer(CDS, "v1", "bad")[0].error == "bad"
    assert all_types.release() == [Request(LDS)]


def test_all_types_are_asked_for_at_once_on_later_streams() -> None:
    all_types = subscriptions()
    all_types.restart()
    all_types.received(CDS, "n1")
    all_types.answer(CDS, "v1")
    all_types.want(EDS, ["a"])
    all_types.release()
    assert all_types.restart() == [Request(CDS, "v1"), Request(EDS, names=("a",)), Request(LDS)]


def test_request_encodes_as_discovery_request() -> None:
    name = "envoy.service.discovery.v3.DiscoveryRequest"
    first = read(name, Request(CDS).encode({"id": "n"}))
    assert first == {"node": {"id": "n"}, "type_url": CDS}
    nack = read(name, Request(EDS, "v1", "n2", ("a",), "x" * 10_000).encode())
    assert (nack["version_info"], nack["response_nonce"], nack["resource_names"]) == ("v1", "n2", ["a"])
    assert nack["error_detail"] == {"code": 3, "message": "x" * 4096}
