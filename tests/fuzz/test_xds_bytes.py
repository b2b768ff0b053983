"""Whatever bytes arrive: an answer or an XdsError, and never anything else. Seeds are recorded messages, damaged."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from eastgate.xds.assignment import decode_assignment, read_text
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS, decode_cluster, decode_listener, decode_route
from eastgate.xds.errors import XdsError
from eastgate.xds.message import read
from eastgate.xds.schema import MESSAGES
from eastgate.xds.secret import decode_secret
from eastgate.xds.secret_refs import secret_refs
from eastgate.xds.secret_store import SecretStore
from eastgate.xds.store import Store
from eastgate.xds.tls_records import SecretRef
from eastgate.xds.wire import unknown_fields
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.secrets import ca_secret, keyed, tls_secret
from ..xds.rows import rows_of

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
CORPUS = Path(__file__).parent / "corpus" / "xds"
RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"


@cache
def recorded(kind: str) -> tuple[bytes, ...]:
    """Payloads of one type from gateway and sidecars, at most 200."""
    payloads: set[bytes] = set()
    for path in sorted(RECORDINGS.glob(f"[0-9]*/*/{kind}.pb")):
        if path.parent.parent.name != "2-delta":
            resources = read(RESPONSE, path.read_bytes()).get("resources", [])
            payloads.update(read("google.protobuf.Any", resource)["value"] for resource in resources)
    return tuple(sorted(payloads, key=len))[:200]


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A recorded message with bits flipped, bytes put in or taken out, or its end missing."""
    return _changed(draw, draw(st.sampled_from(recorded(kind))))


def _changed(draw: st.DrawFn, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(("flip", "set", "insert", "cut", "remove")))
        if change == "insert":
            data[place:place] = draw(st.binary(max_size=12))
        elif change == "cut":
            del data[place:]
        elif change == "remove":
            del data[place : place + draw(st.integers(1, 8))]
        elif data:
            data[place] = draw(st.integers(0, 255)) if change == "set" else data[place] ^ 1 << draw(st.integers(0, 7))
    return bytes(data)


def check_error(error: XdsError, *kinds: str) -> None:
    assert error.kind in kinds
    assert error.reason
    assert "\n" not in error.reason
    assert "PRIVATE" not in error.reason


def check_assignment(data: bytes) -> None:
    try:
        assignment = decode_assignment(data)
    except XdsError as error:
        check_error(error, "EDS")
        return
    # rows_of checks lengths, indexes and families on its way.
    rows = rows_of(assignment.columns)
    assert len({(row.address, row.port) for row in rows}) == len(rows)
    assert all(row.weight >= 1 and row.health <= 5 and row.priority <= 127 for row in rows)


def check_resource(data: bytes) -> None:
    for decode in (decode_cluster, decode_listener, decode_route):
        try:
            decode(data)
        except XdsError as error:
            check_error(error, "CDS", "LDS", "RDS")


@cache
def secrets() -> tuple[bytes, ...]:
    pair = keyed("spiffe://cluster.local/ns/sleep/sa/sleep")
    return tls_secret("default", pair), ca_secret("ROOTCA", pair.certificate)


def check_secret(data: bytes) -> None:
    # A broken key may still be a key: neither what is shown nor what is said may hold it.
    try:
        secret = decode_secret(data, datetime.now(UTC))
    except XdsError as error:
        check_error(error, "SDS")
        return
    assert secret.certificates
    assert b"PRIVATE" not in secret.public
    assert "PRIVATE" not in repr(secret)


def check_every_reader(data: bytes) -> None:
    check_assignment(data)
    check_resource(data)
    check_secret(data)
    try:
        secret_refs(data)
    except XdsError as error:
        check_error(error, "TransportSocket", "CommonTlsContext", "SdsSecretConfig")
    read_text(data, 1)
    for name in MESSAGES:
        try:
            unknown_fields(read(name, data))
        except XdsError as error:
            check_error(error, name.rpartition(".")[2])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    check_every_reader(data)


@settings(deadline=None, max_examples=400)
@given(damaged("eds"))
def test_damaged_assignments(data: bytes) -> None:
    check_assignment(data)


@settings(deadline=None, max_examples=400)
@given(st.one_of(damaged("cds"), damaged("lds"), damaged("rds")))
def test_damaged_clusters_listeners_and_routes(data: bytes) -> None:
    check_resource(data)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(("cds", "eds", "lds", "rds")), st.data())
def test_every_truncation_of_a_recorded_message(kind: str, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(recorded(kind)))
    for length in range(0, len(whole), max(1, len(whole) // 200)):
        check_assignment(whole[:length]) if kind == "eds" else check_resource(whole[:length])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(("cds", "eds", "lds", "rds")), st.data()), min_size=1, max_size=4))
def test_store_survives_damaged_responses(pushes: list[tuple[str, st.DataObject]]) -> None:
    store = Store(router=False)
    type_urls = {"cds": CDS, "eds": EDS, "lds": LDS, "rds": RDS}
    for number, (kind, data) in enumerate(pushes):
        payloads = data.draw(st.lists(st.one_of(damaged(kind), st.sampled_from(recorded(kind))), max_size=4))
        packed = [_any(type_urls[kind], payload) for payload in payloads]
        before = store.snapshot
        applied = store.apply(type_urls[kind], str(number), packed)
        assert (store.snapshot.generation > before.generation) == applied.changed
        assert set(store.snapshot.assignments) <= {one.assignment_name for one in store.snapshot.clusters.values()}
        assert set(store.snapshot.routes) | store.snapshot.missing_routes == set(store.wanted_routes)
        assert (applied.reason == "") == (not applied.rejected)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_secrets(data: st.DataObject) -> None:
    check_secret(_changed(data.draw, data.draw(st.sampled_from(secrets()))))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_secret_store_survives_damaged_responses(data: st.DataObject) -> None:
    store = SecretStore()
    store.want([SecretRef("default"), SecretRef("ROOTCA")])
    for version in range(3):
        payload = _changed(data.draw, data.draw(st.sampled_from(secrets())))
        before = store.snapshot
        rejected = store.apply(str(version), [_any(SDS, payload), _any(SDS, data.draw(st.sampled_from(secrets())))])
        assert set(store.snapshot.secrets) >= set(before.secrets)
        assert (store.snapshot.generation > before.generation) == (store.snapshot.secrets != before.secrets)
        assert all(one.raw == b"" for one in rejected)


def _any(type_url: str, payload: bytes) -> bytes:
    from eastgate.xds.message import encode

    return encode("google.protobuf.Any", {"type_url": type_url, "value": payload})


def test_corpus() -> None:
    """Inputs that once found a defect."""
    for path in sorted(CORPUS.glob("*.bin")):
        check_every_reader(path.read_bytes())
