"""Labels of Istio's TCP metrics, beside the table of what istio.stats says of each side."""

from eastgate.proxy.admin.istio_labels import (
    NAMES,
    Local,
    Service,
    Workload,
    cluster_service,
    destination_labels,
    endpoint_workload,
    namespace_of,
    own_workload,
    source_labels,
    too_many,
)
from eastgate.xds.message import encode
from eastgate.xds.resources import Cluster

NODE = {
    "WORKLOAD_NAME": "shop-v1",
    "NAMESPACE": "a",
    "CLUSTER_ID": "gke",
    "LABELS": {
        "app": "shop",
        "version": "v1",
        "service.istio.io/canonical-name": "shop",
        "service.istio.io/canonical-revision": "r1",
    },
}
ME, PEER = "spiffe://cluster.local/ns/a/sa/shop", "spiffe://cluster.local/ns/other/sa/store"
LOCAL = Local(own_workload(NODE), ME)
STORE = Workload("store-v2", "b", "store", "v2", "anthos")
SERVICE = Service("store.b.svc.cluster.local", "store", "b")


def test_source_knows_itself_the_endpoint_and_the_service() -> None:
    labels = dict(source_labels(LOCAL, STORE, PEER, SERVICE, "-"))
    assert labels == {
        "reporter": "source",
        "source_workload": "shop-v1",
        "source_canonical_service": "shop",
        "source_canonical_revision": "r1",
        "source_workload_namespace": "a",
        "source_principal": ME,
        "source_app": "shop",
        "source_version": "v1",
        "source_cluster": "gke",
        "destination_workload": "store-v2",
        # The certificate is believed before the metadata.
        "destination_workload_namespace": "other",
        "destination_principal": PEER,
        "destination_app": "unknown",
        "destination_version": "unknown",
        "destination_service": "store.b.svc.cluster.local",
        "destination_canonical_service": "store",
        "destination_canonical_revision": "v2",
        "destination_service_name": "store",
        "destination_service_namespace": "b",
        "destination_cluster": "anthos",
        "request_protocol": "tcp",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }
    assert tuple(labels) == NAMES


def test_what_nobody_says_is_unknown() -> None:
    labels = dict(source_labels(Local(own_workload({})), Workload(), "", Service(), "UH"))
    assert labels.pop("reporter") == "source"
    assert labels.pop("request_protocol") == "tcp"
    assert labels.pop("response_flags") == "UH"
    assert {labels.pop(f"{side}_canonical_revision") for side in ("source", "destination")} == {"latest"}
    assert set(labels.values()) == {"unknown"}


def test_destination_knows_its_client_by_the_certificate_alone() -> None:
    labels = dict(destination_labels(LOCAL, PEER, Service(), "-"))
    assert tuple(labels) == NAMES
    assert labels["reporter"] == "destination"
    assert labels["source_workload"] == labels["source_app"] == "unknown"
    assert labels["source_workload_namespace"] == "other"
    assert (labels["source_principal"], labels["destination_principal"]) == (PEER, ME)
    assert labels["destination_workload"] == "shop-v1"
    # The service of a cluster that names none is the canonical one.
    assert (labels["destination_service_name"], labels["destination_service_namespace"]) == ("shop", "a")
    assert labels["connection_security_policy"] == "mutual_tls"
    assert dict(destination_labels(LOCAL, "", Service(), "-"))["connection_security_policy"] == "none"


def test_plain_text_has_no_principals() -> None:
    labels = dict(source_labels(LOCAL, STORE, "", SERVICE, "-"))
    assert labels["source_principal"] == labels["destination_principal"] == "unknown"
    assert labels["destination_workload_namespace"] == "b"


def metadata(istio: dict[str, object]) -> bytes:
    return encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"istio": istio}})


def test_metadata_of_endpoints_and_clusters_is_read() -> None:
    said = {"metadata": metadata({"workload": "store-v2;b;store;v2;anthos"})}
    assert endpoint_workload(said) == STORE
    assert endpoint_workload({"metadata": metadata({"workload": "a;b;c;d;e;more"})}).cluster == "e"
    assert endpoint_workload({"metadata": metadata({"workload": "alone"})}) == Workload("alone")
    assert endpoint_workload({"metadata": b"\xff"}) == endpoint_workload({}) == Workload()
    services = {"services": [{"host": SERVICE.host, "name": "store", "namespace": "b"}]}
    raw = encode("envoy.config.cluster.v3.Cluster", {"name": "c", "metadata": metadata(services)})
    assert cluster_service(Cluster(name="c", type="EDS", raw=raw)) == SERVICE
    assert cluster_service(Cluster(name="c", type="EDS", raw=b"")) == Service()
    assert cluster_service(Cluster(name="PassthroughCluster", type="ORIGINAL_DST")) == Service(
        name="PassthroughCluster"
    )


def test_namespace_of_a_principal() -> None:
    assert namespace_of(PEER) == "other"
    assert namespace_of("spiffe://cluster.local/sa/x") == namespace_of("") == namespace_of("spiffe://x/ns") == ""


def test_the_series_of_the_rest_says_so() -> None:
    labels = dict(too_many())
    assert tuple(labels) == NAMES
    assert labels["request_protocol"] == "tcp"
    assert labels["destination_workload"] == "too_many_series"
