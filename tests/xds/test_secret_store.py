"""Which secrets are wanted, kept, rotated, rejected and forgotten."""

from eastgate.xds.decode import CDS, LDS, SDS
from eastgate.xds.secret_store import SecretSnapshot, SecretStore
from eastgate.xds.store import Store
from eastgate.xds.tls_records import SecretRef

from ..support.secrets import ca_secret, keyed, packed, tls_secret
from . import istiod as build
from .test_secret_refs import OVER_ADS, WORKLOAD, sds, socket

AGENT = "cluster:sds-grpc"
DEFAULT, ROOT = SecretRef("default", AGENT), SecretRef("ROOTCA", AGENT)
WEB = SecretRef("kubernetes://web")


def test_names_come_from_accepted_clusters_and_listeners() -> None:
    store = Store(router=False)
    tls = socket("UpstreamTlsContext", **WORKLOAD)
    store.apply(CDS, "v1", [build.packed(CDS, build.cluster("a", transport_socket=tls))])
    web = socket(tls_certificate_sds_secret_configs=[sds(WEB.name, OVER_ADS)])
    listener = build.listener("l", [build.chain("a", transport_socket=web)])
    store.apply(LDS, "v1", [build.packed(LDS, listener)])
    assert store.secrets.snapshot.wanted == {DEFAULT, ROOT, WEB}
    assert store.secrets.snapshot.missing == {DEFAULT, ROOT, WEB}
    assert store.secrets.wanted() == (WEB.name,)
    assert store.secrets.wanted(AGENT) == ("ROOTCA", "default")
    applied = store.apply(SDS, "v7", [packed(tls_secret(WEB.name, keyed("web")))])
    assert (applied.changed, applied.reason) == (False, "")
    assert store.names(SDS) == (WEB.name,)
    assert store.secrets.snapshot.secrets[WEB].version == "v7"
    # The listener goes, and the key with it.
    store.apply(LDS, "v2", [])
    assert WEB not in store.secrets.snapshot.secrets
    assert store.secrets.snapshot.wanted == {DEFAULT, ROOT}


def test_a_router_wants_no_key_of_clusters_that_nothing_leads_to() -> None:
    store = Store(router=True)
    tls = socket("UpstreamTlsContext", **WORKLOAD)
    clusters = [build.cluster(name, transport_socket=tls) for name in ("outbound|80||a", "outbound|80||b")]
    store.apply(CDS, "v1", [build.packed(CDS, one) for one in clusters])
    assert store.secrets.snapshot.wanted == frozenset()
    store.apply(LDS, "v1", [build.packed(LDS, build.listener("l", [build.chain("outbound|80||b")]))])
    assert store.secrets.snapshot.wanted == {DEFAULT, ROOT}
    store.apply(LDS, "v2", [])
    assert store.secrets.snapshot.wanted == frozenset()


def wanting() -> SecretStore:
    store = SecretStore()
    store.want([DEFAULT, ROOT])
    return store


def test_rotation_tells_whoever_listens() -> None:
    store, seen = wanting(), list[SecretSnapshot]()
    stop = store.on_change(seen.append)
    first, second = keyed("a"), keyed("a")
    store.apply("1", [packed(tls_secret("default", first))], source=AGENT)
    store.apply("2", [packed(tls_secret("default", first))], source=AGENT)
    store.apply("3", [packed(tls_secret("default", second))], source=AGENT)
    assert [one.secrets[DEFAULT].version for one in seen] == ["1", "3"]
    assert [one.generation for one in seen] == [2, 3]
    held = seen[0].secrets[DEFAULT].tls_certificate
    assert held is not None
    assert held.private_key.pem() == first.key
    stop()
    store.apply("4", [packed(tls_secret("default", first))], source=AGENT)
    assert len(seen) == 2


def test_a_bad_secret_is_rejected_by_name_and_the_last_good_one_stays() -> None:
    store, pair = wanting(), keyed("a")
    store.apply("1", [packed(tls_secret("default", pair)), packed(ca_secret("ROOTCA", pair.certificate))], source=AGENT)
    wrong = tls_secret("default", pair, key=keyed("b").key)
    rejected = store.apply("2", [packed(wrong), packed(ca_secret("ROOTCA", keyed("c").certificate))], source=AGENT)
    assert [(one.name, one.reason, one.raw) for one in rejected] == [
        ("default", "tls_certificate.private_key is not the key of its certificate", b"")
    ]
    snapshot = store.snapshot
    assert snapshot.secrets[DEFAULT].version == "1"
    assert snapshot.secrets[ROOT].version == "2"
    assert set(snapshot.rejections) == {DEFAULT}
    store.apply("3", [packed(tls_secret("default", pair))], source=AGENT)
    assert store.snapshot.rejections == {}


def test_what_nobody_wants_is_not_kept() -> None:
    store = wanting()
    pair = keyed("a")
    assert store.apply("1", [packed(tls_secret("other", pair)), packed(tls_secret("default", pair))]) == ()
    assert store.snapshot.secrets == {}
    store.apply("1", [packed(tls_secret("default", pair))], source=AGENT)
    assert store.held(AGENT) == ("default",)
    store.want([ROOT])
    assert store.snapshot.secrets == {}
    generation = store.snapshot.generation
    store.want([ROOT])
    assert store.snapshot.generation == generation


def test_resources_that_are_no_secrets_are_rejected() -> None:
    store = wanting()
    bad = [build.packed(CDS, tls_secret("default", keyed("a"))), b"\xff", packed(b"")]
    rejected = store.apply("1", bad, source=AGENT)
    assert [one.name for one in rejected] == ["default", "(resource 2 of 3)", "(resource 3 of 3)"]
    assert rejected[0].reason.startswith("its type is ")
    (named,) = store.apply("2", [packed(tls_secret("default", keyed("a")))], source=AGENT, names=["ROOTCA"])
    assert (named.name, named.reason) == ("ROOTCA", "it calls itself 'default'")


def test_a_missing_secret_is_awaited_for_its_own_time() -> None:
    now_s = [100.0]
    store = SecretStore(clock=lambda: now_s[0])
    patient, hasty = SecretRef("patient", AGENT, 0.0), SecretRef("hasty", AGENT, 2.0)
    store.want([patient, hasty, DEFAULT])
    now_s[0] += 1
    # Wanted again it is no younger.
    store.want([patient, hasty, DEFAULT])
    assert set(store.awaited()) == {patient, hasty, DEFAULT}
    now_s[0] += 1
    assert set(store.awaited()) == {patient, DEFAULT}
    now_s[0] += 14
    assert store.awaited() == [patient]
    # A name and nothing else.
    assert store.apply("1", [packed(b"\x0a\x07patient")], source=AGENT)
    assert store.awaited() == []


def test_a_secret_is_one_whatever_its_timeout() -> None:
    assert {SecretRef("a", AGENT, 0.0), SecretRef("a", AGENT, 5.0)} == {SecretRef("a", AGENT)}
    assert SecretRef("a", AGENT) != SecretRef("a")
