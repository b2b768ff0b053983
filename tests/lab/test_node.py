"""A node is known by its first process, and by when that was started."""

import json
import os
from pathlib import Path

from lab.node import Node, cgroup_name, fence, start_time
from lab.services import commands, files, node_labels
from lab.settings import ANTHOS, GKE, read_settings


def test_process_is_told_from_a_later_one_with_its_id(tmp_path: Path) -> None:
    node = Node(read_settings({"EASTGATE_LAB_STATE": str(tmp_path)}), GKE)
    assert node.pid == 0
    node.folder.mkdir()
    mine = {"pid": os.getpid(), "started": start_time(os.getpid())}
    (node.folder / "node.pid").write_text(json.dumps(mine))
    assert node.pid == os.getpid()
    (node.folder / "node.pid").write_text(json.dumps({**mine, "started": "1"}))
    assert node.pid == 0


def test_end_of_a_node_that_is_gone_removes_its_files_only(tmp_path: Path) -> None:
    """Its process id may be somebody else's by now."""
    node = Node(read_settings({"EASTGATE_LAB_STATE": str(tmp_path)}), GKE)
    node.folder.mkdir()
    (node.folder / "node.pid").write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    (tmp_path / "anthos").mkdir()
    node.end()
    assert not node.folder.exists()
    assert (tmp_path / "anthos").exists()


def test_labs_with_different_states_share_no_cgroup(tmp_path: Path) -> None:
    one, two = (read_settings({"EASTGATE_LAB_STATE": str(tmp_path / name)}) for name in ("a", "b"))
    assert len({cgroup_name(settings, cluster) for settings in (one, two) for cluster in (GKE, ANTHOS)}) == 4


def test_pods_reach_the_gateway_and_the_api_server_of_the_other_cluster_only() -> None:
    rules = fence(ANTHOS)
    assert "ip daddr 172.16.10.152 tcp dport 15443 accept" in rules
    assert "ip daddr 192.168.120.2 tcp dport 6443 accept" in rules
    assert rules.rstrip(" }\n").endswith("drop")


def test_services_read_only_files_of_their_own_node(tmp_path: Path) -> None:
    argv = commands(tmp_path, ANTHOS, lambda name: f"/bin/{name}")
    assert list(argv)[:3] == ["etcd", "containerd", "kube-apiserver"]
    made = files(tmp_path, ANTHOS, "eastgate-anthos-1")
    assert all(path.is_relative_to(tmp_path) for path in made)
    assert "cgroupRoot: /eastgate-anthos-1" in made[tmp_path / "kubelet.yaml"]
    for words in argv.values():
        for word in words:
            if word.startswith(("--kubeconfig=", "--config=")):
                assert Path(word.partition("=")[2]) in made


def test_an_unknown_zone_is_no_label() -> None:
    assert "topology.kubernetes.io/zone" in node_labels(GKE)
    assert "topology.kubernetes.io/zone" not in node_labels(ANTHOS)
