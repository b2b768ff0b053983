import dataclasses

import pytest
from eastgate.fastpath.match.chains import ISTIO_ALPN, SNI_DNAT_PREFIX, ChainSpec
from eastgate.fastpath.reason import Reason


def test_names_of_mesh_services_are_istios():
    # Security rests on these values: istio, pkg/model/alpn and BuildDNSSrvSubsetKey.
    assert SNI_DNAT_PREFIX == "outbound_."
    assert set(ISTIO_ALPN) == {"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"}
    assert len(ISTIO_ALPN) == 5


def test_chain_without_criteria_matches_everything_and_refuses_nothing():
    chain = ChainSpec("any")
    assert (chain.destination_port, chain.server_names, chain.transport_protocol, chain.application_protocols) == (
        0,
        (),
        "",
        (),
    )
    assert chain.refusal is Reason.NONE
    assert chain.targets == ()


def test_timeouts_are_envoys_defaults():
    # tcp_proxy: idle_timeout 1 h, max_downstream_connection_duration unset.
    assert ChainSpec("any").idle_timeout_ms == 3_600_000
    assert ChainSpec("any").max_duration_ms == 0


def test_chain_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ChainSpec("any").name = "other"


def test_equal_chains_are_equal():
    assert ChainSpec("a", targets=((1, 2),)) == ChainSpec("a", targets=((1, 2),))
    assert hash(ChainSpec("a")) == hash(ChainSpec("a"))
    assert ChainSpec("a") != ChainSpec("b")
