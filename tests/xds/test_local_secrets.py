"""Secrets that are made here, as the store reads them."""

from eastgate.xds.local_secrets import CERTIFICATE, ROOTS, apply, certificate_secret, roots_secret
from eastgate.xds.secret_store import SecretStore
from eastgate.xds.tls_records import SecretRef

from ..support.secrets import SPIFFE, keyed

SOURCE = "cluster:sds-grpc"


def test_what_is_wanted_is_put_into_the_store() -> None:
    store, pair, root = SecretStore(), keyed(SPIFFE), keyed("root")
    secrets = {CERTIFICATE: certificate_secret(pair.certificate, pair.key), ROOTS: roots_secret(root.certificate)}
    assert apply(store, SOURCE, "1", secrets) == ()
    assert not store.snapshot.secrets
    store.want([SecretRef(CERTIFICATE, SOURCE)])
    assert apply(store, SOURCE, "2", secrets) == ()
    ((ref, secret),) = store.snapshot.secrets.items()
    assert (ref, secret.version) == (SecretRef(CERTIFICATE, SOURCE), "2")
    assert secret.tls_certificate is not None
    assert secret.tls_certificate.private_key.pem() == pair.key


def test_a_key_that_does_not_fit_is_rejected_and_the_last_good_stays() -> None:
    store, pair = SecretStore(), keyed(SPIFFE)
    store.want([SecretRef(CERTIFICATE, SOURCE)])
    apply(store, SOURCE, "1", {CERTIFICATE: certificate_secret(pair.certificate, pair.key)})
    (rejected,) = apply(store, SOURCE, "2", {CERTIFICATE: certificate_secret(pair.certificate, keyed().key)})
    assert "is not the key of its certificate" in rejected.reason
    assert [one.version for one in store.snapshot.secrets.values()] == ["1"]


def test_roots_of_several_bundles_once_each_and_without_what_is_between_them() -> None:
    first, second = keyed("a").certificate, keyed("b").certificate
    store = SecretStore()
    store.want([SecretRef(ROOTS, SOURCE)])
    bundle = b"# two roots\n" + first + b"\nsomething\n" + second
    assert apply(store, SOURCE, "1", {ROOTS: roots_secret(bundle, first.replace(b"\n", b"\r\n"), b"")}) == ()
    (secret,) = store.snapshot.secrets.values()
    assert len(secret.certificates) == 2
