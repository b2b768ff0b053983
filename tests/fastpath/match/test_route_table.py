import copy
import pickle

import pytest
from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

SERVICE = "outbound_.80_._.reviews.default.svc.cluster.local"


def chain(name: str = "chain", *server_names: str, **fields: object) -> ChainSpec:
    if "refusal" not in fields:
        fields.setdefault("targets", ((0, 1),))
    return ChainSpec(name, server_names=server_names, **fields)


def istio(name: str, *server_names: str, **fields: object) -> ChainSpec:
    return chain(name, *server_names, application_protocols=ISTIO_ALPN, **fields)


def served_by(chains: list[ChainSpec], default: ChainSpec | None = None, **asked: object) -> str:
    """Name of the chain that serves, or of the reason why none does."""
    found = RouteTable.compile(chains, default).match(Observed(**asked))
    return Reason(-found).name if found < 0 else [*chains, default][found].name


# ---- destination port


def test_exact_port_serves():
    chains = [chain("any"), chain("p80", destination_port=80), chain("p443", destination_port=443)]
    assert served_by(chains, destination_port=80) == "p80"
    assert served_by(chains, destination_port=443) == "p443"
    assert served_by(chains, destination_port=8080) == "any"


def test_exact_port_hides_chains_without_port():
    chains = [chain("any", "a.example"), chain("p80", "b.example", destination_port=80)]
    assert served_by(chains, server_name="a.example", destination_port=81) == "any"
    assert served_by(chains, server_name="a.example", destination_port=80) == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, chain("default"), server_name="a.example", destination_port=80) == "default"


def test_without_chain_for_the_port_or_for_any():
    chains = [chain("p80", destination_port=80)]
    assert served_by(chains, server_name="a.example", destination_port=81) == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, destination_port=81) == "NO_SNI"
    assert served_by(chains, tls=False, destination_port=81) == "NOT_TLS"


def test_every_port_of_many_is_found():
    chains = [chain(f"p{port}", destination_port=port) for port in (1, 7, 80, 443, 8080, 15443, 65535)]
    for spec in chains:
        assert served_by(chains, destination_port=spec.destination_port) == spec.name
    for port in (0, 2, 79, 442, 15442, 65534):
        assert served_by(chains, destination_port=port) == "NO_SNI"


# ---- server name


def test_exact_name_before_wildcard_before_none():
    chains = [chain("none"), chain("wild", "*.example.com"), chain("exact", "a.example.com")]
    assert served_by(chains, server_name="a.example.com") == "exact"
    assert served_by(chains, server_name="b.example.com") == "wild"
    assert served_by(chains, server_name="example.com") == "none"
    assert served_by(chains) == "none"


def test_longest_wildcard_serves_at_any_depth():
    chains = [chain("d", "*.d"), chain("cd", "*.c.d"), chain("bcd", "*.b.c.d")]
    assert served_by(chains, server_name="a.b.c.d") == "bcd"
    assert served_by(chains, server_name="x.a.b.c.d") == "bcd"
    assert served_by(chains, server_name="b.c.d") == "cd"
    assert served_by(chains, server_name="x.c.d") == "cd"
    assert served_by(chains, server_name="c.d") == "d"
    assert served_by(chains, server_name="d") == "UNKNOWN_SERVER_NAME"


def test_wildcard_takes_no_part_of_a_label_and_no_empty_one():
    chains = [chain("wild", "*.b.c")]
    assert served_by(chains, server_name="ab.c") == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, server_name="xb.c") == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, server_name=".b.c") == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, server_name="a.b.c.") == "UNKNOWN_SERVER_NAME"


def test_names_are_compared_in_lower_case():
    chains = [chain("exact", "WWW.Example.COM"), chain("wild", "*.Example.ORG")]
    assert served_by(chains, server_name="www.EXAMPLE.com") == "exact"
    assert served_by(chains, server_name="A.EXAMPLE.org") == "wild"


def test_trailing_dot_is_another_name():
    chains = [chain("plain", "a.example"), chain("dot", "b.example.")]
    assert served_by(chains, server_name="a.example.") == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, server_name="b.example.") == "dot"


