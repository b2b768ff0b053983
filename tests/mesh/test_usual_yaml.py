"""YAML as people have it: plain texts, templates, folders with other things in them, values that no field takes."""

from pathlib import Path

import pytest
from eastgate.mesh.documents import read_documents
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import load, parse

MESH = "kind: Mesh\nclusters: {west: {}, Kubernetes: {}, gke_project_1: {}}\n"


def value(text: str) -> object:
    (document,) = read_documents(f"a: {text}\n", "x")
    return document.content["a"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01", "2026-01-01"),
        ("22:00", "22:00"),
        ("1:30.5", "1:30.5"),
        ("=", "="),
        ("0o120", 80),
        ("0120", 80),
        ("0x50", 80),
        ("-1", -1),
        ("80", 80),
        ("1.5", 1.5),
        ("10.0.0.1", "10.0.0.1"),
        ("1.10", 1.10),
        ("yes", True),
        ("~", None),
    ],
)
def test_a_plain_text_is_what_kubernetes_takes_it_for(text: str, meant: object) -> None:
    assert value(text) == meant


def test_keys_are_their_text() -> None:
    (document,) = read_documents("on: a\n1.5: b\n8080: c\n", "x")
    assert document.content == {"on": "a", "1.5": "b", "8080": "c"}


def test_cluster_names_are_those_that_people_give() -> None:
    """`Kubernetes` is istiod's own default: what `mesh import` writes for it must be read."""
    assert set(parse(MESH, "x").mesh.clusters) == {"west", "Kubernetes", "gke_project_1"}


@pytest.mark.parametrize(
    "text", ["name: {{ .Release.Name }}\n", "{{- if .Values.on }}\na: b\n{{- end }}\n", "{{ include x }}: b\n"]
)
def test_a_template_is_named_as_one(text: str) -> None:
    with pytest.raises(MeshError, match=r"^x:\d+: .*a template such as .* is rendered first \(helm template\)$"):
        parse(MESH + "---\n" + text, "x")


def test_a_folder_may_hold_other_things(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text(MESH)
    (tmp_path / "values.yaml").write_text("image: {tag: x}\n")
    (tmp_path / "package.json").write_text('["a"]')
    (finding,) = load(tmp_path).findings
    assert finding.endswith("a document without a kind: no object, left out (and 1 more)")
    (tmp_path / "rule.yaml").write_text("metadata: {name: web}\nspec: {host: web}\n")
    with pytest.raises(MeshError, match=r"rule.yaml:1: a document must be a mapping with a kind"):
        load(tmp_path)


def finding(kind: str, version: str, name: str = "web") -> str:
    text = f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    (found,) = parse(MESH + text, "x").findings
    return found.removeprefix("x:4: ")


@pytest.mark.parametrize(
    ("kind", "version", "name", "said"),
    [
        ("ReplicaSet", "apps/v1", "web", "its pods are taken from the Pods of the files alone"),
        ("Job", "batch/v1", "web", "its pods are taken from the Pods of the files alone"),
        ("ConfigMap", "v1", "other", "without effect on where TCP connections go"),
        ("DestinationRule", "v1", "web", "not applied: its apiVersion is not of networking.istio.io"),
        ("Mesh", "kuma.io/v1alpha1", "web", "not read here"),
        ("HTTPRoute", "gateway.networking.k8s.io/v1", "web", "not applied: connections that it moves"),
        ("TCPRoute", "gateway.networking.k8s.io/v1alpha2", "web", "not applied: connections that it moves"),
    ],
)
def test_what_is_left_out_is_not_called_without_effect_where_it_has_one(
    kind: str, version: str, name: str, said: str
) -> None:
    assert finding(kind, version, name).startswith(f"{kind}: {said}")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("outlierDetection: {consecutive5xxErrors: 4294967296}", "less than or equal to 4294967295"),
        ("connectionPool: {tcp: {maxConnections: 2147483648}}", "less than or equal to 2147483647"),
        ("connectionPool: {tcp: {connectTimeout: 99999999999h}}", "longer than Go's longest duration"),
    ],
)
def test_numbers_that_no_message_takes_are_refused_with_their_line(spec: str, said: str) -> None:
    head = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web}\n"
    with pytest.raises(MeshError, match=rf"^x:10: .*{said}"):
        parse(f"{MESH}{head}spec:\n  host: web\n  trafficPolicy:\n    {spec}\n", "x")


NAMELESS = ['"\\u00e9\\u2028"', '"web\\n"', "Web", "a..b", "-a", "a" * 254]


@pytest.mark.parametrize("name", NAMELESS)
@pytest.mark.parametrize(
    ("said", "version", "kind"),
    [
        ("metadata", "v1", "Service"),
        ("metadata", "v1", "Pod"),
        ("DestinationRule: metadata", "networking.istio.io/v1", "DestinationRule"),
    ],
)
def test_what_no_kubernetes_takes_for_a_name_is_one_line(said: str, version: str, kind: str, name: str) -> None:
    for field, metadata in (("name", f"{{name: {name}}}"), ("namespace", f"{{name: a, namespace: {name}}}")):
        text = f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {{host: web}}\n"
        with pytest.raises(MeshError) as error:
            parse(MESH + text, "x")
        assert str(error.value).startswith(f"x:6: {said}.{field}: '")
        assert str(error.value).endswith("is no name of an object: small letters, digits, - and . alone")
        assert str(error.value).isprintable()


ENTRY = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x}\n"
PORTS = "[{number: 80, name: tcp, protocol: TCP}]"
ENTRY += f"spec: {{hosts: [%s], resolution: DNS, ports: {PORTS}, endpoints: [{{address: %s}}]}}\n"


@pytest.mark.parametrize("host", ["a.example", "'*.example'", "A_b.example", "one", "a.example."])
def test_hosts_of_entries_are_names(host: str) -> None:
    assert len(parse(MESH + ENTRY % (host, "b.example"), "x").mesh.resources) == 1


@pytest.mark.parametrize("name", ['"\\u00e9\\u2028"', '"a\\n"', "a..b", "a/b", "'a.*'"])
def test_hosts_and_addresses_of_entries_that_are_no_names_are_one_line(name: str) -> None:
    for field, text in (("hosts.0", ENTRY % (name, "b.example")), ("endpoints.0.address", ENTRY % ("a.example", name))):
        with pytest.raises(MeshError, match=rf"^x:7: spec.{field}: '.*' is no name of a host: ") as error:
            parse(MESH + text, "x")
        assert str(error.value).isprintable()
