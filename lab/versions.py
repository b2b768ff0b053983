"""Versions of everything that the lab is made of, in one place. modules/*/go.mod repeat those of Go modules."""

KUBERNETES = "1.34.4"
COREDNS = "1.12.4"
# The one that Istio's module requires, so that both share what is downloaded and compiled.
HELM = "4.2.0"
# The one that Istio's module requires, too.
GRPC = "1.82.0"
# The module registry knows istio.io/istio by commits only: its tags have no leading v.
ISTIO_MODULE = "v0.0.0-20260827124520-eed52ebb66ad"
# What that commit calls itself: main before release 1.31.
ISTIO = "1.31.0"
# Kubernetes in kind (docs/kind.md): what kubeadm of this Kubernetes asks for by these tags.
KIND = "0.33.0"
ETCD = "3.6.5"
ETCD_TAG = "3.6.5-0"
PAUSE_TAG = "3.10.1"
CRI_TOOLS = "1.34.0"

# Debian packages whose programs run on this machine: program -> package.
HOST_PACKAGES = {
    "busybox": "busybox-static",
    "cc": "gcc",
    "containerd": "containerd",
    "curl": "curl",
    "dpkg-deb": "dpkg",
    "etcd": "etcd-server",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "nsenter": "util-linux",
    "runc": "runc",
    # For the tests of deploy/, as helm.
    "shellcheck": "shellcheck",
    "unshare": "util-linux",
}
CNI_PLUGINS = "/usr/lib/cni"
CNI_PACKAGE = "containernetworking-plugins"

# Debian packages of the layer below our images and below the stock proxy.
BASE_PACKAGES = ("base-files", "libc6", "libgcc-s1", "libssl3", "zlib1g")
TOOL_PACKAGES = (
    "bash", "coreutils", "curl", "findutils", "grep", "hostname", "iproute2", "iptables", "libpython3-stdlib", "mount",
    "procps", "python3-minimal", "sed",
)  # fmt: skip

# What kind needs beside: an engine, and a root file system for its node's image.
KIND_HOST_PACKAGES = {"docker": "docker.io", "dockerd": "docker.io", "jq": "jq", "mmdebstrap": "mmdebstrap"}
NODE_RELEASE = "bookworm"
NODE_PACKAGES = (
    "bash", "ca-certificates", "conntrack", "containerd", "containernetworking-plugins", "e2fsprogs", "ethtool",
    "iproute2", "iptables", "jq", "kmod", "libseccomp2", "mount", "nftables", "procps", "runc", "socat", "systemd",
    "util-linux",
)  # fmt: skip
KUBE_PROXY_PACKAGES = ("conntrack", "iptables", "kmod", "nftables")
