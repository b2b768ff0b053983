"""Find the packages and build the Cython modules. Everything declarative stands in pyproject.toml.

Environment:
    EASTGATE_BUILD=release|debug|asan|tsan|fuzz  release is the default; debug turns on bounds checks and assertions,
                                        asan is debug plus AddressSanitizer and UndefinedBehaviorSanitizer,
                                        tsan is debug plus ThreadSanitizer, fuzz is debug plus AddressSanitizer
                                        and libFuzzer's counters (for clang)
    EASTGATE_ONLY=fastpath.reason,...   build these modules only (development)
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NoReturn

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
os.chdir(ROOT)
# Folders that are packages of eastgate; their rooms are found in them.
FOLDERS = ("commands", "trial", "proxy", "insight", "mesh", "fastpath", "xds")
VARIANT = os.environ.get("EASTGATE_BUILD", "release")
# Strangers' bytes are parsed here. glibc and compilers that lack level 3 take it for 2. Sanitizers do not intercept
# the functions that check, so their builds do without.
FORTIFIED = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"]
# CPython's own flags come first and hold -DNDEBUG.
VARIANT_FLAGS = {
    "release": (["-O3", "-DNDEBUG", *FORTIFIED], []),
    "debug": (["-O1", "-g", "-UNDEBUG", *FORTIFIED], []),
    "asan": (
        [
            "-O1",
            "-g",
            "-UNDEBUG",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined",
            "-fno-omit-frame-pointer",
        ],
        ["-fsanitize=address,undefined"],
    ),
    # GCC warns that it does not see fences; what they order is atomic itself.
    "tsan": (["-O1", "-g", "-UNDEBUG", "-fsanitize=thread", "-Wno-tsan"], ["-fsanitize=thread"]),
    "fuzz": (
        ["-O1", "-g", "-UNDEBUG", "-fsanitize=address,fuzzer-no-link", "-fno-omit-frame-pointer"],
        ["-fsanitize=address,fuzzer-no-link"],
    ),
}
# Contracted multiply-adds would make shares depend on the machine.
COMPILE_FLAGS = ["-std=c11", "-ffp-contract=off", "-fstack-protector-strong", "-Wall", "-Wno-unused-function"]
# Function pointers of other libraries are resolved at load and read-only from then on; no stack is executable.
LINK_FLAGS = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]
USES_OPENSSL = re.compile(r"^from eastgate\.fastpath\.tls\.openssl cimport", re.MULTILINE)
COMPILING_STEPS = {"build", "build_ext", "bdist_wheel", "develop", "editable_wheel", "install"}


def fail(sentence: str) -> NoReturn:
    sys.exit(f"eastgate: {sentence}")


def link_tree() -> Path:
    """Make build/tree/eastgate/<folder> links: Cython and mypy find modules by folder name, not by package-dir.

    See cython/cython#2452: without the tree a module's own .pxd is silently ignored.
    """
    tree = ROOT / "build" / "tree"
    (tree / "eastgate").mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        link = tree / "eastgate" / folder
        target = Path("../../..") / folder
        if link.is_symlink() and link.readlink() == target:
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return tree


def packages() -> list[str]:
    """Full names of all packages: the folders, and what lies below them."""
    found = [init.parent for folder in FOLDERS for init in sorted(Path(folder).rglob("__init__.py"))]
    return [".".join(("eastgate", *path.parts)) for path in found]


def require_toolchain() -> None:
    """Say in one sentence what is missing before a compiler says it in fifty."""
    said = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    try:
        compiler, flags = shlex.split(said), shlex.split(os.environ.get("CFLAGS", ""))
    except ValueError as error:
        fail(f"CC or CFLAGS is no command line: {error}")
    # All of it is run: the first word may start what comes behind it, as in "ccache cc".
    if not compiler or shutil.which(compiler[0]) is None:
        fail(f"no C compiler: {(compiler or [said])[0]!r} is not on PATH (Debian: apt-get install gcc libc6-dev)")
    headers = {
        "stdio.h": "apt-get install libc6-dev",
        "Python.h": "apt-get install python3-dev",
        "openssl/ssl.h": "apt-get install libssl-dev",
    }
    includes = [f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")]
    for header, remedy in headers.items():
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "probe.c"
            source.write_text(f"#include <{header}>\n")
            command = [*compiler, *includes, "-fsyntax-only", *flags, str(source)]
            probe = subprocess.run(command, capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            fail(f"the C header <{header}> is missing or unusable (Debian: {remedy})")


def extensions() -> list[Extension]:
    compile_flags, link_flags = VARIANT_FLAGS[VARIANT]
    sources = [source for folder in FOLDERS for source in sorted(Path(folder).rglob("*.pyx"))]
    names = {str(source.with_suffix("")).replace("/", "."): source for source in sources}
    only = [name for name in os.environ.get("EASTGATE_ONLY", "").split(",") if name]
    if unknown := ", ".join(name for name in only if name not in names):
        fail(f"EASTGATE_ONLY names no module of ours: {unknown}")
    return [
        Extension(
            f"eastgate.{name}",
            [str(names[name])],
            # Other flags make another library of the same source.
            depends=["setup.py"],
            extra_compile_args=[*COMPILE_FLAGS, *compile_flags],
            extra_link_args=[*LINK_FLAGS, *link_flags],
            libraries=["ssl", "crypto"] if USES_OPENSSL.search(names[name].read_text()) else [],
        )
        for name in only or names
    ]


class BuildExtensions(build_ext):
    """Link as Python's own build says, but for its search path: a library of ours needs none, and one that a later user
    can write to would be looked into before the system's."""

    def build_extensions(self) -> None:
        command = self.compiler.linker_so
        self.compiler.set_executables(linker_so=[word for word in command if not word.startswith("-Wl,-rpath")])
        super().build_extensions()


def cythonized() -> list[Extension]:
    from Cython.Build import cythonize
    from Cython.Compiler import Options

    Options.warning_errors = True
    tree = link_tree()
    checked = VARIANT != "release"
    modules: list[Extension] = cythonize(
        extensions(),
        include_path=[str(tree)],
        build_dir=f"build/cython-{VARIANT}",
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
    return modules


if VARIANT not in VARIANT_FLAGS:
    fail(f"EASTGATE_BUILD={VARIANT} is unknown; use one of {', '.join(VARIANT_FLAGS)}")
# Metadata and sdist need neither a compiler nor generated C.
is_compiling = not COMPILING_STEPS.isdisjoint(sys.argv)
if is_compiling:
    require_toolchain()
setup(
    packages=packages(),
    package_dir={f"eastgate.{folder}": folder for folder in FOLDERS},
    ext_modules=cythonized() if is_compiling else extensions(),
    cmdclass={"build_ext": BuildExtensions},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
