"""Coverage-guided fuzzing of what reads strangers' and istiod's bytes. `make fuzz`.

    python -m tests.fuzz.run [--seconds 30] [--jobs 2] [--install] [--prepare] [--keep] [TARGET...]

Native parsers run in libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer, without an interpreter; where
Python is in between, atheris runs what was built with the same counters. New inputs gather in build/fuzz, so that each
run goes on where the last one ended; --keep merges them into tests/fuzz/corpus. What breaks a promise lies in
build/fuzz/broken: put it into tests/fuzz/corpus/TARGET with the fix.
"""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import inputs, native_targets, python_targets

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "fuzz"
BROKEN = BUILT / "broken"
TARGETS = (*native_targets.TARGETS, *python_targets.TARGETS)
CLANGS = ("clang", *(f"clang-{version}" for version in range(21, 12, -1)))
MODULES = "fastpath.match.facts,fastpath.match.http_head,xds.assignment,xds.endpoint_reader,xds.wire,xds.wire_values"
LONGEST = 16384
# Longer ones are nearly all recordings, which are seeds anyway.
KEPT_BYTES = 2048
BUILD_S = 1200
ENVIRONMENT = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}


# Without sanitizers for the sake of numbers: the page that ends behind the input, the protected stack and checked
# copies still see what goes too far. Each input brings relatives, and each is parsed whole and at a prefix.
FAST = ("-O3", "-fsanitize=fuzzer", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2")
RELATIVES = 31
EXECUTIONS_PER_RUN = 2 * (1 + RELATIVES)
LEG_RUNS = 2_000_000


class ObstacleError(Exception):
    """One line: why nothing can be fuzzed here."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one target did. ``features``: libFuzzer's count of what it has seen, edges and how often."""

    target: str
    executions: int
    edges: int
    features: int
    inputs: int
    failure: str


def clang() -> str:
    """The newest clang that is here and can link the fuzzer; empty when there is none."""
    for name in CLANGS:
        if shutil.which(name):
            asked = subprocess.run(
                [name, "-fsanitize=fuzzer", "-x", "c", "-", "-o", os.devnull],
                input="int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return !d && n; }",
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.returncode == 0:
                return name
    return ""


def prepare_tools(*, install: bool) -> str:
    """The compiler. Raises ObstacleError with what to install, or installs it when told to."""
    if not clang() and install:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ("apt-get", "-qq", "-y", "--no-install-recommends", "install", "clang-14", "libclang-rt-14-dev")
        for words in (command, ("apt-get", "-qq", "update"), command):
            print(f"== {' '.join(words)}", flush=True)
            if (
                subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
                and clang()
            ):
                break
    if not clang():
        raise ObstacleError(
            "fuzzing needs clang and its runtimes (Debian: apt-get install clang-14 libclang-rt-14-dev)"
        )
    if importlib.util.find_spec("atheris") is None:
        raise ObstacleError("fuzzing needs atheris: make fuzz installs it into .venv")
    return clang()


def build_modules(compiler: str) -> None:
    """The readers of xds/ with the fuzzer's counters, and the Python beside them, in build/fuzz/lib."""
    command = [
        *(sys.executable, "setup.py", "--quiet", "build"),
        *("--build-lib", str(BUILT / "lib"), "--build-temp", str(BUILT / "temp")),
    ]
    environment = {**os.environ, "CC": compiler, "EASTGATE_BUILD": "fuzz", "EASTGATE_ONLY": MODULES}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_S
    )
    if done.returncode != 0:
        raise ObstacleError(f"the modules do not build with {compiler}: {(done.stderr or done.stdout)[-2000:]}")


def build(targets: Sequence[str], compiler: str) -> None:
    flags = ("-O2", f"-fsanitize=fuzzer,{native_targets.SANITIZERS}")
    for target in targets:
        if target in native_targets.TARGETS:
            native_targets.build(target, BUILT / target, compiler, flags)
    guided = [target for target in targets if target in python_targets.TARGETS]
    if guided:
        build_modules(compiler)
    for target in guided:
        write_program(target)


def write_program(target: str) -> None:
    """Make a Python target a program: to merge, libFuzzer starts itself again, and so does who looks at a find."""
    spec = importlib.util.find_spec("atheris")
    assert spec is not None
    assert spec.origin is not None
    environment = {
        "LD_PRELOAD": str(Path(spec.origin).parents[1] / "asan_with_fuzzer.so"),
        # CPython leaks on purpose when it ends; its own allocator would hide what is written past an object.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(BUILT / "lib"),
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    words += [sys.executable, "-m", "tests.fuzz.guided", target]
    program = BUILT / target
    program.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec env {shlex.join(words)} "$@"\n')
    program.chmod(0o755)


def folder(name: str, target: str) -> Path:
    found = BUILT / name / target
    found.mkdir(parents=True, exist_ok=True)
    return found


def lay_out(target: str) -> list[str]:
    """Folders of inputs: where new ones go, what is kept, seeds."""
    for name, some in (("kept", inputs.kept(target)), ("seeds", dict(enumerate(inputs.seeds(target))))):
        shutil.rmtree(folder(name, target))
        for number, data in some.items():
            (folder(name, target) / f"{number}").write_bytes(data)
    return [str(folder(name, target)) for name in ("found", "kept", "seeds")]


def fuzz(target: str, seconds: int) -> Run:
    """Run a target for a while. Its words go to build/fuzz/TARGET.log."""
    options = [
        *(
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            "-print_final_stats=1",
            "-timeout=20",
            "-rss_limit_mb=4096",
        ),
        f"-artifact_prefix={BROKEN}/{target}-",
    ]
    log = BUILT / f"{target}.log"
    with log.open("w") as written:
        words = [BUILT / target, *options, *lay_out(target)]
        done = subprocess.run(words, env=ENVIRONMENT, stdout=written, stderr=written, check=False)
    said = log.read_text(errors="replace")
    numbers = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said) or [(0, 0, 0)]
    executed = re.findall(r"number_of_executed_units: (\d+)", said) or [0]
    failure = "" if done.returncode == 0 else "\n".join(said.splitlines()[-60:])
    edges, features, kept = map(int, numbers[-1])
    return Run(target, int(executed[-1]), edges, features, kept, failure)


def merge(target: str) -> Path:
    """Keep the fewest inputs that see all that is seen, small ones first."""
    merged = folder("merged", target)
    shutil.rmtree(merged)
    merged.mkdir()
    words = [BUILT / target, "-merge=1", f"-max_len={KEPT_BYTES}", str(merged), *lay_out(target)[:2]]
    subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=True)
    named = {path.read_bytes() for path in (inputs.CORPUS / target).glob("*")}
    return inputs.keep(target, {path.read_bytes() for path in merged.iterdir()} - named)