def test_no_server_name_asks_chains_without_names_only():
    assert served_by([chain("wild", "*.example")]) == "NO_SNI"
    assert served_by([chain("named", "a.example"), chain("none")]) == "none"


def test_every_name_of_a_chain_serves():
    chains = [chain("two", "a.example", "*.b.example"), chain("other", "c.example")]
    assert served_by(chains, server_name="a.example") == "two"
    assert served_by(chains, server_name="x.b.example") == "two"
    assert served_by(chains, server_name="c.example") == "other"


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 252, 253, 255])
def test_names_of_every_length_are_told_apart(length):
    chains = [chain("a", "a" * length), chain("b", "b" * length), chain("tail", "a" * (length - 1) + "z")]
    for spec in chains:
        assert served_by(chains, server_name=spec.server_names[0]) == spec.name
    assert served_by(chains, server_name="c" * length) == "UNKNOWN_SERVER_NAME"


def test_name_that_no_client_can_send_is_kept_out_of_the_way():
    chains = [chain("long", "a" * 300), chain("short", "b")]
    assert served_by(chains, server_name="b") == "short"
    assert RouteTable.compile(chains).nearest_server_name("a" * 255) == ""


# ---- transport protocol


def test_exact_transport_before_any():
    chains = [chain("tls", transport_protocol="tls"), chain("raw", transport_protocol="raw_buffer"), chain("any")]
    assert served_by(chains) == "tls"
    assert served_by(chains, tls=False) == "raw"
    assert served_by(chains[1:]) == "any"
    assert served_by([chains[0], chains[2]], tls=False) == "any"


def test_without_tls_only_chains_without_name_and_alpn_serve():
    assert served_by([chain("named", "a.example")], tls=False) == "NOT_TLS"
    assert served_by([istio("alpn")], tls=False) == "NOT_TLS"
    assert served_by([chain("tls", transport_protocol="tls")], tls=False) == "NOT_TLS"
    assert served_by([chain("raw", transport_protocol="raw_buffer")], tls=False) == "raw"
    assert served_by([chain("any")], tls=False) == "any"
    assert served_by([istio("mesh", SERVICE)], chain("default"), tls=False) == "default"


def test_without_tls_what_a_hello_would_say_is_not_looked_at():
    chains = [chain("named", "a.example"), chain("raw", transport_protocol="raw_buffer")]
    assert served_by(chains, tls=False, server_name="a.example", application_protocols=("h2",)) == "raw"


def test_no_backtracking_from_the_transport_protocol():
    chains = [chain("A", "www.example.com", transport_protocol="raw_buffer"), chain("B")]
    assert served_by(chains, server_name="www.example.com") == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, chain("default"), server_name="www.example.com") == "default"
    assert served_by(chains, server_name="other.example.com") == "B"


def test_unknown_transport_protocol_serves_nobody_and_hides():
    chains = [chain("quic", "a.example", transport_protocol="quic"), chain("none")]
    assert served_by(chains, server_name="a.example") == "UNKNOWN_SERVER_NAME"


# ---- ALPN


def test_first_protocol_of_the_client_that_is_configured():
    chains = [
        chain("h2", application_protocols=("h2",)),
        chain("h1", application_protocols=("http/1.1",)),
        chain("any"),
    ]
    assert served_by(chains, application_protocols=("x", "http/1.1", "h2")) == "h1"
    assert served_by(chains, application_protocols=("h2", "http/1.1")) == "h2"
    assert served_by(chains, application_protocols=("x",)) == "any"
    assert served_by(chains) == "any"


def test_protocols_are_compared_byte_by_byte():
    chains = [chain("h2", application_protocols=("h2",))]
    for protocol in ("H2", "h", "h2c", "h2\x00"):
        assert served_by(chains, server_name="a", application_protocols=(protocol,)) == "UNKNOWN_SERVER_NAME"


