"""Binaries from Go modules, and Debian packages that are missing. Done once; a stamp names the versions."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import versions
from .errors import LabError
from .settings import Settings
from .shell import SYSTEM_PATH, run, say

MODULES = Path(__file__).parent / "modules"
VERSION_PACKAGE = "k8s.io/component-base/version"
TELL_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """Programs of one Go module (Istio's and Kubernetes' dependencies disagree), built with the same flags."""

    module: str
    version: str
    packages: tuple[str, ...]
    ldflags: str = "-s -w"
    tags: str = ""
    # What says that it is built; another part of a module that is built already has another.
    part: str = ""

    @property
    def programs(self) -> tuple[str, ...]:
        return tuple(package.rsplit("/", 1)[-1] for package in self.packages)

    @property
    def stamp(self) -> str:
        """Changes with what is built: version, flags, and the source where there is some of ours."""
        sources = sorted((MODULES / self.module).glob("*.go"))
        ours = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest() if sources else ""
        return f"{self.module} {self.version} {self.ldflags} {self.tags}{ours}\n"


def kubernetes_flags(version: str) -> str:
    """Linker flags. Without them istiod cannot read the nodes' version, and does not use native sidecars."""
    major, minor, _ = version.split(".")
    values = {
        "gitVersion": f"v{version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "eastgate-lab",
    }
    return "-s -w " + " ".join(f"-X {VERSION_PACKAGE}.{key}={value}" for key, value in values.items())


TARGETS = (
    Target(
        "kube",
        versions.KUBERNETES,
        tuple(
            f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                "kubelet",
                "kubectl",
            )
        ),
        ldflags=kubernetes_flags(versions.KUBERNETES),
    ),
    Target("coredns", versions.COREDNS, ("eastgate.lab/coredns",)),
    # A client and a server for pods.
    Target("grpc", versions.GRPC, ("eastgate.lab/grpc",)),
    # The lab runs without it; what is rendered of deploy/helm is tested with it.
    Target("helm", versions.HELM, ("helm.sh/helm/v4/cmd/helm",)),
    Target(
        "istio",
        versions.ISTIO_MODULE,
        (
            "istio.io/istio/pilot/cmd/pilot-discovery",
            "istio.io/istio/pilot/cmd/pilot-agent",
            "istio.io/istio/istioctl/cmd/istioctl",
        ),
        ldflags=f"-s -w -X istio.io/istio/pkg/version.buildVersion={versions.ISTIO}",
        tags="vtprotobuf,disable_pgv",
    ),
)
# For `make kind-test`: kind itself, and what its node needs beside the programs above.
KIND_TARGETS = (
    Target("kind", versions.KIND, ("sigs.k8s.io/kind",)),
    Target("etcd", versions.ETCD, ("eastgate.lab/etcd",)),
    Target("crictl", versions.CRI_TOOLS, ("sigs.k8s.io/cri-tools/cmd/crictl",)),
    Target(
        "kube",
        versions.KUBERNETES,
        ("k8s.io/kubernetes/cmd/kubeadm",),
        ldflags=kubernetes_flags(versions.KUBERNETES),
        part="kubeadm",
    ),
)
BOOTSTRAP_TEMPLATE = "envoy_bootstrap.json"


def build_all(settings: Settings, targets: Sequence[Target] = TARGETS) -> None:
    """Have every binary of these in the cache. Raises LabError."""
    settings.binaries.mkdir(parents=True, exist_ok=True)
    for number, target in enumerate(targets, 1):
        stamp = settings.binaries / f".{target.part or target.module}"
        if stamp.exists() and stamp.read_text() == target.stamp and not absent(settings.binaries, target):
            continue
        build(settings.binaries, target, f"{number} of {len(targets)}")
        stamp.write_text(target.stamp)


def absent(folder: Path, target: Target) -> list[str]:
    wanted = [*target.programs, *([BOOTSTRAP_TEMPLATE] if target.module == "istio" else [])]
    return [name for name in wanted if not (folder / name).exists()]


def build(folder: Path, target: Target, which: str) -> None:
    """Build one module's programs; says every half minute that it still does."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise LabError("go is not installed: the lab builds Kubernetes and Istio from Go modules (Debian: golang-go)")
    say(f"== build {target.module} {target.version} ({which}): {', '.join(target.programs)}")
    module = MODULES / target.module
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}
    flags = ["-trimpath", "-p", str(os.cpu_count() or 1), "-ldflags", target.ldflags, "-tags", target.tags]
    log = folder / f"{target.module}.log"
    begin = time.monotonic()
    with log.open("wb") as output:
        building = subprocess.Popen(
            [go, "build", *flags, "-o", f"{folder}/", *target.packages],
            cwd=module,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while True:
            try:
                code = building.wait(TELL_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                say(f"   {target.module}: {time.monotonic() - begin:.0f} s")
    if code != 0:
        said = " | ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
        raise LabError(f"go build in lab/modules/{target.module}: exit code {code}: {said}")
    if target.module == "istio":
        source = run(go, "list", "-m", "-f", "{{.Dir}}", "istio.io/istio", cwd=module, env=environment).stdout.strip()
        shutil.copyfile(Path(source) / "tools/packaging/common" / BOOTSTRAP_TEMPLATE, folder / BOOTSTRAP_TEMPLATE)
    say(f"   {target.module}: built in {time.monotonic() - begin:.0f} s")


def missing_packages(programs: Mapping[str, str] = versions.HOST_PACKAGES) -> list[str]:
    """Debian packages of these programs that are not on this machine."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    wanted = {package for name, package in programs.items() if shutil.which(name, path=path) is None}
    if not Path(versions.CNI_PLUGINS, "bridge").exists():
        wanted.add(versions.CNI_PACKAGE)
    return sorted(wanted)


def apt_get(*arguments: str) -> None:
    """Run apt-get; with fresh lists of packages when it fails the first time. Raises LabError."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ("apt-get", "-qq", "-y", *arguments)
    if run(*command, check=False, env=environment, timeout_s=600).returncode != 0:
        run("apt-get", "-qq", "update", env=environment, timeout_s=300)
        run(*command, env=environment, timeout_s=600)


def install_packages(programs: Mapping[str, str] = versions.HOST_PACKAGES) -> None:
    """Install what is missing, without starting a service of it. Raises LabError when that is not possible."""
    wanted = missing_packages(programs)
    if not wanted:
        return
    sentence = f"these Debian packages are missing: {' '.join(wanted)}"
    if os.geteuid() != 0:
        raise LabError(f"{sentence}; install them, or run this as root")
    if shutil.which("apt-get") is None:
        raise LabError(f"{sentence}, and there is no apt-get")
    say(f"== apt-get install {' '.join(wanted)}")
    policy = Path("/usr/sbin/policy-rc.d")
    mine = not policy.exists()
    if mine:
        # Packages of servers start them; the lab starts its own.
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        apt_get("--no-install-recommends", "install", *wanted)
    finally:
        if mine:
            policy.unlink()
    if still := missing_packages(programs):
        raise LabError(f"installed, and still missing: {' '.join(still)}")