def execute(executions: int, compiler: str) -> int:
    """Parse that many hellos, in legs that gather their inputs, at least; return how many it were, 0 after a fault."""
    program = BUILT / "client_hello-fast"
    native_targets.build("client_hello", program, compiler, (*FAST, f"-DRELATIVES={RELATIVES}"))
    done = 0
    while done < executions:
        runs = min(LEG_RUNS, -(-(executions - done) // EXECUTIONS_PER_RUN))
        words = [program, f"-runs={runs}", "-max_len=1024", f"-artifact_prefix={BROKEN}/client_hello-"]
        leg = subprocess.run([*words, *lay_out("client_hello")], capture_output=True, text=True, check=False)
        if leg.returncode != 0:
            print(leg.stderr[-4000:], file=sys.stderr)
            return 0
        done += runs * EXECUTIONS_PER_RUN
        print(f"{done:,} executions of the hello parser", flush=True)
    return done


def table(runs: Sequence[Run], seconds: int) -> str:
    lines = [
        f"| target, {seconds} s each | executions | edges | features | inputs |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {one.target} | {one.executions:,} | {one.edges} | {one.features} | {one.inputs} |" for one in runs]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all when none is named")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--executions", type=int, default=0, help="of the hello parser, fast, and nothing else")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets side by side")
    parser.add_argument("--install", action="store_true", help="install what is missing with apt-get")
    parser.add_argument("--prepare", action="store_true", help="install and build, run nothing")
    parser.add_argument("--keep", action="store_true", help="merge what was found into tests/fuzz/corpus")
    options = parser.parse_args()
    targets = options.targets or list(TARGETS)
    if unknown := ", ".join(set(targets) - set(TARGETS)):
        parser.error(f"no target of ours: {unknown}")
    try:
        compiler = prepare_tools(install=options.install)
        BROKEN.mkdir(parents=True, exist_ok=True)
        if options.executions:
            return 0 if execute(options.executions, compiler) else 1
        build(targets, compiler)
    except (ObstacleError, native_targets.BuildError) as error:
        print(f"eastgate: {error}", file=sys.stderr)
        return 2
    if options.prepare:
        return 0
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = list(pool.map(lambda target: fuzz(target, options.seconds), targets))
    print(table(runs, options.seconds))
    broken = [one for one in runs if one.failure]
    for one in broken:
        print(
            f"\n== {one.target} broke a promise; inputs lie in {BROKEN.relative_to(ROOT)}\n{one.failure}",
            file=sys.stderr,
        )
    if options.keep and not broken:
        for target in targets:
            print(f"kept: {merge(target).relative_to(ROOT)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
