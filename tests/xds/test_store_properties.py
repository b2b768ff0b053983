"""Whatever a response holds, what was there and is not validly removed is still there."""

from collections.abc import Callable, Iterable
from typing import Any

from eastgate.xds.decode import CDS, EDS, LDS, RDS
from eastgate.xds.delta_subscription import DELTA_RESPONSE, DeltaSubscriptions
from eastgate.xds.envelope import WRAPPER
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode, read
from eastgate.xds.store import Store
from eastgate.xds.subscription import SotwSubscriptions
from hypothesis import given, settings
from hypothesis import strategies as st

from . import istiod as build

NAMES = tuple(f"outbound_.80_._.{letter}.svc" for letter in "abcd")
TYPES = ((CDS, True), (EDS, False), (LDS, True), (RDS, False))
MESSAGES = {
    CDS: "envoy.config.cluster.v3.Cluster",
    EDS: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    LDS: "envoy.config.listener.v3.Listener",
    RDS: "envoy.config.route.v3.RouteConfiguration",
}


def http_chain(route: str) -> bytes:
    url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {"@type": url, "rds": {"route_config_name": route}}
    return build.chain("", filters=[{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}])


def cluster(name: str, edition: int) -> bytes:
    return build.cluster(name, connect_timeout=f"{edition + 1}s")


def assignment(name: str, edition: int) -> bytes:
    return build.assignment(name, [build.locality_endpoints("r", [build.endpoint(f"10.0.0.{edition + 1}")])])


def listener(name: str, edition: int) -> bytes:
    return build.listener(name, [build.chain(NAMES[0]), *map(http_chain, NAMES)], stat_prefix=str(edition))


def routes(name: str, edition: int) -> bytes:
    route = {"match": {"prefix": "/"}, "route": {"cluster": str(edition)}}
    host = encode("envoy.config.route.v3.VirtualHost", {"name": "h", "domains": ["*"], "routes": [route]})
    return encode(MESSAGES[RDS], {"name": name, "virtual_hosts": [host]})


MADE: dict[str, Callable[[str, int], bytes]] = {CDS: cluster, EDS: assignment, LDS: listener, RDS: routes}


def held(store: Store) -> dict[str, frozenset[str]]:
    return {type_url: frozenset(store.names(type_url)) for type_url, _ in TYPES}


def referred(store: Store) -> set[str]:
    snapshot = store.snapshot
    return {one.assignment_name for one in (*snapshot.clusters.values(), *snapshot.waiting.values())}


def filled() -> Store:
    store = Store()
    for type_url in (CDS, EDS, LDS, RDS):
        store.apply(type_url, "1", [build.packed(type_url, MADE[type_url](name, 0)) for name in NAMES])
    assert held(store) == dict.fromkeys(MADE, frozenset(NAMES))
    return store


@st.composite
def payloads(draw: st.DrawFn, type_url: str) -> bytes:
    """Bytes of a resource: as they should be, or damaged, or of a name that nothing can have."""
    name = draw(st.sampled_from((*NAMES, "outbound_.80_._.new.svc", "", "a\0b", "a\nb")))
    made = MADE[type_url](name, draw(st.integers(0, 3)))
    what = draw(st.sampled_from(("whole", "whole", "flipped", "cut", "repeated", "noise")))
    if what == "flipped":
        at = draw(st.integers(0, len(made) - 1))
        return made[:at] + bytes([made[at] ^ draw(st.integers(1, 255))]) + made[at + 1 :]
    if what == "cut":
        return made[: draw(st.integers(0, len(made) - 1))]
    if what == "repeated":
        return made + made[draw(st.integers(0, len(made) - 1)) :]
    return draw(st.binary(max_size=30)) if what == "noise" else made


@st.composite
def anys(draw: st.DrawFn, type_url: str) -> bytes:
    other = draw(st.sampled_from((type_url,) * 12 + (CDS, EDS, "", "type.googleapis.com/x.Y")))
    packed = build.packed(other, draw(payloads(type_url)))
    if draw(st.booleans()):
        fields: dict[str, Any] = {"name": draw(st.sampled_from(("", *NAMES)))}
        if draw(st.booleans()):
            fields["ttl"] = draw(st.sampled_from(("0s", "1s", "-1s", "315576000000s")))
        if draw(st.integers(0, 5)):
            fields["resource"] = packed
        packed = build.packed(WRAPPER, encode("envoy.service.discovery.v3.Resource", fields))
    return packed


