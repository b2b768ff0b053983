"""deploy/kind as people run it: `up`, `story` and `down` with real kind, for each kind of gateway and sidecar.

`make kind-test` runs it. One engine and one pair of clusters: each run of `up` changes what the one before has made.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.kind.engine import Engine
from lab.lab import obstacle
from lab.settings import ROOT, from_environment
from tests.lab.real.conftest import unavailable

STAGES = 5
# Rows of the comparison.
COMPARED = 10
# Of one test, in seconds: two clusters of kind are changed and asked in it.
pytestmark = pytest.mark.timeout(1800)
BLOCK = re.compile(r"^```sh kind\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Makes images from Docker Hub's; what is loaded here is made by the lab of the same layers.
NEEDS_A_REGISTRY = "make docker-image"
CONTEXTS = ("kind-cluster1", "kind-cluster2")


def kind(*words: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
    """Run `python -m lab.kind` and show what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.kind", *words],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    print(done.stdout, done.stderr, sep="", flush=True)
    return done


def deployed(script: str, *words: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
    return kind("run", str(ROOT / "deploy/kind" / script), *words, seconds=seconds)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of its own, ended with all that was made in it."""
    if reason := obstacle():
        unavailable(reason)
    one = Engine(from_environment())
    try:
        up = kind("up", seconds=3600)
        if up.returncode != 0:
            pytest.exit(f"kind: {up.stderr.strip()}", returncode=2)
        yield one
    finally:
        if not os.environ.get("EASTGATE_LAB_KEEP"):
            deployed("down")
            one.down()


def pods(engine: Engine) -> list[str]:
    """Identities of all pods of both clusters."""
    words = ("get", "pods", "-A", "-o", "jsonpath={.items[*].metadata.uid}")
    config = f"--kubeconfig={engine.folder / 'home/.cache/eastgate-kind/kubeconfig'}"
    return [uid for name in CONTEXTS for uid in engine.run("kubectl", config, "--context", name, *words).stdout.split()]


@pytest.mark.parametrize(
    ("proxy", "sidecars"),
    [("envoy", "envoy"), ("eastgate", "envoy"), ("mixed", "envoy"), ("eastgate", "eastgate"), ("mixed", "eastgate")],
)
def test_every_stage_is_as_expected(engine: Engine, proxy: str, sidecars: str) -> None:
    up = deployed("up", "--proxy", proxy, "--sidecars", sidecars)
    assert up.returncode == 0, up.stderr
    story = deployed("story")
    assert story.returncode == 0, story.stdout[-2000:]
    table = story.stdout.splitlines()[-STAGES:]
    assert [line.split()[-1] for line in table] == ["ok"] * STAGES
    assert f"gateways are {proxy}" in story.stdout


def test_up_again_makes_nothing_again(engine: Engine) -> None:
    """The same words a second time: the clusters are the same, and so is each pod."""
    before = pods(engine)
    up = deployed("up", "--proxy", "mixed", "--sidecars", "eastgate")
    assert up.returncode == 0, up.stderr
    assert "kind create cluster" not in up.stdout
    assert before
    assert sorted(pods(engine)) == sorted(before)


def test_compare_puts_both_proxies_into_one_table(engine: Engine) -> None:
    """Where the clusters are as the test before has left them; the page compares with more connections."""
    done = deployed("compare", "--connections", "200", seconds=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    table = {line[:48].strip(): line[48:].split() for line in done.stdout.splitlines()[-COMPARED:]}
    assert table["failed"][:2] == ["0", "0"]
    for name, figures in table.items():
        if name != "failed":
            assert len(figures) == 3, name
            assert all(float(figure) > 0 for figure in figures), (name, figures)


def test_the_page_is_true_word_by_word(engine: Engine) -> None:
    """Every block of docs/kind.md, in its order, stopping at the first line that fails; the clusters were there."""
    blocks = BLOCK.findall((ROOT / "docs/kind.md").read_text())
    assert len(blocks) >= 2
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith(NEEDS_A_REGISTRY)]
    # Everything is asked before it is taken down.
    lines.sort(key=lambda line: line.startswith("deploy/kind/down"))
    done = kind("run", "bash", "-exc", "\n".join(lines))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "outbound|80||echo-svc.demo.svc.cluster.local" in done.stdout


def test_nothing_is_left_after_down(engine: Engine) -> None:
    for _ in range(2):
        assert deployed("down").returncode == 0
    assert engine.docker("ps", "-aq").stdout == ""
    assert not (engine.folder / "home/.cache/eastgate-kind").exists()