def test_no_backtracking_from_alpn():
    chains = [chain("exact", "a.b", application_protocols=("h2",)), chain("wild", "*.b"), chain("none")]
    assert served_by(chains, server_name="a.b", application_protocols=("http/1.1",)) == "ALPN_MISMATCH"
    assert served_by(chains, chain("default"), server_name="a.b", application_protocols=("x",)) == "default"
    assert served_by(chains, server_name="c.b", application_protocols=("x",)) == "wild"
    transports = [chain("tls", transport_protocol="tls", application_protocols=("h2",)), chain("any")]
    assert served_by(transports, server_name="x") == "UNKNOWN_SERVER_NAME"


def test_chains_of_one_name_share_it_by_alpn():
    chains = [
        chain("h2", "a.b", application_protocols=("h2", "h2c")),
        chain("tls", "a.b", transport_protocol="tls", application_protocols=("istio",)),
        chain("other", "a.c", application_protocols=("h2", "h2c")),
    ]
    # `tls` is the more specific transport protocol, so "h2" is not reached by a TLS client.
    assert served_by(chains, server_name="a.b", application_protocols=("h2", "istio")) == "tls"
    assert served_by(chains, server_name="a.b", application_protocols=("h2",)) == "ALPN_MISMATCH"
    assert served_by(chains, server_name="a.c", application_protocols=("h2c",)) == "other"


# ---- default chain and refusals


def test_reasons():
    chains = [istio("mesh", "a.b")]
    assert served_by(chains) == "NO_SNI"
    assert served_by(chains, application_protocols=("istio",)) == "NO_SNI"
    assert served_by(chains, server_name="c.b") == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, server_name="a.b") == "ALPN_MISMATCH"
    assert served_by(chains, tls=False) == "NOT_TLS"
    assert served_by([istio("nameless")], server_name="a.b") == "UNKNOWN_SERVER_NAME"
    assert served_by([istio("nameless")]) == "NO_SNI"


def test_default_chain_is_numbered_behind_the_others_and_its_match_is_not_looked_at():
    table = RouteTable.compile([chain("a", "a.b")], chain("default", "only.this", destination_port=1))
    assert table.match(Observed(server_name="x")) == 1
    assert len(table) == 1


def test_without_any_chain():
    table = RouteTable.compile([])
    assert len(table) == 0
    assert [table.match(Observed()), table.match(Observed(server_name="a")), table.match(Observed(tls=False))] == [
        -Reason.NO_SNI,
        -Reason.UNKNOWN_SERVER_NAME,
        -Reason.NOT_TLS,
    ]


def test_refusing_chain_is_matched_like_any_other():
    chains = [chain("closed", "a.b", refusal=Reason.POLICY), chain("open")]
    assert served_by(chains, server_name="a.b") == "closed"


@pytest.mark.parametrize("order", [1, -1])
def test_refusing_chain_wins_over_one_with_the_same_criteria(order):
    chains = [chain("closed", "a.b", refusal=Reason.POLICY), chain("open", "a.b"), chain("more", "c.d")][::order]
    assert served_by(chains, server_name="a.b") == "closed"
    assert served_by(chains, server_name="c.d") == "more"


def test_refusing_chain_takes_only_the_protocols_that_it_names():
    chains = [
        chain("open", "a.b", application_protocols=("h2", "h3")),
        chain("closed", "a.b", application_protocols=("h2",), refusal=Reason.POLICY),
    ]
    assert served_by(chains, server_name="a.b", application_protocols=("h2",)) == "closed"
    assert served_by(chains, server_name="a.b", application_protocols=("h3",)) == "open"


# ---- weighted targets


def test_target_is_the_interval_that_holds_the_draw_modulo_the_total():
    table = RouteTable.compile([chain(targets=((7, 10), (8, 20), (9, 70)))])
    assert [table.target(0, draw) for draw in (0, 9, 10, 29, 30, 99)] == [7, 7, 8, 8, 9, 9]
    # 2^64-1 = 100 * 184467440737095516 + 15.
    assert [table.target(0, draw) for draw in (100, 2**64 - 1)] == [7, 8]


def test_targets_of_one_cluster_and_of_the_largest_sum():
    table = RouteTable.compile([chain(targets=((3, 5),))], chain(targets=((1, 2**32 - 2), (2, 1))))
    assert {table.target(0, draw) for draw in range(10)} == {3}
    assert [table.target(1, draw) for draw in (2**32 - 3, 2**32 - 2, 2**32 - 1)] == [1, 2, 1]


