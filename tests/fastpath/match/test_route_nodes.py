from ipaddress import ip_network

import pytest
from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

from .specs import SERVICE, chain, istio, served_by

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


def test_without_tls_the_value_of_an_http_head_is_a_protocol_like_any_other():
    http = chain("http", transport_protocol="raw_buffer", application_protocols=("http/1.1", "h2c"))
    chains = [http, chain("raw", transport_protocol="raw_buffer"), chain("any", application_protocols=("http/1.1",))]
    assert served_by(chains, tls=False, application_protocols=("h2c",)) == "http"
    assert served_by(chains, tls=False, application_protocols=("http/1.1",)) == "http"
    assert served_by(chains, tls=False, application_protocols=("http/1.0",)) == "raw"
    assert served_by(chains, tls=False) == "raw"
    assert served_by(chains, application_protocols=("http/1.1",)) == "any"
    assert served_by([http], tls=False) == "NOT_TLS"
    assert served_by([http], chain("default"), tls=False) == "default"


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


@pytest.mark.parametrize("protocols", [(), ("h2",), ("istio",)])
def test_a_sidecar_serves_names_of_mesh_services_as_any_others(protocols):
    def found(chains, default=None):
        asked = {"server_name": SERVICE, "application_protocols": protocols}
        return served_by(chains, default, guards_names=False, **asked)

    assert found([chain("nameless")]) == "nameless"
    assert found([chain("tls", transport_protocol="tls"), chain("raw", transport_protocol="raw_buffer")]) == "tls"
    assert found([chain("wild", "*.local"), chain("nameless")]) == "wild"
    assert found([chain("exact", SERVICE), chain("wild", "*.local")]) == "exact"
    assert found([chain("other", "x.y")], chain("default")) == "default"
    assert found([chain("other", "x.y")]) == "UNKNOWN_SERVER_NAME"
    assert found([istio("mesh"), chain("rest", transport_protocol="tls")]) == "rest"


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


# ---- addresses and source ports


def prefix(text: str) -> tuple[bytes, int]:
    network = ip_network(text)
    return network.network_address.packed, network.prefixlen


def on(name: str, *prefixes: str, **fields: object) -> ChainSpec:
    """A chain for destinations in these prefixes."""
    return chain(name, destination_prefixes=tuple(map(prefix, prefixes)), **fields)


def test_longest_destination_prefix_serves():
    chains = [on("ten", "10.0.0.0/8"), on("sub", "10.1.0.0/16"), on("one", "10.1.2.3/32"), chain("any")]
    for destination, name in {
        "10.0.0.0": "ten",
        "10.255.255.255": "ten",
        "10.1.0.0": "sub",
        "10.1.255.255": "sub",
        "10.1.2.2": "sub",
        "10.1.2.3": "one",
        "10.1.2.4": "sub",
        "10.2.0.0": "ten",
        "9.255.255.255": "any",
        "11.0.0.0": "any",
        "0.0.0.0": "any",
        "255.255.255.255": "any",
        "fd00::1": "any",
    }.items():
        assert served_by(chains, destination=destination) == name
        expected = "ADDRESS_MISMATCH" if name == "any" else name
        assert served_by(chains[:3], destination=destination) == expected
    assert served_by(chains[:3], chain("default"), destination="9.9.9.9") == "default"


def test_prefixes_of_ipv6_are_as_exact():
    chains = [on("fd", "fd00::/8"), on("word", "fd00:1:2:3::/64"), on("odd", "fd00:1:2:3::80/121"), on("v4", "::/1")]
    assert served_by(chains, destination="fd00:1:2:2:ffff:ffff:ffff:ffff") == "fd"
    assert served_by(chains, destination="fd00:1:2:3::7f") == "word"
    assert served_by(chains, destination="fd00:1:2:3::80") == "odd"
    assert served_by(chains, destination="fd00:1:2:3::ff") == "odd"
    assert served_by(chains, destination="fd00:1:2:3::100") == "word"
    assert served_by(chains, destination="fd00:1:2:4::") == "fd"
    assert served_by(chains, destination="fe00::") == "ADDRESS_MISMATCH"
    assert served_by(chains, destination="::") == "v4"
    # One family has nothing to say about the other.
    assert served_by(chains, destination="0.0.0.0") == "ADDRESS_MISMATCH"


def test_a_prefix_of_no_bits_takes_its_family_from_chains_without_one():
    chains = [on("v4", "0.0.0.0/0"), chain("none")]
    assert served_by(chains, destination="1.2.3.4") == "v4"
    assert served_by(chains, destination="::1") == "none"


def test_what_is_no_ip_address_counts_as_the_last_of_ipv4():
    chains = [on("last", "255.255.255.255/32"), on("ten", "10.0.0.0/8")]
    assert served_by(chains) == "last"
    assert served_by(chains[1:]) == "ADDRESS_MISMATCH"


