"""What a listener's chains do, why they refuse, and what rejects the listener."""

from typing import Any

import pytest
from eastgate.xds.decode_chain import DecodedChain
from eastgate.xds.decode_listener import decode_listener
from eastgate.xds.errors import XdsError
from eastgate.xds.listener_filters import ProxyHeaders
from eastgate.xds.message import encode
from eastgate.xds.resources import CidrRange, FilterChain, FilterChainMatch, Listener

from ..support.encoded import field
from .istiod import chain, listener, tcp_proxy

TARGET = "outbound_.80_._.a.svc"
NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
LISTENER_FILTER = "type.googleapis.com/envoy.extensions.filters.listener"


def network_filter(name: str, type_url: str, payload: bytes = b"") -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": type_url, "@value": payload}}


STATS = network_filter("istio.stats", "type.googleapis.com/stats.PluginConfig")


def typed_struct(name: str, inner: str) -> dict[str, Any]:
    payload = field(1, f"type.googleapis.com/{inner}".encode())
    return network_filter(name, "type.googleapis.com/udpa.type.v1.TypedStruct", payload)


def of_listener(kind: str, message: str, **config: Any) -> dict[str, Any]:
    any_config = {"@type": f"{LISTENER_FILTER}.{kind}.v3.{message}", **(config or {"@value": b""})}
    return {"name": f"envoy.filters.listener.{kind}", "typed_config": any_config}


def decoded(*chains: bytes, **fields: Any) -> Listener:
    return decode_listener(listener("l", chains or [chain(TARGET)], **fields))[0]


def one_chain(**fields: Any) -> FilterChain:
    return decoded(chain(TARGET, **fields)).filter_chains[0]


def refusal(**fields: Any) -> str:
    found = one_chain(**fields)
    assert found.clusters == ()
    return found.refusal


def rejected(*chains: bytes, **fields: Any) -> str:
    with pytest.raises(XdsError) as caught:
        decoded(*chains, **fields)
    assert (caught.value.kind, caught.value.resource) == ("LDS", "l")
    return caught.value.reason


def test_sni_chain_serves() -> None:
    found = one_chain(
        filters=[
            STATS,
            tcp_proxy(TARGET, idle_timeout="5s", max_downstream_connection_duration="60s", max_connect_attempts=3),
        ]
    )
    assert found.refusal == ""
    assert found.clusters == ((TARGET, 1),)
    assert found.match.server_names == (TARGET,)
    assert found.match.application_protocols == ("istio",)
    assert (found.idle_timeout_s, found.max_downstream_connection_duration_s, found.max_connect_attempts) == (
        5.0,
        60.0,
        3,
    )
    assert found.stat_prefix == TARGET


def test_defaults_are_envoys() -> None:
    one = decoded()
    assert (one.bind_to_port, one.use_original_dst, one.tls_inspector) == (True, False, False)
    assert (one.proxy_headers, one.hello_limit) == (None, 16384)
    assert (one.listener_filters_timeout_s, one.continue_on_listener_filters_timeout) == (15.0, False)
    assert (one.default_filter_chain, one.traffic_direction, one.warnings) == (None, "UNSPECIFIED", ())
    assert one_chain().idle_timeout_s == 3600.0


def test_zero_durations_mean_off_and_stay() -> None:
    assert decoded(listener_filters_timeout="0s").listener_filters_timeout_s == 0.0
    assert one_chain(filters=[tcp_proxy(TARGET, idle_timeout="0s")]).idle_timeout_s == 0.0


def test_weighted_clusters() -> None:
    weighted = {"weighted_clusters": {"clusters": [{"name": "a", "weight": 3}, {"name": "b", "weight": 1}]}}
    assert one_chain(filters=[tcp_proxy(TARGET, **weighted)]).clusters == (("a", 3), ("b", 1))


def test_original_destination_is_asked_for_by_the_filter_and_by_the_older_field() -> None:
    assert not decoded().original_dst
    older = decoded(use_original_dst=True)
    # Only the field hands connections on to other listeners.
    assert (older.original_dst, older.use_original_dst) == (True, True)


def test_criteria_of_routes() -> None:
    def lb(**values: Any) -> bytes:
        return encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"envoy.lb": values, "other": {"x": 1}}})

    assert one_chain(filters=[tcp_proxy(TARGET, metadata_match=lb())]).criteria == ()
    plain = one_chain(filters=[tcp_proxy(TARGET, metadata_match=lb(b=[1, True], a="1"))])
    assert plain.criteria == ((("a", '"1"'), ("b", "[1.0, true]")),)
    # What a weighted cluster asks for goes before what its tcp_proxy does.
    own = [{"name": "a", "weight": 1, "metadata_match": lb(a="2")}, {"name": "b", "weight": 1}]
    both = one_chain(filters=[tcp_proxy(TARGET, weighted_clusters={"clusters": own}, metadata_match=lb(a="1", c=None))])
    assert both.criteria == ((("a", '"2"'), ("c", "null")), (("a", '"1"'), ("c", "null")))
    without = one_chain(filters=[tcp_proxy(TARGET, weighted_clusters={"clusters": own})])
    assert without.criteria == ((("a", '"2"'),), ())


