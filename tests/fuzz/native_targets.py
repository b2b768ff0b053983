"""Build the targets in native/: C that Cython made of one module, and a function that checks what is promised of it."""

import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent / "native"
ROOT = HERE.parents[2]
# Target: the folder of its module. The C lies in build/cython-<variant>/<folder>.
TARGETS = {
    "client_hello": "fastpath/match",
    "proxy_protocol": "fastpath/match",
    "endpoint_reader": "xds",
}
SANITIZERS = "address,undefined"
COMMON = ("-std=gnu11", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", "-w")


class BuildError(Exception):
    """The compiler's own words."""


def generated(target: str) -> Path:
    """The C of a target's module, of the variant that was built last."""
    found = list((ROOT / "build").glob(f"cython-*/{TARGETS[target]}/{target}.c"))
    if not found:
        raise BuildError(f"{target}.c is not there: make dev first")
    return max(found, key=lambda path: path.stat().st_mtime)


def linked_with_python() -> list[str]:
    """Flags for the library that the unused rest of the module refers to."""
    folder = sysconfig.get_config_var("LIBDIR")
    version = sysconfig.get_config_var("LDVERSION")
    return [f"-L{folder}", f"-lpython{version}", f"-Wl,-rpath,{folder}", "-lm", "-ldl", "-lpthread"]


def build(
    target: str,
    output: Path,
    compiler: str,
    flags: Sequence[str],
    sources: Sequence[Path] = (),
    *,
    generated_from: Path | None = None,
) -> None:
    """Compile a target, unless it is newer than all that it is made of. Raises BuildError.

    ``sources``: C beside the target's own. ``generated_from``: in place of what Cython made.
    """
    source = generated_from or generated(target)
    parts = [source, HERE / "target.h", HERE / f"{target}_target.c", *sources]
    if output.exists() and output.stat().st_mtime > max(part.stat().st_mtime for part in parts):
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(compiler, *COMMON, *flags),
        *(f"-I{source.parent}", f"-I{HERE}", f"-I{sysconfig.get_path('include')}"),
        *(str(HERE / f"{target}_target.c"), *map(str, sources), "-o", str(output), *linked_with_python()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{target}: {done.stderr[-3000:]}")
