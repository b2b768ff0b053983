"""Statistics of one listener under Envoy's names."""

import pytest
from eastgate.fastpath.loop.listener_states import ListenerCounters
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
