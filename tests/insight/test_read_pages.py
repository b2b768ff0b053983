"""Admin pages beside a dump: what is rejected, and what does not listen."""

from typing import Any

from eastgate.insight.cluster_model import RejectedResource, SilentListener
from eastgate.insight.doctor import examine
from eastgate.insight.read_dump import read_documents

from ..support import dumps

LISTENERS: dict[str, Any] = {"listener_statuses": [
    {"name": "fine", "local_address": {"socket_address": {"address": "0.0.0.0", "port_value": 15443}}},
    {"name": "taken", "local_address": {"socket_address": {"address": "::", "port_value": 80}},
     "eastgate_error": "Permission denied (the port is privileged)"},
    {"name": "left out", "eastgate_error": "skipped: bind_to_port is false"},
]}  # fmt: skip
LEDGER: dict[str, Any] = {"stream": {}, "resources": [
    {"type": "CDS", "name": "good", "state": "ACKED", "accepted": {}, "rejected": None},
    {"type": "CDS", "name": "new", "state": "NACKED", "accepted": None, "rejected": {"reason": "lb_policy 9"}},
    {"type": "LDS", "name": "old", "state": "NACKED", "accepted": {}, "rejected": {"reason": "two chains"}},
]}  # fmt: skip
CONFIG = dumps.config_dump([dumps.cluster("c")], [dumps.assignment(name="c")])


def test_pages_belong_to_the_dump_beside_them() -> None:
    for order in ((LISTENERS, LEDGER, CONFIG), (CONFIG, LEDGER, LISTENERS), (LEDGER, CONFIG, LISTENERS)):
        (proxy,) = read_documents([("x", document) for document in order])
        assert proxy.silent_listeners == (
            SilentListener("taken", "[::]:80", "Permission denied (the port is privileged)"),
        )
        assert proxy.rejected == (
            RejectedResource("CDS", "new", "lb_policy 9", first=True),
            RejectedResource("LDS", "old", "two chains"),
        )


def test_a_rejection_that_dump_and_ledger_know_is_one() -> None:
    document = dumps.config_dump([], [])
    entry = {"cluster": dumps.cluster("new"), "error_state": {"details": "lb_policy 9"}}
    document["configs"].append({"dynamic_active_clusters": [entry]})
    (proxy,) = read_documents([("x", document), ("y", LEDGER)])
    assert [one.name for one in proxy.rejected] == ["new", "old"]


def test_doctor_finds_both() -> None:
    (proxy,) = read_documents([("x", CONFIG), ("x", LEDGER), ("x", LISTENERS)])
    said = {(one.rule, one.evidence): one.cause for one in examine([proxy])}
    assert ("listener-silent", "listener taken at [::]:80: Permission denied (the port is privileged)") in said
    assert "no earlier version" in said["rejected-resource", "CDS new: lb_policy 9"]
    assert "last good version" in said["rejected-resource", "LDS old: two chains"]


def test_what_envoy_never_accepted_is_found_in_its_own_dump() -> None:
    failed = {"name": "0.0.0.0_15443", "filter_chains": []}
    document = dumps.config_dump([dumps.cluster("c")], [dumps.assignment(name="c")])
    document["configs"].append({"dynamic_listeners": [
        {"name": "0.0.0.0_15443", "error_state": {"failed_configuration": failed, "details": "multiple filter chains"}}
    ]})  # fmt: skip
    document["configs"].append({"dynamic_warming_clusters": [
        {"error_state": {"failed_configuration": {"name": "bad"}, "details": "no such policy"}}
    ]})  # fmt: skip
    (proxy,) = read_documents([("x", document)])
    assert proxy.rejected == (
        RejectedResource("LDS", "0.0.0.0_15443", "multiple filter chains", first=True),
        RejectedResource("CDS", "bad", "no such policy", first=True),
    )
