"""Statistics of one listener under Envoy's names."""

import pytest
from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.match.proxy_counts import Proxied
from eastgate.fastpath.reason import BEFORE_CHAIN, ENDED, Reason
from eastgate.proxy.admin.stats import ProcessStats, stats_of


def test_connection_counts_from_its_filter_chain_on() -> None:
    refused = [0] * Reason.REASON_COUNT
    refused[Reason.UNKNOWN_SERVER_NAME], refused[Reason.OVERLOAD], refused[Reason.CONNECT_FAILED] = 3, 2, 5
    counted = ListenerCounters(
        cx_total=220, cx_active=14, cx_pre_active=4, rx_bytes=7, tx_bytes=8, refused=tuple(refused)
    )
    process = ProcessStats(state=0, uptime_s=0, workers_started=True, connected=True, listeners={"0.0.0.0:1": counted})
    found = {stat.name.removeprefix("listener.0.0.0.0_1."): stat for stat in stats_of(process)}
    assert {name: found[f"downstream_{name}"].value for name in ("cx_total", "cx_active", "cx_destroy")} == {
        "cx_total": 211,
        "cx_active": 10,
        "cx_destroy": 201,
    }
    assert found["eastgate.accepted_total"].value == 220
    # No prefix of Envoy's where Envoy has no such counter.
    assert {stat.family.partition("_")[0] for name, stat in found.items() if name.startswith("eastgate.")} == {
        "eastgate"
    }


@pytest.mark.parametrize("reason", [one for one in Reason if one != Reason.REASON_COUNT], ids=lambda one: one.name)
def test_each_refusal_is_taken_off_once_at_most(reason: Reason) -> None:
    refused = [0] * Reason.REASON_COUNT
    refused[reason] = 10
    counted = ListenerCounters(
        cx_total=10, cx_active=0, cx_pre_active=0, rx_bytes=0, tx_bytes=0, refused=tuple(refused)
    )
    process = ProcessStats(state=0, uptime_s=0, workers_started=True, connected=True, listeners={"0.0.0.0:1": counted})
    found = {stat.name.removeprefix("listener.0.0.0.0_1.downstream_cx_"): stat.value for stat in stats_of(process)}
    assert found["total"] == found["destroy"] == (0 if reason in BEFORE_CHAIN else 10)
    assert not {reason} & set(BEFORE_CHAIN) & set(ENDED)


def test_proxy_headers_are_counted_by_prefix_and_version() -> None:
    process = ProcessStats(
        state=0,
        uptime_s=0,
        workers_started=True,
        connected=True,
        proxied={"": Proxied(1, 2, 3, 4, 5, 6, 7, 8), "of:a": Proxied(0, 10, 0, 0, 0, 20, 30, 40)},
    )
    found = {
        stat.name: (stat.value, stat.family, stat.labels) for stat in stats_of(process) if "proxy_proto" in stat.name
    }
    version, prefix = ("proxy_protocol_version", "2"), ("proxy_protocol_prefix", "of:a")
    assert found["proxy_proto.not_found_disallowed"] == (2, "envoy_proxy_proto_not_found_disallowed", ())
    assert found["proxy_proto.versions.v2.found"] == (13, "envoy_proxy_proto_found", (version,))
    assert found["proxy_proto.of:a.not_found_disallowed"] == (10, "envoy_proxy_proto_not_found_disallowed", (prefix,))
    assert found["proxy_proto.of:a.versions.v2.found"] == (50, "envoy_proxy_proto_found", (prefix, version))
    assert found["downstream_cx_proxy_proto_error"][0] == 2 + 5 + 8 + 10 + 40
