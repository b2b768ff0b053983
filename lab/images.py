"""Images without Docker and without a registry: docker archives that `ctr images import` and `docker load` read."""

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .layers import all_layers, digest, made, owned
from .settings import HUB, TAG, Settings
from .shell import say

# What the OCI specification calls them.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MESH_USER = "1337:1337"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = ("PYTHONPATH=/opt/eastgate", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1")


@dataclass(frozen=True, slots=True)
class Image:
    """``user`` is numeric: runAsNonRoot cannot be checked against a name."""

    name: str
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...]
    user: str = ""
    environment: tuple[str, ...] = ()
    hub: str = HUB
    tag: str = TAG

    @property
    def reference(self) -> str:
        return f"{self.hub}/{self.name}:{self.tag}".removeprefix("/")


IMAGES = (
    Image("pause", ("pause",), ("/pause",)),
    Image("coredns", ("coredns",), ("/coredns",)),
    Image("pilot", ("pilot",), ("/usr/local/bin/pilot-discovery",), MESH_USER),
    Image("app", ("base", "tools", "app"), ("/usr/bin/python3",)),
    # Carries both proxies: Envoy at its own path, eastgate beside it.
    Image(
        "proxyv2", ("base", "tools", "proxy", "python", "eastgate"), ("/usr/local/bin/pilot-agent",), MESH_USER, PYTHON
    ),
    Image("eastgate", ("base", "python", "eastgate"), ("/usr/local/bin/eastgate",), MESH_USER, PYTHON),
)


def config(image: Image, layer_digests: list[str]) -> bytes:
    """The image's configuration, as the OCI image specification has it."""
    content = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Env": [PATH, *image.environment],
            "Entrypoint": list(image.entrypoint),
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one}" for one in layer_digests]},
    }
    return json.dumps(content, sort_keys=True).encode()


def write_archive(target: Path, image: Image, layers: list[Path]) -> None:
    """Write the docker archive of these layers, as a whole or not at all."""
    content = config(image, [digest(layer) for layer in layers])
    name = f"{hashlib.sha256(content).hexdigest()}.json"
    members = [f"{layer}/layer.tar" for layer in image.layers]
    manifest = json.dumps([{"Config": name, "RepoTags": [image.reference], "Layers": members}]).encode()
    scratch = target.with_suffix(".part")
    with tarfile.open(scratch, "w") as archive:
        for path, data in ((name, content), ("manifest.json", manifest)):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member, layer in zip(members, layers, strict=True):
            archive.add(layer, member, filter=owned)
    scratch.replace(target)


def archive_of(settings: Settings, image: Image) -> Path:
    return settings.images / f"{image.name}.tar"


def make_images(settings: Settings) -> None:
    """Have an archive of every image in the cache."""
    layers = all_layers(settings)
    for image in IMAGES:
        make_image(settings.images, image, [made(settings, layers[name]) for name in image.layers])


def make_image(folder: Path, image: Image, tars: list[Path]) -> Path:
    """Have this image's archive in the folder; return it."""
    target = folder / f"{image.name}.tar"
    if not target.exists() or any(target.stat().st_mtime_ns < tar.stat().st_mtime_ns for tar in tars):
        write_archive(target, image, tars)
        say(f"   image {image.name}: {target.stat().st_size / 2**20:.0f} MiB")
    return target
