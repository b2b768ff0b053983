"""Who may ask the admin, and what a query asks for."""

import pytest
from eastgate.proxy.admin.asking import Wanted, foreign, is_loopback_name, query_of
from eastgate.proxy.admin.http_server import Request
from eastgate.proxy.patterns import PatternError

LOCAL = "localhost"


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("localhost", True),
        ("localhost:15000", True),
        ("127.0.0.5:1", True),
        ("[::1]:15000", True),
        ("", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.nip.io", False),
    ],
)
def test_only_loopback_names_are_ours(host: str, is_one: bool) -> None:
    assert is_loopback_name(host) is is_one


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"host": "evil.example"}, "Host evil.example"),
        ({}, "Host "),
        ({"host": LOCAL, "origin": "http://evil.example"}, "pages of http://evil.example"),
        ({"host": LOCAL, "origin": "null"}, "pages of null"),
        ({"host": LOCAL, "sec-fetch-site": "cross-site"}, "another site"),
        ({"host": LOCAL, "sec-fetch-site": "same-site"}, "another site"),
    ],
)
def test_what_a_page_of_another_site_could_send_is_foreign(headers: dict[str, str], word: str) -> None:
    assert word in foreign(Request("GET", "/", headers=headers))


@pytest.mark.parametrize(
    "more", [{}, {"origin": "http://127.0.0.1:15000"}, {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}]
)
def test_what_this_machine_sends_is_not(more: dict[str, str]) -> None:
    assert foreign(Request("GET", "/", headers={"host": LOCAL, **more})) == ""


def test_a_plus_of_a_query_is_no_blank() -> None:
    assert query_of(Request("GET", "/stats", "filter=a+b%2Bc.%20&usedonly&type=")) == {
        "filter": "a+b+c. ",
        "usedonly": "",
        "type": "",
    }


def test_counters_are_chosen_by_an_expression_that_may_be_wrong() -> None:
    wanted = Wanted.parse({"filter": "cx_(total|active)$", "usedonly": ""})
    assert (wanted.used_only, wanted.type) == (True, "All")
    assert [wanted.named(name) for name in ("a.cx_total", "a.cx_total.b")] == [True, False]
    assert Wanted.parse({}).named("anything")
    with pytest.raises(PatternError):
        Wanted.parse({"filter": "("})
