"""Whatever is accepted and has no effect, or refuses, is read by people: in the log, on each page, and by doctor.

Each kind of warning that there is meets each reader.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import BindConfig, SocketAddress, SocketOption
from envoy_data_plane.envoy.config.listener.v3 import Filter, Listener
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, RbacAction
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.sni_cluster.v3 import SniCluster
from envoy_data_plane.envoy.type.matcher.v3 import PathMatcher, StringMatcher

from ..support import messages, tls_messages
from ..support.gateway_process import Eastgate, run_command
from ..support.recordings import CDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

WARNED, TLS, PLAIN, DENIED = (messages.sni(name) for name in ("warned", "tls", "plain", "denied"))
NOT_SERVED = "not-served"
# Where each kind of notice comes from -> kind and name of the resource, how severe it is, and what is said of it.
KINDS = {
    "Cluster.warnings": ("CDS", WARNED, "not_honoured", "upstream_bind_config.socket_options: level 6, name 13"),
    "CompiledCluster.closed": ("CDS", TLS, "refused", "secret default has not arrived"),
    "Listener.warnings": ("LDS", messages.LISTENER, "not_honoured", "transparent: "),
    "FilterChain.refusal": ("LDS", messages.LISTENER, "refused", "sni_cluster"),
    "FilterChain.policies": ("LDS", messages.LISTENER, "not_honoured", "policy p asks for url_path"),
    "listener that is not served": ("LDS", NOT_SERVED, "refused", "TPROXY"),
}
EVENTS = {"not_honoured": "configuration not honoured", "refused": "connections will be refused"}
RULES = {"not_honoured": "not-honoured", "refused": "connections-refused"}


def asking() -> Filter:
    """A policy that asks for what layer 4 does not know."""
    path = Permission(url_path=PathMatcher(path=StringMatcher(exact="/x")))
    policy = Policy(permissions=[path], principals=[Principal(any=True)])
    config = Rbac(stat_prefix="p", rules=Rules(action=RbacAction.DENY, policies={"p": policy}))
    return Filter(name="envoy.filters.network.rbac", typed_config=messages.pack(config))


# TCP_CONGESTION has a name, and no number.
CONGESTION = SocketOption(level=6, name=13, buf_value=b"cubic")
BIND = BindConfig(source_address=SocketAddress(address="127.0.0.1", port_value=0), socket_options=[CONGESTION])


@pytest.fixture(scope="module")
def gateway() -> Iterator[Eastgate]:
    ends = [messages.At(("127.0.0.1", 9))]
    warned = Cluster.parse(messages.cluster(WARNED))
    warned.upstream_bind_config = BIND
    tls = Cluster.parse(messages.cluster(TLS))
    tls.transport_socket = tls_messages.upstream("x")
    closing = Filter(name="envoy.filters.network.sni_cluster", typed_config=messages.pack(SniCluster()))
    chains = [messages.chain(name) for name in (WARNED, TLS)]
    chains += [messages.chain(PLAIN, filters=[asking()]), messages.chain(DENIED, filters=[closing])]
    main = Listener.parse(messages.listener(chains))
    main.transparent = True
    skipped = Listener.parse(messages.listener([messages.chain(PLAIN)], name=NOT_SERVED))
    skipped.use_original_dst = skipped.transparent = True
    resources = messages.resources(dict.fromkeys((WARNED, TLS, PLAIN, DENIED), ends))
    resources[CDS] |= {WARNED: bytes(warned), TLS: bytes(tls)}
    resources[LDS] = {messages.LISTENER: bytes(main), NOT_SERVED: bytes(skipped)}
    with ExitStack() as stack:
        server = stack.enter_context(ReplayThread(resources))
        yield stack.enter_context(Eastgate(server.address)).wait_ready()


def named(entries: object, name: str) -> dict[str, object]:
    assert isinstance(entries, list)
    (found,) = [one for one in entries if one.get("name", one.get("cluster", {}).get("name")) == name]
    return dict(found)


def in_log(gateway: Eastgate, kind: str, name: str, sort: str, text: str) -> bool:
    def told() -> bool:
        return any(
            EVENTS[sort] in line and f"type={kind}" in line and name in line and text in line
            for line in list(gateway.lines)
        )

    # A refusal is told once it has lasted.
    until(told, f"the log tells of {name}")
    return True


def in_config_dump(gateway: Eastgate, kind: str, name: str, sort: str, text: str) -> bool:
    field = {"CDS": "dynamic_active_clusters", "LDS": "dynamic_listeners"}[kind]
    entries = gateway.json(f"/config_dump?resource={field}")["configs"]
    return says(named(entries, name)["eastgate_notices"], sort, text)


def in_listeners(gateway: Eastgate, kind: str, name: str, sort: str, text: str) -> bool:
    if kind != "LDS":
        return True
    plain = gateway.get("/listeners")[1]
    assert any(line.startswith(f"{name}::{sort}::") and text in line for line in plain.splitlines())
    return says(
        named(gateway.json("/listeners?format=json")["listener_statuses"], name)["eastgate_notices"], sort, text
    )


def in_ledger(gateway: Eastgate, kind: str, name: str, sort: str, text: str) -> bool:
    plain = gateway.get("/debug/xds?format=text")[1]
    assert any(line.startswith(f"{kind} {name} {sort}: ") and text in line for line in plain.splitlines())
    rows = [row for row in gateway.json("/debug/xds")["resources"] if (row["type"], row["name"]) == (kind, name)]
    return says(rows[0]["notices"], sort, text)


def in_doctor(gateway: Eastgate, kind: str, name: str, sort: str, text: str) -> bool:
    run = run_command("doctor", "--admin", gateway.admin, "--json")
    assert run.returncode == 1, run.stderr
    found = json.loads(run.stdout)["findings"]
    return any(one["rule"] == RULES[sort] and name in str(one) and text in str(one) for one in found)


def says(notices: object, sort: str, text: str) -> bool:
    assert isinstance(notices, list)
    return any(one["kind"] == sort and text in one["text"] for one in notices)


READERS = (in_log, in_config_dump, in_listeners, in_ledger, in_doctor)


@pytest.mark.parametrize("reader", READERS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("source", KINDS)
def test_notice_is_read(gateway: Eastgate, source: str, reader: object) -> None:
    assert callable(reader)
    assert reader(gateway, *KINDS[source]), source


def test_resource_that_does_what_it_says_has_no_notice(gateway: Eastgate) -> None:
    entries = gateway.json("/config_dump?resource=dynamic_active_clusters")["configs"]
    assert "eastgate_notices" not in named(entries, PLAIN)
