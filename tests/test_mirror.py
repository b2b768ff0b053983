"""Each module has tests of its own at the same place below tests/, or is named here.

What is named is tested through its neighbours, mostly through the module that uses it. A module may be taken out of the
list, never put in: what is new comes with tests.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
# The other folders are tested by what comes of them: a mesh by its configuration, a command by what it prints.
PACKAGES = ("fastpath", "insight", "proxy", "xds")
# How many there were when the rule was made; lower it with the list.
MOST = 88
WITHOUT = {
    "fastpath/loop": {
        "addresses",
        "charges",
        "connection_record",
        "endpoint_queue",
        "event_ring",
        "http_answer",
        "pipe_pool",
        "publication",
        "remembered",
        "tls_socket",
        "worker_totals",
    },
    "fastpath/match": {"chain_counts", "http_choice", "http_specs", "policy_text"},
    "fastpath/tables": {
        "endpoint_state",
        "hash_lists",
        "hashed_table",
        "random_table",
        "share_plan",
        "table_build",
        "table_options",
        "zone_routing",
        "zones",
    },
    "fastpath/tls": {"context_spec", "failure", "handshake", "peer_names"},
    "insight": {
        "answer",
        "answer_text",
        "cluster_model",
        "comparison",
        "console",
        "doctor_text",
        "dump_fields",
        "endpoint_table",
        "errors",
        "kubectl",
        "mesh_walk",
        "pod_socket",
        "probe_text",
        "read_cluster",
        "read_hashing",
    },
    "proxy": {
        "about",
        "bootstrap_reader",
        "cgroup",
        "configuration",
        "errors",
        "observing",
        "open_listener",
        "process_stats",
        "recording",
        "replay_server",
        "secret_sources",
        "sensitive_paths",
        "setting",
        "showing",
    },
    "proxy/admin": {"certs", "dump_page", "dump_sections", "frames", "page_moments", "panics", "refusals"},
    "proxy/compile": {"cluster_tables", "cluster_views", "compiled", "listener_tables", "policies"},
    "proxy/disk": {"replay", "sides"},
    "proxy/membership": {"check_outcome"},
    "xds": {
        "certificate_request",
        "cidr",
        "config_source",
        "decode",
        "endpoint_messages",
        "endpoint_reader",
        "generate_schema",
        "grpc_health",
        "incoming",
        "log",
        "rbac",
        "resources",
        "response",
        "route",
        "tls_records",
        "wire_values",
    },
}


def modules() -> dict[str, set[str]]:
    """Names of modules by folder. Stubs, declarations and packages are none."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in {".py", ".pyx"} and not path.stem.startswith("__"):
                found.setdefault(str(path.parent.relative_to(ROOT)), set()).add(path.stem)
    return found


def unmirrored() -> dict[str, set[str]]:
    found = {
        folder: {name for name in names if not (ROOT / "tests" / folder / f"test_{name}.py").exists()}
        for folder, names in modules().items()
    }
    return {folder: names for folder, names in found.items() if names}


def test_modules_are_found():
    assert {"journey", "engine"} <= modules()["fastpath/loop"]
    assert {"app", "given"} <= modules()["proxy"]


def test_each_module_has_tests_at_its_place():
    new = {f"{folder}/{name}" for folder, names in unmirrored().items() for name in names - WITHOUT.get(folder, set())}
    assert not new, f"without tests/FOLDER/test_NAME.py: {sorted(new)}"


def test_list_of_those_without_names_none_that_has_some():
    found = unmirrored()
    old = {f"{folder}/{name}" for folder, names in WITHOUT.items() for name in names - found.get(folder, set())}
    assert not old, f"these have tests now, or are gone: take them out of WITHOUT: {sorted(old)}"


def test_list_of_those_without_does_not_grow():
    assert sum(map(len, WITHOUT.values())) == MOST
