"""The image of kind's nodes, made as kind's own `images/base` is, of Debian's packages and of Go modules.

What differs from it: images are named `localhost/kind/...`, so that no registry is asked; the network is containerd's
ptp plugin, since kindnet is no Go module; settings of the whole machine are kept from kubelet (`guard.sh`).
"""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

from .. import versions
from ..build import KIND_TARGETS, MODULES, TARGETS
from ..errors import LabError
from ..images import Image, make_image
from ..layers import LAB, all_layers, digest, made, programs_layer, put
from ..settings import Settings
from ..shell import program, run, say, wait_for
from .engine import HERE, Engine

HUB = "localhost/kind"
NODE_IMAGE = f"{HUB}/node:v{versions.KUBERNETES}"
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale")
# Units of a whole machine, and settings of it, which a node has no business with.
UNWANTED_UNITS = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
    "usr/lib/sysctl.d/*.conf",
)
DOCKERFILE = f"""FROM {NODE_IMAGE}-root
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/kind/bin/guard.sh", "/usr/local/bin/entrypoint", "/sbin/init"]
"""


def key() -> str:
    """Changes with what the node's image is made of: programs, packages, files, and how it is put together."""
    files = [*sorted((HERE / "node").iterdir()), LAB / "pause.c", Path(__file__)]
    tags = (versions.COREDNS, versions.ETCD_TAG, versions.PAUSE_TAG)
    built = (target.stamp for target in (*TARGETS, *KIND_TARGETS))
    words = (*tags, *built, *versions.NODE_PACKAGES, *versions.KUBE_PROXY_PACKAGES, *map(digest, files))
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def debian(target: Path, packages: tuple[str, ...], variant: str) -> Path:
    """A root file system of these packages, as a tar file. It stays until the list of packages changes."""
    stamp = target.with_suffix(".key")
    content = f"{versions.NODE_RELEASE} {variant} {packages}"
    if not (target.exists() and stamp.exists() and stamp.read_text() == content):
        say(f"   Debian {versions.NODE_RELEASE}: {len(packages)} packages")
        scratch = target.with_name(f"{target.name}.tar")
        left_out = [f"--dpkgopt=path-exclude=/{name}/*" for name in UNWANTED]
        words = (f"--variant={variant}", "--skip=output/dev", f"--include={','.join(packages)}", *left_out)
        run(program("mmdebstrap"), "--quiet", *words, versions.NODE_RELEASE, scratch, timeout_s=900)
        scratch.replace(target)
        stamp.write_text(content)
    return target


def images(settings: Settings, work: Path) -> list[Path]:
    """Archives of the control plane's images, by the names that kubeadm asks for."""
    binaries, known = settings.binaries, all_layers(settings)
    layers = {name: made(settings, known[name]) for name in ("coredns", "pause")}
    layers["debian"] = debian(work / "kube-proxy.layer", versions.KUBE_PROXY_PACKAGES, "essential")
    for name in (*CONTROL_PLANE, "etcd", "kube-proxy"):
        programs = programs_layer(f"kind-{name}", {f"usr/local/bin/{name}": binaries / name})
        layers[name] = made(settings, programs)
    kubernetes = f"v{versions.KUBERNETES}"
    wanted = (
        *(Image(name, (name,), (f"/usr/local/bin/{name}",), tag=kubernetes, hub=HUB) for name in CONTROL_PLANE),
        Image("kube-proxy", ("debian", "kube-proxy"), ("/usr/local/bin/kube-proxy",), tag=kubernetes, hub=HUB),
        Image("etcd", ("etcd",), ("/usr/local/bin/etcd",), tag=versions.ETCD_TAG, hub=HUB),
        Image("coredns", ("coredns",), ("/coredns",), tag=f"v{versions.COREDNS}", hub=HUB),
        Image("pause", ("pause",), ("/pause",), tag=versions.PAUSE_TAG, hub=HUB),
    )
    folder = work / "archives"
    folder.mkdir(exist_ok=True)
    return [make_image(folder, image, [layers[name] for name in image.layers]) for image in wanted]


def kind_source() -> Path:
    """The folder of kind's own source in Go's cache: its base image's files."""
    words = ("list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind")
    folder = Path(run(program("go", Path("/usr/local/go/bin")), *words, cwd=MODULES / "kind").stdout.strip())
    if not (folder / "images/base/files").is_dir():
        raise LabError(f"kind's source has no images/base/files in {folder}")
    return folder