def test_target_of_a_chain_that_has_none():
    table = RouteTable.compile([chain(refusal=Reason.POLICY)])
    with pytest.raises(ValueError, match="chain 0 has no targets"):
        table.target(0, 0)
    with pytest.raises(ValueError, match="no chain 1: there are 1"):
        table.target(1, 0)
    with pytest.raises(OverflowError):
        table.target(-1, 0)


# ---- security: names of mesh services


@pytest.mark.parametrize("protocol", ISTIO_ALPN)
def test_mesh_service_is_served_to_each_of_istios_protocols(protocol):
    assert served_by([istio("mesh", SERVICE)], server_name=SERVICE, application_protocols=("h2", protocol)) == "mesh"


@pytest.mark.parametrize("protocols", [(), ("h2",), ("ISTIO",), ("istio-",), ("istio-http/2",), ("istio-h2c",)])
def test_mesh_service_is_refused_without_a_protocol_of_istios_whatever_the_chain_says(protocols):
    for spec in (
        istio("mesh", SERVICE),
        chain("any protocol", SERVICE),
        chain("h2", SERVICE, application_protocols=("h2", "ISTIO", "istio-", "istio-http/2", "istio-h2c")),
    ):
        assert served_by([spec], server_name=SERVICE, application_protocols=protocols) == "ALPN_MISMATCH"
        assert (
            served_by([spec], chain("default"), server_name=SERVICE, application_protocols=protocols) == "ALPN_MISMATCH"
        )


def test_mesh_service_may_be_served_by_a_chain_without_alpn_when_the_client_offers_istios():
    assert served_by([chain("plain", SERVICE)], server_name=SERVICE, application_protocols=("istio",)) == "plain"


def test_mesh_service_is_never_served_by_a_wildcard():
    chains = [istio("wild", "*.local"), istio("wilder", "*.default.svc.cluster.local")]
    assert served_by(chains, server_name=SERVICE, application_protocols=("istio",)) == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, server_name="x.local", application_protocols=("istio",)) == "wild"


def test_mesh_service_is_never_served_by_a_chain_without_names():
    for spec in (istio("nameless"), chain("nameless"), chain("tls", transport_protocol="tls")):
        assert served_by([spec], server_name=SERVICE, application_protocols=("istio",)) == "UNKNOWN_SERVER_NAME"


def test_mesh_service_is_never_served_by_the_default_chain():
    default = chain("default")
    for chains in ([], [istio("other", "x.y")], [istio("mesh", SERVICE, destination_port=1)]):
        assert (
            served_by(chains, default, server_name=SERVICE, application_protocols=("istio",)) == "UNKNOWN_SERVER_NAME"
        )
    dead_ends = [chain("raw", SERVICE, transport_protocol="raw_buffer")]
    assert served_by(dead_ends, default, server_name=SERVICE, application_protocols=("istio",)) == "UNKNOWN_SERVER_NAME"
    mismatch = [chain("h2", SERVICE, application_protocols=("h2",))]
    assert served_by(mismatch, default, server_name=SERVICE, application_protocols=("istio",)) == "ALPN_MISMATCH"


def test_name_of_a_mesh_service_in_capitals_is_one():
    chains = [istio("mesh", SERVICE), chain("wild", "*.local"), chain("nameless")]
    name = SERVICE.upper()
    assert served_by(chains, server_name=name, application_protocols=("istio",)) == "mesh"
    assert served_by(chains, server_name=name) == "ALPN_MISMATCH"
    assert served_by(chains, server_name=name.replace("REVIEWS", "X"), application_protocols=("istio",)) == (
        "UNKNOWN_SERVER_NAME"
    )


@pytest.mark.parametrize("name", ["outbound_.", "outbound_.x", SERVICE + "."])
def test_every_name_with_the_prefix_is_one_of_a_mesh_service(name):
    assert served_by([chain("nameless")], server_name=name, application_protocols=("istio",)) == "UNKNOWN_SERVER_NAME"
    assert served_by([chain("exact", name)], server_name=name) == "ALPN_MISMATCH"


