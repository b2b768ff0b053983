"""Routes of a first request: against a slow model over random tables, and case by case where Envoy's rules are odd."""

import random
from collections.abc import Sequence

import pytest
from eastgate.fastpath.match.http_routes import ChosenRoute, HttpRoutes
from eastgate.fastpath.match.http_specs import HeaderSpec, HttpHostSpec, HttpRouteSpec, HttpRoutesSpec

NOBODY, UNKNOWN, CLOSED, MORE = (ChosenRoute(one) for one in ("nobody", "unknown", "closed", "more"))


def goes(slot: int) -> ChosenRoute:
    return ChosenRoute("found", slot)


def to(slot: int, path_kind: str = "any", path: str = "", **fields: object) -> HttpRouteSpec:
    return HttpRouteSpec(path_kind, path, targets=((slot, 1),), **fields)  # type: ignore[arg-type]


def host(*routes: HttpRouteSpec, domains: Sequence[str] = ("*",), **fields: bool) -> HttpHostSpec:
    return HttpHostSpec(tuple(domains), routes, **fields)


def table(*hosts: HttpHostSpec, **fields: bool) -> HttpRoutes:
    return HttpRoutes.compile(HttpRoutesSpec(hosts, **fields))


def request(authority: str = "a", target: str = "/", *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {authority}", *headers, "", ""]).encode()


def test_exact_then_longest_suffix_then_longest_prefix_then_all():
    routes = table(
        host(to(1), domains=["a.example.com"]),
        host(to(2), domains=["*.example.com"]),
        host(to(3), domains=["*.a.example.com", "*-b.example.com"]),
        host(to(4), domains=["a.*"]),
        host(to(5), domains=["a.example.*"]),
        host(to(6)),
    )
    for authority, slot in {
        "a.example.com": 1,
        "A.Example.COM": 1,
        "b.example.com": 2,
        "x.a.example.com": 3,
        "x-b.example.com": 3,
        # A wildcard stands for something.
        "-b.example.com": 2,
        ".example.com": 6,
        "a.org": 4,
        "a.example.org": 5,
        "a.": 6,
        "b": 6,
        "a.example.com:80": 5,
    }.items():
        assert routes.choose(request(authority)) == goes(slot), authority


def test_ports_are_ignored_where_the_routes_say_so():
    hosts = [host(to(1), domains=["a"]), host(to(2), domains=["[fd00::1]"]), host(to(3), domains=["a:80"])]
    routes = table(*hosts, ignores_port=True)
    assert routes.choose(request("a:8080")) == goes(1)
    assert routes.choose(request("a:80")) == goes(1)
    assert routes.choose(request("[fd00::1]:80")) == goes(2)
    assert routes.choose(request("[fd00::1]")) == goes(2)
    plain = table(*hosts)
    assert plain.choose(request("a:80")) == goes(3)
    assert plain.choose(request("a:8080")) == NOBODY


def test_first_route_that_matches():
    routes = table(
        host(
            to(1, "exact", "/x"),
            to(2, "separated", "/y"),
            to(3, "prefix", "/z"),
            to(4, "prefix", "/q", ignore_case=True),
            to(5, "never"),
        )
    )
    for target, choice in {
        "/x": goes(1),
        "/x?q=/y": goes(1),
        "/x/": NOBODY,
        "/y": goes(2),
        "/y/a": goes(2),
        "/ya": NOBODY,
        "/za": goes(3),
        "/Za": NOBODY,
        "/QA": goes(4),
        "http://a/x": goes(1),
        "http://b/x?y": goes(1),
        "http://a": NOBODY,
    }.items():
        assert routes.choose(request("a", target)) == choice, target
    root = table(host(to(1, "exact", "/")))
    assert root.choose(request("a", "http://a")) == root.choose(request("a", "http://a?x")) == goes(1)


def test_a_path_that_envoy_would_rewrite_first_is_not_known():
    routes = table(host(to(1, "prefix", "/a"), to(2)), normalizes_path=True)
    for target in ("/%61", "/./a", "/x/../a", "/\\a"):
        assert routes.choose(request("a", target)) == UNKNOWN, target
    assert routes.choose(request("a", "/x/a?%61")) == goes(2)
    # Nobody asks for the path.
    assert table(host(to(2)), normalizes_path=True).choose(request("a", "/%61")) == goes(2)
    assert table(host(to(1, "prefix", "/a"), to(2))).choose(request("a", "/%61")) == goes(2)


def header(kind: str, text: str = "", name: str = "x", **fields: bool) -> HeaderSpec:
    return HeaderSpec(name, kind, text, **fields)


HEADERS = [
    (header("exact", "abc"), ["X: abc "], True),
    (header("exact", "abc"), ["X: ab"], False),
    (header("exact", "abc", ignore_case=True), ["x:ABC"], True),
    (header("prefix", "ab"), ["X: abc"], True),
    (header("suffix", "bc"), ["X: abc"], True),
    (header("contains", "b"), ["X: abc"], True),
    (header("contains", "d"), ["X: abc"], False),
    (header("exact", "abc"), [], False),
    (header("exact", "abc", inverted=True), ["X: d"], True),
    (header("exact", "abc", inverted=True), [], False),
    (header("exact", "abc", inverted=True, missing_is_empty=True), [], True),
    (header("exact", "", missing_is_empty=True), [], True),
    (header("present"), ["X:"], True),
    (header("present"), ["Y: x"], False),
    (header("present", inverted=True), [], True),
    (header("present", inverted=True), ["x: 1"], False),
    (header("exact", "GET", ":method"), [], True),
    (header("exact", "a", ":authority"), [], True),
    (header("exact", "/", ":path"), [], True),
    (header("present", missing_is_empty=True), [], True),
    (header("present", inverted=True, missing_is_empty=True), [], False),
]


@pytest.mark.parametrize(("asked", "lines", "matches"), HEADERS)
def test_headers(asked: HeaderSpec, lines: list[str], matches: bool):
    routes = table(host(to(1, headers=(asked,)), to(2)))
    assert routes.choose(request("a", "/", *lines)) == goes(1 if matches else 2)


def test_pseudo_headers_are_as_they_were_sent():
    by_path = table(host(to(1, headers=(header("exact", "/a?x", ":path"),)), to(2)), normalizes_path=True)
    choices = {"/a?x": goes(1), "/a": goes(2), "http://b/a?x": goes(1), "/%61": UNKNOWN, "http://b?x": UNKNOWN}
    assert {target: by_path.choose(request("a", target)) for target in choices} == choices
    by_host = table(host(to(1, headers=(header("exact", "A", ":authority"),)), to(2)))
    assert [by_host.choose(request(one)) for one in ("A", "a")] == [goes(1), goes(2)]
    assert by_host.choose(request("a", "http://A/")) == goes(1)


def test_a_star_is_no_path_below_the_root():
    stars = request("a", "*", method="OPTIONS")
    assert table(host(to(1, "any", "/"))).choose(stars) == NOBODY
    assert table(host(to(1))).choose(stars) == goes(1)


def test_an_empty_host_is_one_of_all():
    assert table(host(to(1))).choose(request("")) == goes(1)
    assert table(host(to(1), domains=["a", "a*", "*a"])).choose(request("")) == NOBODY


def test_the_head_is_read_to_its_end_where_a_route_asks_for_a_header():
    routes = table(host(to(1, "prefix", "/x", headers=(header("present"),)), to(2)))
    whole = request("a", "/x", "Y: 1", "X: 2")
    for end in range(whole.index(b"Host: a\r\n") + 9, len(whole)):
        assert routes.choose(whole[:end]) == MORE, whole[:end]
    assert routes.choose(whole) == goes(1)
    # And not where none does.
    assert routes.choose(request("a", "/y")[:-2]) == goes(2)


def test_what_is_not_known_stops_the_search():
    closed = HttpRouteSpec("any")
    assert table(host(to(1, is_known=False), to(2))).choose(request()) == UNKNOWN
    assert table(host(to(1, "prefix", "/b", is_known=False), to(2))).choose(request()) == goes(2)
    assert table(host(to(1, headers=(header("unknown"),)), to(2))).choose(request()) == goes(2)
    assert table(host(to(1, headers=(header("unknown"),)), to(2))).choose(request("a", "/", "x: 1")) == UNKNOWN
    assert (
        table(host(to(1, headers=(header("exact", "1"),)), to(2))).choose(request("a", "/", "x: 1", "x: 2")) == UNKNOWN
    )
    assert table(host(to(1, headers=(header("unknown", missing_is_empty=True),)), to(2))).choose(request()) == UNKNOWN
    assert table(host(to(1, "unknown"), to(2))).choose(request()) == UNKNOWN
    assert table(host(closed, to(2))).choose(request()) == CLOSED
    assert table(host(to(1), is_closed=True)).choose(request()) == CLOSED


def test_connect_goes_to_routes_for_it_alone():
    assert table(host(to(1), to(2, "never"))).choose(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n") == NOBODY


def test_http_2_goes_by_the_address_that_it_wanted():
    routes = table(
        host(to(1, "prefix", "/x"), to(2), domains=["svc", "10.0.0.1"]),
        host(to(3), domains=["svc6", "[fd00::1]"]),
        host(to(4, headers=(header("present"),)), domains=["10.0.0.2"]),
        host(to(5)),
        ignores_port=True,
    )
    assert routes.choose_authority("10.0.0.1:80") == goes(2)
    assert routes.choose_authority("[fd00::1]:80") == goes(3)
    assert routes.choose_authority("10.0.0.2:80") == NOBODY
    assert routes.choose_authority("10.0.0.9:80") == goes(5)


def test_weights():
    routes = table(host(HttpRouteSpec("any", targets=((7, 1), (8, 3)))))
    assert [routes.choose(request(), draw).slot for draw in range(5)] == [7, 8, 8, 8, 7]


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ((host(to(1), domains=["a"]), host(to(1), domains=["A"])), "domain A stands in two virtual hosts"),
        ((host(HttpRouteSpec("any", targets=((1, 0),))),), "is no target"),
        ((host(HttpRouteSpec("any", targets=((1, 2**32 - 1), (2, 1)))),), "sum past"),
    ],
)
def test_what_cannot_be_compiled(hosts: tuple[HttpHostSpec, ...], message: str):
    with pytest.raises(ValueError, match=message):
        table(*hosts)


