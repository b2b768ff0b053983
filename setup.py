"""Build the Cython modules of fastpath/ and xds/. Everything declarative stands in pyproject.toml.

Environment:
    EASTGATE_BUILD=release|debug|asan   release is the default; debug turns on bounds checks and assertions,
                                        asan is debug plus AddressSanitizer and UndefinedBehaviorSanitizer
    EASTGATE_ONLY=fastpath.engine,...   build these modules only (development)
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent
os.chdir(ROOT)
PACKAGES = ("proxy", "xds", "fastpath", "mesh", "insight")
NATIVE_PACKAGES = ("fastpath", "xds")
VARIANT = os.environ.get("EASTGATE_BUILD", "release")
VARIANT_FLAGS = {
    "release": (["-O3", "-DNDEBUG"], []),
    "debug": (["-O1", "-g", "-UNDEBUG"], []),
    "asan": (
        ["-O1", "-g", "-UNDEBUG", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
         "-fno-omit-frame-pointer"],
        ["-fsanitize=address,undefined"],
    ),
}


def fail(sentence: str) -> None:
    sys.exit(f"eastgate: {sentence}")


def link_tree() -> Path:
    """Make build/tree/eastgate/<package> links: Cython and mypy find modules by folder name, not by package-dir.

    See cython/cython#2452: without the tree a module's own .pxd is silently ignored.
    """
    tree = ROOT / "build" / "tree"
    (tree / "eastgate").mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        link = tree / "eastgate" / package
        target = Path("../../..") / package
        if link.is_symlink() and Path(os.readlink(link)) == target:
            continue
        if link.is_symlink() or link.exists():
            link.unlink()
        link.symlink_to(target)
    return tree


def require_toolchain() -> None:
    """Say in one sentence what is missing before a compiler says it in fifty."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        fail(f"no C compiler: {compiler!r} is not on PATH (Debian: apt-get install gcc libc6-dev)")
    headers = {
        "Python.h": "apt-get install python3-dev",
        "openssl/ssl.h": "apt-get install libssl-dev",
    }
    for header, remedy in headers.items():
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "probe.c"
            source.write_text(f"#include <{header}>\nint main(void) {{ return 0; }}\n")
            include = sysconfig.get_path("include")
            command = [compiler, f"-I{include}", "-fsyntax-only", *os.environ.get("CFLAGS", "").split(), str(source)]
            probe = subprocess.run(command, capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            fail(f"the C header <{header}> is missing or unusable (Debian: {remedy})")


def extensions() -> list[Extension]:
    if VARIANT not in VARIANT_FLAGS:
        fail(f"EASTGATE_BUILD={VARIANT} is unknown; use one of {', '.join(VARIANT_FLAGS)}")
    compile_flags, link_flags = VARIANT_FLAGS[VARIANT]
    only = {name for name in os.environ.get("EASTGATE_ONLY", "").split(",") if name}
    found = []
    for package in NATIVE_PACKAGES:
        for source in sorted(Path(package).glob("*.pyx")):
            if only and f"{package}.{source.stem}" not in only:
                continue
            found.append(
                Extension(
                    f"eastgate.{package}.{source.stem}",
                    [str(source)],
                    extra_compile_args=["-std=c11", "-ffp-contract=off", "-Wall", "-Wno-unused-function", *compile_flags],
                    extra_link_args=link_flags,
                )
            )
    return found


def cythonized() -> list[Extension]:
    from Cython.Build import cythonize
    from Cython.Compiler import Options

    Options.warning_errors = True
    tree = link_tree()
    checked = VARIANT != "release"
    return cythonize(
        extensions(),
        include_path=[str(tree)],
        build_dir=f"build/cython-{VARIANT}",
        force=None,
        compiler_directives={
            "language_level": 3,
            "binding": True,
            "boundscheck": checked,
            "wraparound": False,
            "initializedcheck": checked,
            "cdivision": True,
            "embedsignature": False,
        },
    )


needs_compiler = any(step in sys.argv for step in ("build_ext", "bdist_wheel", "build", "install", "develop", "editable_wheel"))
if needs_compiler:
    require_toolchain()
setup(ext_modules=cythonized())