@pytest.mark.parametrize("name", ["outbound_", "outbound", "inbound_.80_._.x", "x.outbound_.80"])
def test_other_names_follow_their_own_match(name):
    assert served_by([chain("nameless")], server_name=name) == "nameless"


# ---- what cannot be compiled


def refused(*chains: ChainSpec, default: ChainSpec | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        RouteTable.compile(chains, default)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({}, {}),
        ({"destination_port": 80}, {"destination_port": 80}),
        ({"transport_protocol": "tls"}, {"transport_protocol": "tls"}),
        ({"application_protocols": ("h2", "x")}, {"application_protocols": ("y", "h2")}),
        ({"server_names": ("a.b", "c.d")}, {"server_names": ("C.D", "e.f")}),
        ({"server_names": ("*.b",)}, {"server_names": ("*.b",)}),
        (
            {"server_names": ("a",), "transport_protocol": "raw_buffer"},
            {"server_names": ("a",), "transport_protocol": "raw_buffer"},
        ),
    ],
)
def test_same_criteria_twice(one, two):
    target = {"targets": ((0, 1),)}
    sentence = refused(ChainSpec("first", **one, **target), ChainSpec("second", **two, **target))
    assert "first and second match the same connections" in sentence


def test_name_or_protocol_twice_in_one_chain_is_once():
    assert served_by([istio("mesh", "a.b", "A.B")], server_name="a.b", application_protocols=("istio",)) == "mesh"
    twice = chain("h2", application_protocols=("h2", "h2"))
    assert served_by([twice], application_protocols=("h2",)) == "h2"


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "*.",
        "f*.x",
        "*x",
        "*x.y",
        "a.*",
        "a.*.b",
        "*.*.b",
        "**.b",
        "",
        " ",
        "a b",
        "a\x00",
        "a\n",
        "bücher.de",
        ".a.b",
        "*..b",
    ],
)
def test_server_names_that_are_none(name):
    assert "filter chain odd: server name" in refused(chain("fine", "a.b"), chain("odd", name))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"targets": ()}, "neither a cluster nor a refusal"),
        ({"targets": ((0, 0),)}, "weight 0 is not positive"),
        ({"targets": ((0, 1), (1, -1))}, "weight -1 is not positive"),
        ({"targets": ((2**32, 1),)}, "cluster slot 4294967296"),
        ({"targets": ((-1, 1),)}, "cluster slot -1"),
        ({"targets": ((0, 2**31), (1, 2**31))}, "sum past 4294967295"),
        ({"destination_port": 65536}, "destination port 65536"),
        ({"destination_port": -1}, "destination port -1"),
        ({"idle_timeout_ms": -1}, "timeout is negative"),
        ({"max_duration_ms": -1}, "timeout is negative"),
        ({"max_connect_attempts": 0}, "max_connect_attempts is 0, not positive"),
        ({"application_protocols": ("a" * 256,)}, "ALPN"),
    ],
)
def test_chains_that_cannot_be_compiled(fields, sentence):
    spec = chain("odd", "x.y", **fields)
    assert sentence in refused(chain("fine", "a.b"), spec)
    assert "filter chain odd" in refused(spec)
    if "application_protocols" not in fields:
        assert sentence in refused(default=spec)


def test_limits_are_inclusive():
    RouteTable.compile([chain("slots", targets=((2**32 - 1, 2**31), (0, 2**31 - 1)), destination_port=65535)])
    RouteTable.compile([chain("times", idle_timeout_ms=2**70, max_duration_ms=2**70)])
    RouteTable.compile([chain("closed", refusal=Reason.POLICY)])


# ---- nearest name


def test_nearest_name_is_the_one_with_the_fewest_changes():
    names = [f"outbound_.80_._.{service}.default.svc.cluster.local" for service in ("reviews", "ratings", "details")]
    table = RouteTable.compile([istio(name, name) for name in names])
    assert table.nearest_server_name("outbound_.80_._.review.default.svc.cluster.local") == names[0]
    assert table.nearest_server_name("outbound_.8080_._.ratings.default.svc.cluster.local") == names[1]
    assert table.nearest_server_name("OUTBOUND_.80_.v1_.details.default.svc.cluster.local") == names[2]
    assert table.nearest_server_name(names[1]) == names[1]