def fill(settings: Settings, root: Path, work: Path) -> None:
    """The node's file system, without images."""
    base = debian(work / "node.layer", versions.NODE_PACKAGES, "minbase")
    run("tar", "-x", "-C", root, "-f", base, timeout_s=300)
    run("cp", "-r", "--no-preserve=mode,ownership", f"{kind_source()}/images/base/files/.", f"{root}/")
    for folder in ("usr/local/bin", "kind/bin"):
        for file in (root / folder).iterdir():
            file.chmod(0o755)
    for pattern in UNWANTED_UNITS:
        for path in root.glob(pattern):
            path.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as journal:
        journal.write("ReadKMsg=no\n")
    link(root / "sbin/init", "/usr/lib/systemd/systemd")
    run("chroot", root, "systemctl", "enable", "kubelet.service", "containerd.service", "undo-mount-hacks.service")
    run("chroot", root, "systemctl", "mask", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount")
    for name in ("etc/kubernetes/manifests", "opt/cni", "kind/manifests", "etc/cni/net.d"):
        (root / name).mkdir(parents=True, exist_ok=True)
    # Debian has them in other places than kind.
    for name in ("containerd", "ctr", "containerd-shim-runc-v2"):
        link(root / "usr/local/bin" / name, f"/usr/bin/{name}")
    link(root / "opt/cni/bin", versions.CNI_PLUGINS)
    for name in ("kubelet", "kubectl", "kubeadm"):
        put(root / "usr/bin" / name, settings.binaries / name, 0o755)
    put(root / "usr/local/bin/crictl", settings.binaries / "crictl", 0o755)
    put(root / "kind/bin/guard.sh", HERE / "node/guard.sh", 0o755)
    put(root / "kind/version", f"v{versions.KUBERNETES}\n")
    put(root / "etc/containerd/cri-base.json", json.dumps(base_spec()))
    put(root / "etc/containerd/cni.template", HERE / "node/cni.template")
    put(root / "kind/manifests/default-storage.yaml", HERE / "node/default-storage.yaml")
    config = root / "etc/containerd/config.toml"
    config.write_text(containerd_config(config.read_text()))


def link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def base_spec() -> dict[str, object]:
    """What kind makes containers from: containerd's default, with kind's hook and without limits."""
    spec = json.loads(run(program("ctr"), "oci", "spec").stdout)
    hook = {"path": "/kind/bin/mount-product-files.sh"}
    spec.setdefault("hooks", {}).setdefault("createContainer", []).append(hook)
    spec["process"].pop("rlimits", None)
    return dict(spec)


def containerd_config(text: str) -> str:
    """kind's, with our names and network. A lower oom_score_adj than the node's own would need CAP_SYS_RESOURCE."""
    pause = f'sandbox_image = "{HUB}/pause:{versions.PAUSE_TAG}"'
    text, replaced = re.subn(r"sandbox_image = .*", pause, text)
    if not replaced:
        raise LabError("kind's configuration of containerd names no sandbox_image: is it another version of kind?")
    text = text.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
    return (
        f"{text}\n# Without a network plugin that is a pod: containerd writes the node's own configuration when kubelet"
        '\n# names its range.\n[plugins."io.containerd.grpc.v1.cri".cni]\n'
        '  conf_template = "/etc/containerd/cni.template"\n'
    )


def unpack_images(root: Path, archives: list[Path], scratch: Path) -> None:
    """The images, unpacked in the node's containerd by one that runs on this machine."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    config, socket = scratch / "config.toml", scratch / "socket"
    config.write_text(
        f'version = 2\nroot = "{root}/var/lib/containerd"\nstate = "{scratch}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\n  address = "{socket}"\n'
    )
    with (scratch / "log").open("wb") as log:
        server = subprocess.Popen([program("containerd"), "--config", config], stdout=log, stderr=log)
    try:
        wait_for("containerd of the node's image", socket.is_socket, seconds=30)
        words = (program("ctr"), "-a", socket, "-n", "k8s.io", "images", "import", "--all-platforms")
        for archive in archives:
            run(*words, "--snapshotter", "overlayfs", archive, timeout_s=300)
    finally:
        server.terminate()
        server.wait(30)
    shutil.rmtree(scratch)


def make_node_image(settings: Settings, engine: Engine) -> None:
    """Have the node's image in the engine."""
    stamp = engine.folder / "node-image.key"
    known = engine.docker("image", "inspect", NODE_IMAGE, check=False).returncode == 0
    if known and stamp.exists() and stamp.read_text() == key():
        return
    say("== the image of kind's nodes")
    work = engine.folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    archives = images(settings, work)
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    fill(settings, root, work)
    unpack_images(root, archives, work / "preload")
    # `docker import` cannot set the stop signal.
    pack = 'tar -c --xattrs --xattrs-include="*" --numeric-owner -C "$1" . | docker import - "$2"'
    engine.run("sh", "-c", pack, "sh", root, f"{NODE_IMAGE}-root", timeout_s=600)
    engine.docker("build", "--quiet", "--tag", NODE_IMAGE, "-", input=DOCKERFILE)
    engine.docker("rmi", "--no-prune", f"{NODE_IMAGE}-root")
    shutil.rmtree(root)
    stamp.write_text(key())
