"""The rules of a stream, state-of-the-world and Delta, as a real istiod has them."""

from eastgate.mesh.ads_stream import Response, Stream, empty_assignment
from eastgate.mesh.messages import CDS, EDS, LDS

A, B, C = "outbound|80||a", "outbound|80||b", "outbound|80||c"
RESOURCES = {CDS: {A: b"a", B: b"b"}, EDS: {A: b"1", B: b"2"}, LDS: {"l": b"l"}}


def sotw() -> Stream:
    return Stream(delta=False)


def names(responses: list[Response]) -> list[tuple[str, ...]]:
    return [tuple(sorted(one.resources)) for one in responses]


def ask(stream: Stream, type_url: str, *wanted: str, nonce: str = "", error: str = "") -> list[Response]:
    return stream.on_request(type_url, wanted, nonce, RESOURCES, "v1", error=error)


def subscribe(
    stream: Stream, type_url: str, *wanted: str, gone: tuple[str, ...] = (), nonce: str = ""
) -> list[Response]:
    return stream.on_delta_request(type_url, wanted, gone, nonce, RESOURCES, "v1")


def test_first_request_is_answered_in_full() -> None:
    stream = sotw()
    assert names(ask(stream, CDS)) == [(A, B)]
    assert names(ask(stream, EDS, A)) == [(A,)]


def test_no_names_of_a_named_type_is_to_want_nothing() -> None:
    stream = sotw()
    assert ask(stream, EDS) == []
    assert EDS not in stream.watches


def test_an_acknowledgement_is_not_answered() -> None:
    stream = sotw()
    (first,) = ask(stream, CDS)
    assert ask(stream, CDS, nonce=first.nonce) == []
    assert stream.watches[CDS].state == "SYNCED"


def test_only_added_names_are_answered() -> None:
    stream = sotw()
    (first,) = ask(stream, EDS, A)
    assert names(ask(stream, EDS, A, B, nonce=first.nonce)) == [(B,)]


def test_fewer_names_are_not_answered_and_not_pushed() -> None:
    stream = sotw()
    (first,) = ask(stream, EDS, A, B)
    assert ask(stream, EDS, A, nonce=first.nonce) == []
    changed = {**RESOURCES, EDS: {A: b"1", B: b"changed"}}
    assert stream.on_push(changed, "v2") == []


def test_an_outdated_nonce_is_ignored() -> None:
    stream = sotw()
    ask(stream, EDS, A)
    assert ask(stream, EDS, A, B, nonce="old") == []
    assert stream.watches[EDS].names == {A}


def test_a_rejection_is_kept_and_not_answered() -> None:
    stream = sotw()
    (first,) = ask(stream, CDS)
    assert ask(stream, CDS, nonce=first.nonce, error="no") == []
    assert (stream.watches[CDS].state, stream.watches[CDS].rejected) == ("NACKed", "no")


def test_clusters_asked_for_after_endpoints_make_the_next_endpoint_request_answered() -> None:
    stream = sotw()
    (endpoints,) = ask(stream, EDS, A)
    ask(stream, CDS)
    assert names(ask(stream, EDS, A, nonce=endpoints.nonce)) == [(A,)]
    assert ask(stream, EDS, A, nonce=stream.watches[EDS].nonce) == []


def test_an_unknown_service_has_an_empty_assignment() -> None:
    (response,) = ask(sotw(), EDS, C)
    assert response.resources == {C: empty_assignment(C)}
    assert empty_assignment("x" * 200) == b"\x0a\xc8\x01" + b"x" * 200


def test_a_push_holds_whole_clusters_and_changed_endpoints_in_order() -> None:
    stream = sotw()
    for type_url, wanted in ((LDS, ()), (EDS, (A, B)), (CDS, ())):
        ask(stream, type_url, *wanted)
    changed = {CDS: {A: b"a2", B: b"b"}, EDS: {A: b"1", B: b"22"}, LDS: {}}
    pushed = stream.on_push(changed, "v2")
    assert [(one.type_url, sorted(one.resources)) for one in pushed] == [(CDS, [A, B]), (EDS, [B]), (LDS, [])]
    assert stream.on_push(changed, "v3") == []


def test_delta_says_what_is_gone_and_never_for_endpoints() -> None:
    stream = Stream(delta=True)
    assert names(subscribe(stream, CDS, "*")) == [(A, B)]
    assert names(subscribe(stream, EDS, A, B)) == [(A, B)]
    pushed = stream.on_push({CDS: {A: b"a"}, EDS: {A: b"1"}}, "v2")
    assert [(one.type_url, dict(one.resources), one.removed) for one in pushed] == [
        (CDS, {}, (B,)),
        (EDS, {B: empty_assignment(B)}, ()),
    ]


def test_delta_pushes_only_what_changed() -> None:
    stream = Stream(delta=True)
    subscribe(stream, CDS)
    (pushed,) = stream.on_push({CDS: {A: b"a", B: b"changed"}}, "v2")
    assert dict(pushed.resources) == {B: b"changed"}


def test_delta_answers_added_names_only() -> None:
    stream = Stream(delta=True)
    subscribe(stream, EDS, A)
    assert names(subscribe(stream, EDS, B)) == [(B,)]
    assert subscribe(stream, EDS, gone=(A,)) == []
    assert stream.watches[EDS].names == {B}


def test_delta_client_that_comes_back_hears_what_has_gone_meanwhile() -> None:
    stream = Stream(delta=True)
    (response,) = stream.on_delta_request(CDS, (), (), "", RESOURCES, "v1", held=(A, C))
    assert (sorted(response.resources), response.removed) == ([A, B], (C,))


def test_delta_sends_endpoints_again_after_a_cluster_request() -> None:
    stream = Stream(delta=True)
    subscribe(stream, EDS, A)
    assert [one.type_url for one in subscribe(stream, CDS)] == [CDS, EDS]


def test_delta_acknowledgement_is_not_answered() -> None:
    stream = Stream(delta=True)
    (first,) = subscribe(stream, CDS)
    assert subscribe(stream, CDS, nonce=first.nonce) == []
    assert stream.watches[CDS].state == "SYNCED"