def test_listener_with_all_known_filters() -> None:
    one = decoded(
        listener_filters=[
            of_listener("proxy_protocol", "ProxyProtocol", stat_prefix="x"),
            of_listener("tls_inspector", "TlsInspector"),
            of_listener("http_inspector", "HttpInspector"),
            {"name": "envoy.filters.listener.original_dst"},
        ],
        additional_addresses=[{"address": {"socket_address": {"address": "::", "port_value": 15443}}}],
        traffic_direction="OUTBOUND",
        continue_on_listener_filters_timeout=True,
        bind_to_port=False,
        stat_prefix="mine",
    )
    assert (one.tls_inspector, one.original_dst, one.use_original_dst) == (True, True, False)
    assert one.proxy_headers == ProxyHeaders((1, 2), optional=False, stat_prefix="x")
    assert one.stat_prefix == "mine"
    assert one.addresses == (("0.0.0.0", 15443), ("::", 15443))
    assert (one.traffic_direction, one.bind_to_port) == ("OUTBOUND", False)
    assert one.filter_chains[0].refusal == ""
    assert one.continue_on_listener_filters_timeout
    assert one.warnings == ()


@pytest.mark.parametrize(
    "inert",
    [
        STATS,
        {"name": "istio.stats"},
        {"name": "istio.metadata_exchange"},
        network_filter("any", "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange"),
        typed_struct("istio.metadata_exchange", "envoy.tcp.metadataexchange.config.MetadataExchange"),
        typed_struct("istio.stats", "envoy.extensions.filters.network.wasm.v3.Wasm"),
    ],
)
def test_inert_filters_do_not_close_a_chain(inert: dict[str, Any]) -> None:
    assert one_chain(filters=[inert, tcp_proxy(TARGET)]).refusal == ""


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (network_filter("sni", f"{NETWORK}.sni_cluster.v3.SniCluster"), "would come from the SNI (sni_cluster)"),
        (
            network_filter("my.wasm", f"{NETWORK}.wasm.v3.Wasm"),
            "filter my.wasm (envoy.extensions.filters.network.wasm.v3.Wasm)",
        ),
        # A name that lies: what runs is what the type says.
        (network_filter("istio.stats", f"{NETWORK}.ext_authz.v3.ExtAuthz"), "filter istio.stats (envoy.extensions"),
        (typed_struct("istio.stats", "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"), "is not supported"),
        (typed_struct("other", "envoy.extensions.filters.network.wasm.v3.Wasm"), "is not supported"),
        ({"name": "unheard"}, "filter unheard (no configuration) is not supported"),
        ({"name": "x", "config_discovery": b""}, "configured by ECDS"),
    ],
)
def test_other_filters_close_the_chain_with_a_sentence(network: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(filters=[network, tcp_proxy(TARGET)])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"tunneling_config": b""}, "tcp_proxy.tunneling_config asks for an HTTP tunnel"),
        ({"on_demand": b""}, "tcp_proxy.on_demand"),
        ({"cluster": ""}, "tcp_proxy names no cluster"),
        ({"weighted_clusters": {}}, "tcp_proxy names no cluster"),
    ],
)
def test_routing_that_is_not_evaluated_closes_the_chain(config: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(filters=[tcp_proxy(TARGET, **config)])


def test_chain_without_tcp_proxy_or_with_something_behind_it_refuses() -> None:
    assert refusal(filters=[]) == "no tcp_proxy filter"
    assert refusal(filters=[STATS]) == "no tcp_proxy filter"
    assert refusal(filters=[tcp_proxy(TARGET), STATS]) == "filter istio.stats stands behind tcp_proxy"


def cidr(address: str, length: int | None = None) -> dict[str, Any]:
    return {"address_prefix": address, **({} if length is None else {"prefix_len": length})}


def test_every_criterion_of_a_match_is_read() -> None:
    match = one_chain(
        filter_chain_match={
            "destination_port": 80,
            "prefix_ranges": [cidr("10.1.2.3", 8), cidr("fd00::ff", 120)],
            "server_names": [TARGET],
            "transport_protocol": "tls",
            "application_protocols": ["istio"],
            "direct_source_prefix_ranges": [cidr("10.0.0.1", 32)],
            "source_type": "EXTERNAL",
            "source_prefix_ranges": [cidr("192.168.255.255", 23)],
            "source_ports": [1, 65535],
        }
    ).match
    assert match == FilterChainMatch(
        destination_port=80,
        destination_prefixes=(CidrRange(bytes((10, 0, 0, 0)), 8), CidrRange(b"\xfd" + bytes(15), 120)),
        server_names=(TARGET,),
        transport_protocol="tls",
        application_protocols=("istio",),
        direct_source_prefixes=(CidrRange(bytes((10, 0, 0, 1)), 32),),
        source_type="EXTERNAL",
        source_prefixes=(CidrRange(bytes((192, 168, 254, 0)), 23),),
        source_ports=(1, 65535),
    )


@pytest.mark.parametrize(
    ("range_", "read"),
    [
        (cidr("10.0.0.1"), CidrRange(bytes(4), 0)),
        (cidr("10.0.0.1", 64), CidrRange(bytes((10, 0, 0, 1)), 32)),
        (cidr("::1", 128), CidrRange(bytes(15) + b"\x01", 128)),
        (cidr("::ffff:10.0.0.1", 104), CidrRange(bytes(10) + b"\xff\xff\x0a" + bytes(3), 104)),
    ],
)
def test_prefix_is_read_as_envoy_does(range_: dict[str, Any], read: CidrRange) -> None:
    assert one_chain(filter_chain_match={"source_prefix_ranges": [range_]}).match.source_prefixes == (read,)


@pytest.mark.parametrize("field_name", ["prefix_ranges", "direct_source_prefix_ranges", "source_prefix_ranges"])
def test_prefix_that_is_none_rejects_the_listener(field_name: str) -> None:
    for text in ("", "x", "10.0.0", "::g", "10.0.0.1/8"):
        reason = rejected(chain(TARGET, filter_chain_match={field_name: [cidr(text, 8)]}))
        assert reason == f"{field_name}: {text!r} is not an IP address"
    assert "prefix_len is 129" in rejected(chain(TARGET, filter_chain_match={field_name: [cidr("::", 129)]}))


def test_source_port_or_type_that_is_none_rejects_the_listener() -> None:
    for port in (0, 65536):
        assert rejected(chain(TARGET, filter_chain_match={"source_ports": [7, port]})).startswith(
            f"source_ports: {port}"
        )
    assert rejected(chain(TARGET, filter_chain_match={"source_type": 3})).startswith("source_type 3 is none of ANY")


def test_match_criteria_that_are_not_evaluated_close_the_chain() -> None:
    found = one_chain(filter_chain_match={"address_suffix": "1", "suffix_len": 8, "server_names": [TARGET]})
    assert found.match.unsupported == ("address_suffix", "suffix_len")
    assert found.refusal == "match criteria are not evaluated: address_suffix, suffix_len"
    assert found.clusters == ()


@pytest.mark.parametrize("place", ["match", "chain", "tcp_proxy"])
def test_unknown_fields_close_the_chain_and_no_other(place: str) -> None:
    unknown = b"\xc8\x3e\x01"
    raw = chain(TARGET)
    if place == "chain":
        raw += unknown
    elif place == "match":
        raw = raw + field(1, unknown)
    else:
        value = encode("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", {"cluster": TARGET}) + unknown
        url = f"{NETWORK}.tcp_proxy.v3.TcpProxy"
        raw = chain(TARGET, filters=[{"name": "t", "typed_config": {"@type": url, "@value": value}}])
    closed, open_chain = decoded(raw, chain("b")).filter_chains
    assert closed.refusal.startswith("unknown fields: ")
    assert "#1001" in closed.refusal
    assert open_chain.refusal == ""


def test_tls_termination_is_not_served() -> None:
    assert refusal(transport_socket=field(1, b"envoy.transport_sockets.tls")) == (
        "transport_socket: transport socket envoy.transport_sockets.tls is not spoken"
    )
    assert one_chain(transport_socket=field(1, b"envoy.transport_sockets.raw_buffer")).refusal == ""


def test_unknown_listener_filter_closes_all_chains() -> None:
    unknown = {"name": "x", "typed_config": {"@type": "type.googleapis.com/x.Y", "@value": b""}}
    one = decoded(chain("a"), chain("b"), listener_filters=[unknown], default_filter_chain=chain("c"))
    chains = [*one.filter_chains, one.default_filter_chain]
    assert [found.refusal if found else "" for found in chains] == [
        "the listener's filter x (x.Y) is not supported"
    ] * 3


def test_generic_matcher_closes_all_chains() -> None:
    assert "filter_chain_matcher is not evaluated" in decoded(filter_chain_matcher=b"").filter_chains[0].refusal


def test_unhonoured_fields_are_warned_about_once_with_a_count() -> None:
    chains = [chain(name, filters=[tcp_proxy(name, max_early_data_bytes=7)]) for name in ("a", "b")]
    one = decoded(*chains, socket_options=[{"description": "tos", "level": 0, "name": 1, "int_value": 8}])
    assert one.warnings == (
        "socket_options: level 0, name 1 (tos) is not set",
        "tcp_proxy.max_early_data_bytes: bytes wait for the upstream connection (2 chains)",
    )
    assert one.filter_chains[0].refusal == ""


def test_connections_are_hashed_by_the_source_of_their_client() -> None:
    assert not one_chain().hash_source_ip
    one = decoded(chain(TARGET, filters=[tcp_proxy(TARGET, hash_policy=[{"source_ip": {}}])]))
    assert (one.filter_chains[0].hash_source_ip, one.warnings) == (True, ())
    one = decoded(chain(TARGET, filters=[tcp_proxy(TARGET, hash_policy=[{"filter_state": {"key": "k"}}])]))
    assert not one.filter_chains[0].hash_source_ip
    assert one.warnings == ("tcp_proxy.hash_policy: there is no filter state: connections get random hashes (1 chain)",)


@pytest.mark.parametrize(
    ("policies", "reason"),
    [([{"source_ip": {}}] * 2, "tcp_proxy.hash_policy has 2 entries"), ([{}], "an entry that says nothing")],
)
def test_impossible_hash_policies_are_rejected(policies: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(XdsError, match=reason):
        decoded(chain(TARGET, filters=[tcp_proxy(TARGET, hash_policy=policies)]))


def test_unknown_field_of_the_listener_is_a_warning() -> None:
    one, _ = decode_listener(listener("l", [chain(TARGET)]) + b"\xc8\x3e\x01")
    assert one.warnings == ("#1001: unknown field",)
    assert one.filter_chains[0].refusal == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"address": {}}, "address: empty, only socket_address is supported"),
        ({"address": {"pipe": {"path": "/x"}}}, "address: pipe, only socket_address is supported"),
        (
            {"address": {"socket_address": {"address": "a.example", "port_value": 1}}},
            "'a.example' is not an IP address",
        ),
        ({"address": {"socket_address": {"address": "1.1.1.1"}}}, "address: no port_value"),
        ({"address": {"socket_address": {"address": "1.1.1.1", "port_value": 65536}}}, "port_value is 65536"),
        ({"address": {"socket_address": {"protocol": "UDP", "address": "1.1.1.1", "port_value": 1}}}, "protocol UDP"),
        ({"listener_filters_timeout": "-1s"}, "listener_filters_timeout is -1s, must be at least 0s"),
        ({"udp_listener_config": b""}, "udp_listener_config: only TCP listeners are supported"),
    ],
)
def test_listeners_that_cannot_exist_are_rejected(fields: dict[str, Any], reason: str) -> None:
    assert reason in rejected(**fields)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"idle_timeout": "-1s"}, "idle_timeout is -1s"),
        ({"max_connect_attempts": 0}, "max_connect_attempts is 0, must be at least 1"),
        ({"weighted_clusters": {"clusters": [{"name": "a"}]}}, "weight of a is 0"),
        (
            {"weighted_clusters": {"clusters": [{"name": "a", "weight": 2**32 - 1}, {"name": "b", "weight": 1}]}},
            "weights sum past 2^32-1",
        ),
    ],
)
def test_impossible_routes_reject_the_listener(config: dict[str, Any], reason: str) -> None:
    assert reason in rejected(chain(TARGET, filters=[tcp_proxy(TARGET, **config)]))


