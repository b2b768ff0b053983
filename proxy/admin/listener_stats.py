"""Counters of listeners and their chains, in Envoy's names."""

from collections.abc import Iterator, Mapping

from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.loop.worker_totals import Inspected
from eastgate.fastpath.match.chain_counts import ChainCounters
from eastgate.fastpath.match.proxy_counts import Proxied
from eastgate.fastpath.reason import BEFORE_CHAIN, ENDED, LABELS, NO_CHAIN, Reason

from .stat import Group, Stat, histogram, names_of, shorts, stat_part

# Verdicts of RBAC filters, in the order of ListenerCounters.rbac; Envoy's names but for LOG.
RBAC = ("allowed", "denied", "shadow_allowed", "shadow_denied", "logged")
# Handshakes with clients that failed, by Envoy's counter of them. Envoy has no timeout of its own for them.
CLIENT_TLS_FAILURES = {
    "fail_verify_error": (Reason.TLS_UNKNOWN_CA, Reason.TLS_EXPIRED),
    "fail_verify_san": (Reason.TLS_WRONG_NAME,),
    "fail_verify_no_cert": (Reason.TLS_NO_CERTIFICATE,),
    "connection_error": (Reason.TLS_VERSION, Reason.TLS_HELLO_CHANGED, Reason.TLS_REFUSED, Reason.TLS_FAILED),
}

CHAIN = names_of(
    "envoy_tcp",
    (
        shorts(
            "downstream_cx_total",
            "downstream_cx_rx_bytes_total",
            "downstream_cx_tx_bytes_total",
            "downstream_cx_no_route",
            "idle_timeout",
            "max_downstream_connection_duration",
        ),
    ),
)


def listener_stats(name: str, counters: ListenerCounters) -> Iterator[Stat]:
    address = stat_part(name)
    labels = (("listener_address", address),)
    refused = counters.refused

    def stat(short: str, value: int, *, gauge: bool = False) -> Stat:
        return Stat(f"listener.{address}.{short}", value, f"envoy_listener_{short}", labels, gauge)

    # Those that wait for their chain count in both.
    active = counters.cx_active - counters.cx_pre_active
    total = counters.cx_total - counters.cx_pre_active - sum(refused[reason] for reason in BEFORE_CHAIN)
    yield stat("downstream_cx_total", total)
    yield stat("downstream_cx_active", active, gauge=True)
    yield stat("downstream_cx_destroy", total - active)
    yield stat("downstream_pre_cx_active", counters.cx_pre_active, gauge=True)
    yield stat("downstream_pre_cx_timeout", refused[Reason.HELLO_TIMEOUT])
    yield stat("downstream_listener_filter_remote_close", refused[Reason.IDLE_PROBE] + refused[Reason.TRUNCATED_HELLO])
    yield stat("downstream_cx_overflow", refused[Reason.LIMIT])
    yield stat("downstream_cx_overload_reject", refused[Reason.OVERLOAD])
    yield stat("no_filter_chain_match", sum(refused[reason] for reason in NO_CHAIN))
    yield histogram(f"listener.{address}", "envoy_listener", "downstream_cx_length_ms", labels, counters.length_ms)
    # What Envoy does not count by listener.
    for short, value in (
        ("accepted_total", counters.cx_total),
        ("rx_bytes_total", counters.rx_bytes),
        ("tx_bytes_total", counters.tx_bytes),
    ):
        yield Stat(f"listener.{address}.eastgate.{short}", value, f"eastgate_listener_{short}", labels)
    if any(counters.rbac):
        for short, value in zip(RBAC, counters.rbac, strict=True):
            yield Stat(f"listener.{address}.rbac.{short}", value, f"envoy_listener_rbac_{short}", labels)
    for reason in Reason:
        if reason is Reason.REASON_COUNT or reason in ENDED:
            continue
        yield Stat(
            f"listener.{address}.refused.{LABELS[reason]}",
            refused[reason],
            "eastgate_refused_connections_total",
            (*labels, ("reason", LABELS[reason])),
            help="Connections refused, by reason",
        )


def listener_tls_stats(name: str, counters: ListenerCounters) -> Iterator[Stat]:
    address = stat_part(name)
    labels = (("listener_address", address),)
    for short, value in (
        ("handshake", counters.tls_handshakes),
        ("session_reused", counters.tls_resumed),
        *((short, sum(counters.refused[one] for one in reasons)) for short, reasons in CLIENT_TLS_FAILURES.items()),
    ):
        yield Stat(f"listener.{address}.ssl.{short}", value, f"envoy_listener_ssl_{short}", labels)


def chain_stats(prefix: str, counters: ChainCounters) -> Group:
    shown = stat_part(prefix)
    traffic = (counters.cx_total, counters.rx_bytes, counters.tx_bytes, counters.no_route)
    values = (*traffic, counters.idle_timeout, counters.max_duration)
    return Group(f"tcp.{shown}.", (("tcp_prefix", shown),), CHAIN, values)


def inspector_stats(found: Inspected) -> Iterator[Stat]:
    for short, value in (
        *found._asdict().items(),
        ("sni_not_found", found.tls_found - found.sni_found),
        ("alpn_not_found", found.tls_found - found.alpn_found),
    ):
        yield Stat(f"tls_inspector.{short}", value, f"envoy_tls_inspector_{short}")


def proxied_stats(found: Mapping[str, Proxied]) -> Iterator[Stat]:
    """`found`: by stat_prefix, the empty one included."""
    for prefix, counts in found.items():
        path = f"proxy_proto.{prefix}." if prefix else "proxy_proto."
        labels = (("proxy_protocol_prefix", prefix),) if prefix else ()
        for short in ("not_found_allowed", "not_found_disallowed"):
            yield Stat(path + short, getattr(counts, short), f"envoy_proxy_proto_{short}", labels)
        for version in "12":
            disallowed = getattr(counts, f"v{version}_disallowed")
            of_version = (*labels, ("proxy_protocol_version", version))
            for short, value in (
                # A header of a version that is not taken was found too.
                ("found", getattr(counts, f"v{version}_found") + disallowed),
                ("disallowed", disallowed),
                ("error", getattr(counts, f"v{version}_error")),
            ):
                yield Stat(f"{path}versions.v{version}.{short}", value, f"envoy_proxy_proto_{short}", of_version)
    name = "downstream_cx_proxy_proto_error"
    wrong = sum(one.not_found_disallowed + one.v1_error + one.v2_error for one in found.values())
    yield Stat(name, wrong, f"envoy_{name}")
