"""Lines of the access log, and what happens when they cannot be written."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from eastgate.fastpath.loop.event_ring import ConnectionEvent
from eastgate.fastpath.reason import Reason
from eastgate.proxy.admin.refusals import Refusals
from eastgate.proxy.disk.access_log import AccessLog, as_json, as_text

SERVED = ConnectionEvent(
    listener=0,
    cluster="outbound_.80_._.echo.default.svc.cluster.local",
    server_name="outbound_.80_._.echo.default.svc.cluster.local",
    reason=Reason.NONE,
    downstream="192.0.2.7:40000",
    downstream_local="198.51.100.1:15443",
    upstream="10.0.0.9:8080",
    alpn=("istio",),
    rx_bytes=517,
    tx_bytes=64,
    start=1_700_000_000.25,
    duration=0.0123,
    connect_duration=0.002,
    attempts=2,
)
REFUSED = SERVED._replace(reason=Reason.UNKNOWN_SERVER_NAME, upstream="", cluster="", server_name='a b"c')


def test_text_line_has_flags_reason_and_both_addresses() -> None:
    name = SERVED.server_name
    assert as_text(SERVED, "0.0.0.0_15443") == (
        f'[2023-11-14T22:13:20.250Z] - - 517 64 12 2 "10.0.0.9:8080" {name} 198.51.100.1:15443 192.0.2.7:40000 {name}'
        " istio 0.0.0.0_15443 2 -\n"
    )


def test_a_denied_line_names_the_policy() -> None:
    denied = SERVED._replace(reason=Reason.POLICY, policy="ns[a]-policy[p]-rule[0]", policy_unknown=True)
    assert as_text(denied, "l").endswith(" ns[a]-policy[p]-rule[0]\n")
    fields = json.loads(as_json(denied, "l"))
    assert (fields["policy"], fields["policy_unknown"]) == (denied.policy, True)
    refusals = Refusals()
    refusals.add([denied, REFUSED])
    refused, shown = refusals.as_json(listener_name=str, nearest=lambda *_: "")
    assert (shown["policy"], shown["policy_unknown"]) == (denied.policy, True)
    assert "policy" not in refused


def test_refused_line_names_the_reason_and_quotes_what_a_stranger_sent() -> None:
    line = as_text(REFUSED, "l")
    assert " NR unknown_server_name " in line
    assert '"a b\\"c"' in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("foreign", ['a\nb "c"', "a b=c", "tab\t", "\u2028", "esc\x1b[2J", "\udcff", 'back\\"slash'])
@pytest.mark.parametrize("form", [as_text, as_json])
def test_one_connection_is_one_line_whatever_names_hold(
    foreign: str, form: Callable[[ConnectionEvent, str], str]
) -> None:
    event = SERVED._replace(
        cluster=foreign,
        server_name=foreign,
        upstream=f"/run/{foreign}",
        downstream=foreign,
        downstream_local=foreign,
        alpn=(foreign, "istio"),
        policy=foreign,
    )
    line = form(event, foreign)
    assert len(line.splitlines()) == 1
    assert line[:-1].isprintable()
    if form is as_text:
        # As many words as ever: what is in quotes is one.
        assert len(re.findall(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+', line)) == 16


def test_list_of_protocols_is_told_from_one_that_holds_a_comma() -> None:
    assert ' "a,b",c l ' in as_text(SERVED._replace(alpn=("a,b", "c")), "l")


def test_json_line_is_one_object() -> None:
    fields = json.loads(as_json(REFUSED, "l"))
    assert (fields["reason"], fields["response_flags"], fields["upstream_host"]) == ("unknown_server_name", "NR", None)


def test_log_is_appended_and_reopened_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), line_format="text", listener_name=lambda _: "l")
    log.write([SERVED])
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    log.write([SERVED, SERVED])
    log.close()
    assert len((tmp_path / "access.log.1").read_text().splitlines()) == 1
    assert len(path.read_text().splitlines()) == 2


def test_full_disk_is_counted_and_stops_nothing() -> None:
    log = AccessLog("/dev/full", line_format="json", listener_name=lambda _: "l")
    log.write([SERVED, SERVED])
    log.close()
    assert log.failed == 2


def test_refusals_keep_the_newest_and_name_the_nearest() -> None:
    refusals = Refusals(capacity=2)
    refusals.add([SERVED, REFUSED, REFUSED, REFUSED._replace(server_name="outbound_.80_._.ecko")])
    shown = refusals.as_json(listener_name=lambda _: "l", nearest=lambda _, name: f"near {name}")
    assert [entry["nearest_server_name"] for entry in shown] == ["near outbound_.80_._.ecko", 'near a b"c']