def test_nearest_name_is_empty_when_none_is_near():
    table = RouteTable.compile([chain("a", "reviews.default", "*.example")])
    assert table.nearest_server_name("something.else.entirely") == ""
    assert table.nearest_server_name("") == ""
    assert RouteTable.compile([chain("short", "a")]).nearest_server_name("") == ""
    assert table.nearest_server_name("x" * 400) == ""
    # At most one letter in five, and one: 4 for 15 letters.
    assert table.nearest_server_name("revXXXX.default") == "reviews.default"
    assert table.nearest_server_name("reXXXXX.default") == ""
    assert table.nearest_server_name("x.example") == ""


def test_nearest_name_does_not_depend_on_where_names_lie():
    names = [f"a{letter}.example" for letter in "zyxwvutsrqponm"]
    assert {RouteTable.compile([chain(n, n) for n in names]).nearest_server_name("a.example") for _ in range(20)} == {
        "am.example"
    }


def test_nearest_name_looks_at_every_port():
    table = RouteTable.compile([chain("a", "aaaa.example", destination_port=1), chain("b", "bbbb.example")])
    assert table.nearest_server_name("aaaa.exampl") == "aaaa.example"
    assert table.nearest_server_name("bbbb.exampl") == "bbbb.example"


# ---- the table as an object


def test_many_names():
    chains = [istio(str(n), f"outbound_.{n % 97}_._.service-{n}.ns-{n % 31}.svc.cluster.local") for n in range(3000)]
    table = RouteTable.compile(chains)
    for index, spec in enumerate(chains):
        assert table.match(Observed(server_name=spec.server_names[0], application_protocols=("istio",))) == index
        assert table.match(Observed(server_name=spec.server_names[0] + "x", application_protocols=("istio",))) < 0


def test_memory_of_a_chain_of_istiods_shape():
    chains = [istio(str(n), f"outbound_.80_._.service-{n:04}.default.svc.cluster.local") for n in range(3000)]
    # A chain with its target takes 48 bytes, its branch 8, its place in the hash table at most 24, its name 4 + 2 + 56
    # rounded up to words; the list of ALPN values is there once.
    assert RouteTable.compile(chains).memory() < 3000 * (48 + 8 + 24 + 64) + 1000


def test_spin_matches_what_match_matches():
    table = RouteTable.compile([chain("a", "a.example"), chain("b", "b" * 255)])
    assert table.spin(["a.example", "B" * 255, "c.example", ""], 4) == 2
    assert table.spin(["a.example", "c.example"], 5) == 3
    assert table.spin([], 5) == 0


@pytest.mark.parametrize("tls", [True, False])
def test_more_protocols_than_are_kept_decide_nothing(tls):
    # The 71st of these values would decide.
    chains = [chain("h2", application_protocols=("h2",)), chain("any")]
    many = [f"x{number}" for number in range(70)]
    assert served_by(chains, application_protocols=[*many, "h2"], tls=tls) == "MANY_PROTOCOLS"
    assert served_by(chains, chain("default"), application_protocols=[*many, "h2"], tls=tls) == "MANY_PROTOCOLS"
    # Nor do those that are kept.
    assert served_by(chains, application_protocols=["h2", *many], tls=tls) == "MANY_PROTOCOLS"
    assert served_by(chains, application_protocols=["x" * 255] * 5, tls=tls) == "MANY_PROTOCOLS"
    assert served_by(chains, application_protocols=[*many[:63], "h2"]) == "h2"


def test_only_compile_makes_a_table():
    with pytest.raises(TypeError, match=r"RouteTable\.compile"):
        RouteTable()
    empty = RouteTable.__new__(RouteTable)
    assert len(empty) == 0
    assert empty.match(Observed(server_name="a.b")) == -Reason.UNKNOWN_SERVER_NAME
    assert empty.nearest_server_name("a.b") == ""


def test_a_table_is_not_copied():
    table = RouteTable.compile([chain("a")])
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(table)
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(table)