def test_destination_prefix_hides_server_names_elsewhere():
    chains = [on("here", "10.0.0.0/8", server_names=("a.b",)), chain("name", "c.d"), chain("wild", "*.d")]
    assert served_by(chains, destination="10.0.0.1", server_name="a.b") == "here"
    assert served_by(chains, destination="10.0.0.1", server_name="c.d") == "UNKNOWN_SERVER_NAME"
    assert served_by(chains, destination="11.0.0.1", server_name="c.d") == "name"
    assert served_by(chains, destination="11.0.0.1", server_name="x.d") == "wild"
    assert served_by(chains, destination="11.0.0.1", server_name="a.b") == "UNKNOWN_SERVER_NAME"


def test_direct_source_and_source_are_two():
    near = (prefix("10.0.0.0/8"),)
    chains = [
        chain("balancer", direct_source_prefixes=near, source_prefixes=(prefix("192.0.2.0/24"),)),
        chain("direct", direct_source_prefixes=near),
        chain("far", source_prefixes=(prefix("192.0.2.0/24"),)),
    ]
    assert served_by(chains, source="192.0.2.1", direct_source="10.1.1.1") == "balancer"
    assert served_by(chains, source="192.0.3.1", direct_source="10.1.1.1") == "direct"
    assert served_by(chains, source="192.0.2.1") == "far"
    assert served_by(chains, source="10.1.1.1") == "direct"
    assert served_by(chains, source="11.1.1.1") == "ADDRESS_MISMATCH"


@pytest.mark.parametrize(
    ("source", "destination", "local"),
    [
        ("127.0.0.1", "10.0.0.1", True),
        ("::1", "fd00::1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("fd00::1", "fd00::1", True),
        # As in Envoy, only one address of 127.0.0.0/8 is loopback.
        ("127.0.0.2", "10.0.0.1", False),
        ("::2", "fd00::1", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "a00:1::", False),
        ("10.0.0.1", "", False),
        ("", "", False),
    ],
)
def test_source_type(source, destination, local):
    ends = {"source": source, "destination": destination}
    chains = [chain("local", source_type="SAME_IP_OR_LOOPBACK"), chain("external", source_type="EXTERNAL")]
    assert served_by(chains, **ends) == ("local" if local else "external")
    chains = [chain("any"), chain("local", source_type="SAME_IP_OR_LOOPBACK")]
    assert served_by(chains, **ends) == ("local" if local else "any")
    chains = [chain("external", source_type="EXTERNAL", source_ports=(1,)), chain("any", source_ports=(1,))]
    assert served_by(chains, **ends, source_port=1) == ("any" if local else "external")
    assert served_by(chains[:1], **ends, source_port=1) == ("ADDRESS_MISMATCH" if local else "external")


def test_source_ports():
    chains = [chain("one", source_ports=(1, 65535)), chain("two", source_ports=(2,)), chain("any")]
    assert [served_by(chains, source_port=port) for port in (0, 1, 2, 3, 65535)] == ["any", "one", "two", "any", "one"]
    assert served_by(chains[:2], source_port=3) == "ADDRESS_MISMATCH"


def test_no_backtracking_from_what_is_known_of_the_source():
    narrow = (prefix("10.1.0.0/16"),)
    chains = [
        chain("narrow", source_prefixes=narrow, source_ports=(1,)),
        chain("wide", source_prefixes=(prefix("10.0.0.0/8"),)),
        chain("local", source_type="SAME_IP_OR_LOOPBACK", source_prefixes=narrow),
    ]
    assert served_by(chains, source="10.1.0.1", source_port=2) == "ADDRESS_MISMATCH"
    assert served_by(chains, source="10.2.0.1", source_port=2) == "wide"
    assert served_by(chains, source="127.0.0.1") == "ADDRESS_MISMATCH"
    assert served_by(chains, source="10.1.0.1", destination="10.1.0.1", source_port=2) == "local"


def test_mesh_service_is_matched_by_addresses_too_and_never_served_by_the_default_chain():
    chains = [istio("mesh", SERVICE, source_prefixes=(prefix("10.0.0.0/8"),))]
    asked = {"server_name": SERVICE, "application_protocols": ("istio",)}
    assert served_by(chains, chain("default"), **asked, source="10.0.0.1") == "mesh"
    assert served_by(chains, chain("default"), **asked, source="11.0.0.1") == "ADDRESS_MISMATCH"
    on_ten = [on("mesh", "10.0.0.0/8", server_names=(SERVICE,)), chain("rest")]
    assert served_by(on_ten, chain("default"), **asked, destination="11.0.0.1") == "UNKNOWN_SERVER_NAME"


# ---- more values than are kept


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