def names_said(resources: Iterable[bytes], type_url: str) -> set[str] | None:
    """Names of the resources of a response; None when one is damaged, or two are called alike."""
    found = []
    for raw in resources:
        try:
            packed = read("google.protobuf.Any", raw)
            if packed.get("type_url") == WRAPPER:
                packed = read(
                    "google.protobuf.Any", read("envoy.service.discovery.v3.Resource", packed["value"])["resource"]
                )
            if packed.get("type_url") != type_url:
                return None
            message = read(MESSAGES[type_url], packed.get("value", b""))
        except (XdsError, KeyError):
            return None
        found.append(message.get("cluster_name" if type_url == EDS else "name", ""))
    names = set(found)
    return names if len(names) == len(found) and all(one.isprintable() and one for one in names) else None


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from((CDS, EDS, LDS, RDS)))
def test_state_of_the_world_takes_away_only_what_a_whole_response_leaves_out(data: st.DataObject, kind: str) -> None:
    store = filled()
    subscriptions = SotwSubscriptions(TYPES)
    for version in "23":
        resources = data.draw(st.lists(anys(kind), max_size=5))
        before = held(store)
        message = {"version_info": version, "resources": resources, "type_url": kind, "nonce": "n"}
        applied = store.apply_response(
            subscriptions.read(encode("envoy.service.discovery.v3.DiscoveryResponse", message))
        )
        said = names_said(resources, kind)
        gone = {type_url: before[type_url] - names for type_url, names in held(store).items()}
        if kind in (EDS, RDS) or said is None or (applied.rejected and not applied.accepted):
            assert not any(names for type_url, names in gone.items() if type_url != EDS)
            assert not gone[EDS] & referred(store)
        else:
            assert not gone[kind] & said
            # What goes beside it is what nothing refers to any more.
            assert not gone[LDS if kind == CDS else CDS]
            assert not gone[EDS] & referred(store)
        assert bool(applied.reason) == bool(applied.rejected)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from((CDS, EDS, LDS)))
def test_delta_takes_away_only_what_it_names(data: st.DataObject, kind: str) -> None:
    store = filled()
    subscriptions = DeltaSubscriptions(TYPES)
    for _ in range(2):
        removed = data.draw(st.lists(st.sampled_from((*NAMES, "", "other")), max_size=2))
        wrappers = []
        for raw in data.draw(st.lists(anys(kind), max_size=4)):
            name = data.draw(st.sampled_from(("", *NAMES)))
            wrappers.append({"name": name, "version": "7", "resource": raw} if len(raw) % 7 else {"name": name})
        before = held(store)
        message = {"resources": wrappers, "type_url": kind, "nonce": "n", "removed_resources": removed}
        store.apply_response(subscriptions.read(encode(DELTA_RESPONSE, message)))
        gone = {type_url: before[type_url] - names for type_url, names in held(store).items()}
        assert gone[kind] <= (set() if kind == EDS else set(removed))
        assert gone[LDS if kind == CDS else CDS] == frozenset()
        assert not gone[EDS] & referred(store)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from((CDS, LDS)))
def test_one_damaged_byte_in_a_response_costs_nothing_that_it_does_not_leave_out(
    data: st.DataObject, kind: str
) -> None:
    store = filled()
    message = {
        "version_info": "2",
        "resources": [build.packed(kind, MADE[kind](name, 1)) for name in NAMES],
        "type_url": kind,
        "nonce": "n",
    }
    raw = encode("envoy.service.discovery.v3.DiscoveryResponse", message)
    at = data.draw(st.integers(0, len(raw) - 1))
    damaged = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    before = held(store)
    try:
        response = SotwSubscriptions(TYPES).read(damaged)
    except XdsError:
        return
    if response.type_url != kind:
        return
    applied = store.apply_response(response)
    said = names_said(response.resources, kind)
    if said is None or (applied.rejected and not applied.accepted):
        assert held(store)[kind] >= before[kind]
    else:
        # Damage further in is seen too, and then nothing goes.
        assert before[kind] - held(store)[kind] <= before[kind] - said
