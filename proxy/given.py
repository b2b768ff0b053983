"""What a gateway can be told: each setting with its range, default and help in one place.

The command line makes its options of it, `settings` checks and combines the values, the documents hold the table of it.
"""

from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Any

from eastgate.xds.record import record

from .setting import NOTHING_SAID, Setting, declared

DAY_S = 86_400.0
MAX_WORKERS = 256

# Parts: what a command that has some of the settings takes of them.
STREAM = "stream"
IDENTITY = "identity"
SERVING = "serving"
JOURNAL = "journal"
LOG = "log"

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
CONTROL_PLANE = "[control-plane](control-plane.md)"


@record(kw_only=True)
class Given:
    """Values of flags and variables, each checked by itself: empty, or None, where nothing was said."""

    discovery: tuple[str, ...] = declared(
        STREAM, (), "HOST:PORT", "istiod's ADS, or unix:PATH; repeat for fail-over", more="Required"
    )
    discovery_root_cert: str = declared(
        STREAM, "", "FILE", "istiod's root certificate; turns TLS on (port 15012)", more=f"See {CONTROL_PLANE}"
    )
    discovery_server_name: str = declared(STREAM, "", "NAME", "name in istiod's certificate", default_text="the host")
    token_file: str = declared(STREAM, "", "FILE", "bearer token for istiod, read anew at each connection")
    client_cert: str = declared(STREAM, "", "FILE", "client certificate chain for istiod")
    client_key: str = declared(STREAM, "", "FILE", "its private key")
    xds_protocol: str = declared(
        STREAM, "", "", "variant of ADS", choices=("sotw", "delta"), default_text="sotw, or what the bootstrap says"
    )
    bootstrap: str = declared(
        STREAM,
        "",
        "FILE",
        "Envoy's bootstrap as pilot-agent renders it; flags win over it",
        more=f"Node, addresses, protocol and admin come from it: {CONTROL_PLANE}",
    )
    node_id: str = declared(
        STREAM,
        "",
        "ID",
        "TYPE~IP~POD.NAMESPACE~DOMAIN, TYPE router; a sidecar: sidecar",
        default_text="made up from the rest",
    )
    cluster_id: str = declared(
        STREAM, "", "NAME", "name of this Kubernetes cluster in the mesh", default_text="Kubernetes"
    )
    network: str = declared(STREAM, "", "NAME", "network of this proxy")
    network_view: str | None = declared(
        STREAM,
        None,
        "NAMES",
        "networks whose endpoints are wanted, with commas",
        kind=str,
        default_text="--network; a sidecar: all",
        more="Empty on a router means that connections may be handed on to other gateways: istiod then sends those, "
        "and eastgate warns",
    )
    namespace: str = declared(
        STREAM, "", "NAME", "namespace of this proxy", default_text="istio-system; a sidecar: default"
    )
    label: tuple[str, ...] = declared(
        STREAM, (), "K=V", "label of this proxy, which selectors of Gateways and rules see; repeatable"
    )
    locality: str = declared(STREAM, "", "R/Z/S", "region, zone, sub zone: what locality rules see")
    local_cluster: str = declared(
        STREAM,
        "",
        "NAME",
        "cluster of the proxies like this one: routes by zone",
        default_text="off, or what the bootstrap names",
        more="Connections stay in the own zone as far as that is even: "
        "[load-balancing](load-balancing.md#zone-aware-routing)",
    )
    meta: tuple[str, ...] = declared(STREAM, (), "K=V", "further node metadata; repeatable")

    service_account: str = declared(
        IDENTITY, "", "NAME", "Kubernetes service account of the workload", default_text="default"
    )
    trust_domain: str = declared(
        IDENTITY, "cluster.local", "NAME", "trust domain of the mesh: the first part of SPIFFE names"
    )
    ca_address: str = declared(
        IDENTITY,
        "",
        "HOST:PORT",
        "istiod's CA, which signs a certificate for the workload",
        default_text="--discovery for a sidecar, off for a gateway",
        more="Not asked where keys come from a socket or from files: [tls](tls.md#keys-without-pilot-agent)",
    )
    workload_cert: str = declared(
        IDENTITY, "", "FILE", "the workload's certificate chain, in the place of one from the CA; followed"
    )
    workload_key: str = declared(IDENTITY, "", "FILE", "its private key")
    workload_roots: str = declared(IDENTITY, "", "FILE", "what to trust: in the place of, or beside, what the CA says")
    sds_socket: str = declared(
        SERVING,
        "",
        "PATH",
        "Unix socket where pilot-agent serves the workload's keys",
        more=f"See {CONTROL_PLANE}",
    )
    admin: str = declared(
        SERVING,
        "",
        "HOST:PORT",
        "admin, on loopback only; port 0: a free one",
        default_text="127.0.0.1:15000",
        more="Printed as `admin listening on URL`",
    )
    status: str = declared(
        SERVING,
        "",
        "HOST:PORT",
        "readiness for kubelet's probes, and nothing else",
        default_text="off",
        more="`/ready` and `/healthz/ready`, on any address: this port is often exported",
    )
    metrics: str = declared(
        SERVING,
        "",
        "HOST:PORT",
        "/stats/prometheus, and nothing else",
        default_text="off",
        more="On any address; not for the world, since it names every cluster",
    )
    state_dir: str = declared(
        SERVING,
        "",
        "DIR",
        "keep the last good configuration there, serve it at start",
        default_text="off",
        more=f"Served while no istiod answers: {CONTROL_PLANE}",
    )
    state_max_age: float = declared(SERVING, DAY_S, "SECONDS", "oldest configuration to serve", low=1, high=366 * DAY_S)
    record: str = declared(
        SERVING,
        "",
        "DIR",
        "keep every push of istiod in a journal there",
        default_text="off",
        more="See [record-and-replay](record-and-replay.md)",
    )
    record_file_mb: float = declared(JOURNAL, 64.0, "MB", "size of one file of the journal", low=0.01, high=65_536)
    record_files: int = declared(JOURNAL, 8, "N", "files of the journal to keep", low=2, high=100_000)
    workers: int | None = declared(
        SERVING,
        None,
        "N",
        "native threads that carry the traffic",
        kind=int,
        low=0,
        high=MAX_WORKERS,
        default_text="granted CPUs",
        more="The CPUs that the cgroup grants, rounded up. 0: one loop on the control thread, for tests",
    )
    drain_time: float = declared(
        SERVING,
        45.0,
        "SECONDS",
        "how long to go on accepting after SIGTERM",
        low=0,
        high=DAY_S,
        more="See [Stop](#stop)",
    )
    drain_changed: str = declared(
        SERVING,
        "needed",
        "",
        "which open connections a push ends, after `--drain-time`",
        choices=("needed", "envoy"),
        more="`needed`: those that would now go to another cluster, or be denied. `envoy`: all of a filter chain or "
        "listener that changed. See [When a push changes what is open](#when-a-push-changes-what-is-open)",
    )
    access_log: str = declared(
        SERVING,
        "",
        "PATH",
        "file for one line per connection; - is stdout",
        default_text="off",
        more="SIGUSR1 reopens the file",
    )
    access_log_format: str = declared(SERVING, "text", "", "form of these lines", choices=("text", "json"))
    max_connections: int | None = declared(
        SERVING,
        None,
        "N",
        "open connections before refusing more",
        kind=int,
        low=1,
        high=100_000_000,
        default_text="what descriptors and memory allow",
        more="Over all workers together; refused with reason `limit`. The default is in `/server_info` and in the log",
    )
    defer_accept: bool = declared(
        SERVING,
        False,
        "",
        "leave clients in the kernel until they send something",
        more="Probes that say nothing are then not counted as `idle_probe`",
    )
    fast_open: bool = declared(
        SERVING,
        False,
        "",
        "take data with the first packet (TCP Fast Open)",
        more="Needs bit 2 of `net.ipv4.tcp_fastopen`",
    )
    silent_inbound_timeout: float = declared(
        SERVING,
        5.0,
        "SECONDS",
        "how long an inbound client of a sidecar may say nothing before it counts as plain text",
        low=0.1,
        high=DAY_S,
        more="For servers that speak first, on ports that take plain text and TLS, where the mesh sets no "
        "`protocolDetectionTimeout`. Never after a first byte of TLS",
    )
    tls_resumption: str = declared(
        SERVING,
        "on",
        "",
        "whether TLS sessions are resumed, with clients and with endpoints",
        choices=("on", "off"),
        more="Off: every handshake is a full one, at several times the CPU",
    )
    tls_strict_end: bool = declared(
        SERVING,
        False,
        "",
        "a FIN without close_notify is a reset, also where a record ends",
        more="See [tls](tls.md#ends)",
    )
    busy_poll: int = declared(
        SERVING,
        0,
        "MICROSECONDS",
        "how long a worker asks for events before it sleeps",
        low=0,
        high=1000,
        more="See [Busy polling](#busy-polling)",
    )
    log_level: str = declared(LOG, "info", "", "least severe lines to log", choices=LOG_LEVELS)
    log_format: str = declared(LOG, "text", "", "form of these lines", choices=("text", "json"))
    seed: int | None = declared(
        SERVING,
        None,
        "N",
        "seed of all random choices, for repeatable runs",
        kind=int,
        low=0,
        high=(1 << 64) - 1,
        default_text="random",
    )

    said_by: Mapping[str, str] = field(default_factory=dict)
    """Which flag or variable a value came from, where that is known."""

    def source(self, name: str) -> str:
        """The flag, or the variable, that an error about this setting names."""
        return self.said_by.get(name, SETTINGS[name].flag)


SETTINGS: Mapping[str, Setting] = {
    one.name: replace(one.metadata["setting"], name=one.name) for one in fields(Given) if "setting" in one.metadata
}


def given(values: Mapping[str, Any], said_by: Mapping[str, str] = NOTHING_SAID) -> Given:
    """Values by name of the setting, text or what it stands for; None for what was not said.

    Raises SettingsError naming the flag or variable, the value and what is allowed.
    """
    read = {
        name: SETTINGS[name].read(value, said_by.get(name, SETTINGS[name].flag))
        for name, value in values.items()
        if value is not None
    }
    return Given(**read, said_by=said_by)
