"""What runs on a node: command lines and configuration files. Pure: nothing here starts or writes anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .images import IMAGES
from .node import CONTAINERD
from .settings import Cluster
from .versions import CNI_PLUGINS

Find = Callable[[str], str]
PAUSE = next(image.reference for image in IMAGES if image.name == "pause")
# These are started first, and what follows waits for the API server.
FIRST = ("etcd", "containerd", "kube-apiserver")
USERS = ("admin", "node", "scheduler", "proxy")
# kubelet writes these settings of the whole machine when they are different. It gets files of its own in their places.
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


def kubeconfig(folder: Path, cluster: Cluster, user: str) -> str:
    pki = folder / "pki"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [
            {"name": "lab", "cluster": {"server": cluster.api_url, "certificate-authority": str(pki / "ca.crt")}}
        ],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "users": [
            {
                "name": user,
                "user": {"client-certificate": str(pki / f"{user}.crt"), "client-key": str(pki / f"{user}.key")},
            }
        ],
    }
    return str(yaml.safe_dump(content))


def containerd_config(folder: Path) -> str:
    # restrict_oom_score_adj: root without CAP_SYS_RESOURCE may not lower it, and runc would fail for every pod.
    return f"""version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
                    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
                    "io.containerd.internal.v1.opt"]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def cni_config(cluster: Cluster) -> str:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": cluster.pod_cidr}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "lab", "plugins": [bridge, portmap]}, indent=1)


def kubelet_config(folder: Path, cluster: Cluster, cgroup: str) -> str:
    content: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": cluster.node_ip,
        "cgroupDriver": "cgroupfs",
        # Two kubelets below one root would delete each other's pods.
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "resolvConf": "",
        "volumePluginDir": f"{folder}/volume-plugins",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": f"{folder}/pki/ca.crt"},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [cluster.dns_ip],
        "clusterDomain": "cluster.local",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "nodeStatusUpdateFrequency": "5s",
        # How soon a changed ConfigMap is seen by the pods that mount it.
        "syncFrequency": "2s",
    }
    return str(yaml.safe_dump(content))


def node_labels(cluster: Cluster) -> dict[str, str]:
    labels = {
        "topology.kubernetes.io/region": cluster.region,
        "topology.kubernetes.io/zone": cluster.zone,
        "topology.istio.io/network": cluster.network,
    }
    return {key: value for key, value in labels.items() if value}


def files(folder: Path, cluster: Cluster, cgroup: str) -> dict[Path, str]:
    """Path -> content of everything that the services read."""
    return {
        folder / "containerd.toml": containerd_config(folder),
        folder / "cni/10-lab.conflist": cni_config(cluster),
        folder / "kubelet.yaml": kubelet_config(folder, cluster, cgroup),
        **{folder / f"{user}.kubeconfig": kubeconfig(folder, cluster, user) for user in USERS},
    }


def commands(folder: Path, cluster: Cluster, find: Find) -> dict[str, list[str]]:
    """Service -> command line, in the order of their start."""
    pki, certificates = folder / "pki", f"--cert-dir={folder}/run"
    config = {user: f"--kubeconfig={folder}/{user}.kubeconfig" for user in USERS}
    labels = ",".join(f"{key}={value}" for key, value in node_labels(cluster).items())
    return {
        "etcd": [
            find("etcd"),
            f"--data-dir={folder}/etcd",
            "--log-level=warn",
            "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
        ],
        "containerd": [find("containerd"), f"--config={folder}/containerd.toml"],
        "kube-apiserver": [
            find("kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379",
            f"--bind-address={cluster.node_ip}",
            f"--advertise-address={cluster.node_ip}",
            "--secure-port=6443",
            f"--service-cluster-ip-range={cluster.service_cidr}",
            certificates,
            f"--tls-cert-file={pki}/server.crt",
            f"--tls-private-key-file={pki}/server.key",
            f"--client-ca-file={pki}/ca.crt",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki}/sa.key",
            f"--service-account-signing-key-file={pki}/sa.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
        ],
        "kube-controller-manager": [
            find("kube-controller-manager"),
            config["admin"],
            "--leader-elect=false",
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/sa.key",
            f"--flex-volume-plugin-dir={folder}/volume-plugins",
            certificates,
            "--bind-address=127.0.0.1",
        ],
        "kube-scheduler": [
            find("kube-scheduler"),
            config["scheduler"],
            "--leader-elect=false",
            certificates,
            "--bind-address=127.0.0.1",
        ],
        "kubelet": [
            find("kubelet"),
            f"--config={folder}/kubelet.yaml",
            config["node"],
            f"--root-dir={folder}/kubelet",
            certificates,
            f"--hostname-override={cluster.node}",
            f"--node-ip={cluster.node_ip}",
            f"--node-labels={labels}",
        ],
        "kube-proxy": [
            find("kube-proxy"),
            config["proxy"],
            "--proxy-mode=iptables",
            f"--cluster-cidr={cluster.pod_cidr}",
            f"--hostname-override={cluster.node}",
            # Not writable in a network namespace.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
            "--iptables-min-sync-period=100ms",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
        ],
    }