# ---- a slow model

NAMES = ("a", "b.a", "c.b.a", "c-b.a", "c.b", "a.c")


def model_host(spec: HttpRoutesSpec, authority: str) -> HttpHostSpec | None:
    name = authority.rpartition(":")[0] if spec.ignores_port and ":" in authority else authority
    ranked = []
    for one in spec.hosts:
        for domain in one.domains:
            if domain == "*":
                ranked.append((0, 0, one))
            elif domain.startswith("*") and name.endswith(domain[1:]) and len(name) >= len(domain):
                ranked.append((2, len(domain), one))
            elif domain.endswith("*") and name.startswith(domain[:-1]) and len(name) >= len(domain):
                ranked.append((1, len(domain), one))
            elif domain == name:
                ranked.append((3, 0, one))
    return max(ranked, key=lambda one: one[:2])[2] if ranked else None


def model(spec: HttpRoutesSpec, authority: str, path: str, value: str | None) -> ChosenRoute:
    found = model_host(spec, authority)
    for one in found.routes if found is not None else ():
        if one.path_kind == "exact" and path != one.path:
            continue
        if one.path_kind == "prefix" and not path.startswith(one.path):
            continue
        if one.path_kind == "separated" and not f"{path}/".startswith(f"{one.path}/"):
            continue
        matched = True
        for asked in one.headers:
            if value is None:
                matched = matched and asked.inverted and asked.kind == "present"
            else:
                met = {"exact": value == asked.text, "prefix": value.startswith(asked.text), "present": True}[
                    asked.kind
                ]
                matched = matched and met != asked.inverted
        if matched:
            return goes(one.targets[0][0])
    return NOBODY