@pytest.mark.parametrize("name", ["*", "f*.example", "*.*.example", "a.*"])
def test_partial_wildcards_reject_the_listener(name: str) -> None:
    assert f"server name {name!r}" in rejected(chain(TARGET, filter_chain_match={"server_names": [name]}))


def test_listener_without_address_or_with_broken_chain_is_rejected_by_name() -> None:
    with pytest.raises(XdsError, match="LDS l rejected: no address"):
        decode_listener(encode("envoy.config.listener.v3.Listener", {"name": "l"}))
    with pytest.raises(XdsError, match="LDS l rejected: malformed message"):
        decode_listener(listener("l", [b"\xff"]))


def test_listener_without_name_is_called_by_its_address() -> None:
    assert decode_listener(listener("", [chain(TARGET)]))[0].name == "0.0.0.0_15443"


def test_chains_of_known_bytes_are_not_decoded_again() -> None:
    marked = FilterChain("taken", one_chain().match)
    raw = chain(TARGET)
    one, chains = decode_listener(listener("l", [raw, chain("b")]), {raw: DecodedChain(marked, ())})
    assert one.filter_chains[0] is marked
    assert set(chains) == {raw, chain("b")}
    # What is closed by the listener is closed in this listener only.
    closed, _ = decode_listener(listener("l", [raw], filter_chain_matcher=b""), chains)
    assert closed.filter_chains[0].refusal
    assert marked.refusal == ""
