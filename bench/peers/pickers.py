"""Weighted pickers of other projects, as programs that time themselves; and ours beside them.

    python -m bench.peers.pickers       build what can be built here, name the rest

They are asked for the same: one of so many endpoints by weights from 1 to 100.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.columns import Columns

from tests.columns import columns
from tests.oracle.shares import Endpoint

from .proxy import first_line

ROOT = Path(__file__).parents[2]
BUILD_S = 900
Costs = dict[str, float]
"""ns a pick, by the name of the picker"""


class Pickers:
    """Pickers of one project."""

    name: ClassVar[str] = ""

    @classmethod
    def absent(cls) -> str:
        """Why they cannot be measured here; empty when they can."""
        return ""

    @classmethod
    def version(cls) -> str:
        raise NotImplementedError

    @classmethod
    def costs(cls, endpoints: int, picks: int) -> Costs:
        raise NotImplementedError


class OurPickers(Pickers):
    """The loop that workers have around a pick."""

    name = "eastgate"
    _tables: ClassVar[dict[tuple[str, int], ClusterTable]] = {}

    @classmethod
    def version(cls) -> str:
        return "eastgate"

    @classmethod
    def costs(cls, endpoints: int, picks: int) -> Costs:
        found = {}
        for title, policy in (("eastgate round robin", "ROUND_ROBIN"), ("eastgate least request", "LEAST_REQUEST")):
            table = cls._tables.get((policy, endpoints))
            if table is None:
                table = ClusterTable.compile(weighted(endpoints), policy=policy, seed=1)
                cls._tables[policy, endpoints] = table
            table.spin(picks // 10)
            begun = time.perf_counter_ns()
            table.spin(picks)
            found[title] = (time.perf_counter_ns() - begun) / picks
        return found


class BuiltPickers(Pickers):
    """Pickers of a program in another language."""

    tool: ClassVar[str] = ""

    @classmethod
    def binary(cls) -> Path:
        return ROOT / "build" / f"pickers-{cls.name}"

    @classmethod
    def absent(cls) -> str:
        if cls.binary().exists():
            return ""
        return "make bench-pickers" if shutil.which(cls.tool) else f"{cls.tool} is not installed"

    @classmethod
    def build(cls) -> None:
        raise NotImplementedError

    @classmethod
    def costs(cls, endpoints: int, picks: int) -> Costs:
        done = subprocess.run(
            [str(cls.binary()), str(endpoints), str(picks)], capture_output=True, text=True, timeout=120, check=True
        )
        costs: Costs = json.loads(done.stdout)
        return costs


class GrpcGoPickers(BuiltPickers):
    """gRPC-Go's EDF and its random picker."""

    name = "grpc-go"
    tool = "go"
    module: ClassVar[str] = "google.golang.org/grpc@v1.85.0"

    @classmethod
    def version(cls) -> str:
        return f"gRPC-Go {cls.module.rpartition('@v')[2]}{compiled_by('go', 'version')}"

    @classmethod
    def build(cls) -> None:
        place = ROOT / "build" / "grpc-go"
        shutil.rmtree(place, ignore_errors=True)
        (place / "wrr").mkdir(parents=True)
        listed = run("go", "mod", "download", "-json", cls.module, cwd=place)
        for file in Path(json.loads(listed)["Dir"], "internal", "wrr").glob("*.go"):
            if not file.name.endswith("_test.go"):
                (place / "wrr" / file.name).write_bytes(file.read_bytes())
        (place / "go.mod").write_text("module eastgate/bench\n\ngo 1.22\n")
        shutil.copy(Path(__file__).parent / "grpc_go" / "main.go", place)
        run("go", "build", "-o", str(cls.binary()), ".", cwd=place)


class RustPickers(BuiltPickers):
    """Pingora's Weighted table, and the alias method of rand_distr."""

    name = "rust"
    tool = "cargo"

    @classmethod
    def version(cls) -> str:
        return f"pingora-load-balancing 0.6.0, rand_distr 0.5.1{compiled_by('rustc', '--version')}"

    @classmethod
    def build(cls) -> None:
        target = ROOT / "build" / "rust"
        source = Path(__file__).parent / "rust"
        shutil.copytree(source, target / "source", dirs_exist_ok=True)
        run("cargo", "build", "--release", "--target-dir", str(target), cwd=target / "source")
        shutil.copy(target / "release" / "pickers", cls.binary())


BUILT: tuple[type[BuiltPickers], ...] = (GrpcGoPickers, RustPickers)
PICKERS: tuple[type[Pickers], ...] = (OurPickers, *BUILT)


def weighted(count: int) -> Columns:
    """One priority, one locality, the weights of all languages."""
    return columns(
        [
            Endpoint(
                f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}:80",
                priority=0,
                locality=("region", "zone", ""),
                weight=1 + (index * 2654435761 % 2**32 >> 16) % 100,
                eds_health=1,
            )
            for index in range(count)
        ],
        {},
    )


def compiled_by(*command: str) -> str:
    """What a compiler calls itself, behind a comma; nothing when only the program that it made is still here."""
    return f", {first_line(*command)}" if shutil.which(command[0]) else ""


def run(*command: str, cwd: Path) -> str:
    """One command to its end; what it printed. Raises CalledProcessError with what it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def main() -> None:
    for kind in BUILT:
        if kind.binary().exists():
            continue
        if not shutil.which(kind.tool):
            print(f"== {kind.name} pickers are not here ({kind.tool} is not installed)")
            continue
        print(f"== {kind.binary().relative_to(ROOT)}", flush=True)
        try:
            kind.build()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            print(f"== {kind.name} pickers are not here ({said[-1] if said else error})")


if __name__ == "__main__":
    sys.exit(main())