def random_spec(rng: random.Random) -> HttpRoutesSpec:
    domains = [*dict.fromkeys((*NAMES, *(f"*{name[1:]}" for name in NAMES), "*.a", "c.*", "a.*", "*", "a:80"))]
    rng.shuffle(domains)
    hosts, slot = [], 0
    while domains and len(hosts) < 5:
        mine = [domains.pop() for _ in range(min(len(domains), rng.randint(1, 3)))]
        routes = []
        for _ in range(rng.randint(0, 4)):
            slot += 1
            kind = rng.choice(["any", "exact", "prefix", "separated"])
            asked = tuple(
                header(
                    rng.choice(["exact", "prefix", "present"]), rng.choice(["", "v", "vw"]), inverted=rng.random() < 0.3
                )
                for _ in range(rng.choice([0, 0, 1, 2]))
            )
            routes.append(to(slot, kind, rng.choice(["/a", "/a/b", "/"]), headers=asked))
        hosts.append(host(*routes, domains=mine))
    return HttpRoutesSpec(tuple(hosts), ignores_port=rng.random() < 0.5)


def test_random_tables_agree_with_a_slow_model():
    rng = random.Random(5)
    seen = set()
    for _ in range(300):
        spec = random_spec(rng)
        compiled = HttpRoutes.compile(spec)
        for _ in range(20):
            authority = rng.choice(NAMES) + rng.choice(["", "", ":80"])
            path = rng.choice(["/", "/a", "/a/b", "/ab", "/a/bc"])
            value = rng.choice([None, "", "v", "vw", "w"])
            lines = [] if value is None else [f"X: {value}"]
            expected = model(spec, authority, path, value)
            assert compiled.choose(request(authority, path, *lines)) == expected, (spec, authority, path, value)
            seen.add(expected)
    assert len(seen) > 10
