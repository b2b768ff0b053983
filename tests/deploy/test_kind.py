"""The scripts of deploy/kind beside programs that only note what they were asked: which way a run goes.

Real kind runs them in tests/lab/kind; here is what it does not do on request.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .rendered import ROOT, check_schemas, objects_of

KIND = ROOT / "deploy/kind"
CLUSTERS = ("cluster1", "cluster2")
# Keeps what a cluster would: which there are, the rule, how many pods echo has.
FAKE = r"""#!/bin/bash
name=$(basename "$0")
printf '%s %s\n' "$name" "$*" >>"$NOTES/log"
case "$name $*" in
"kind get clusters") cat "$NOTES/clusters" 2>/dev/null ;;
"kind create cluster --name "*) echo "$4" >>"$NOTES/clusters" ;;
"kind delete cluster --name "*) sed -i "/^$4\$/d" "$NOTES/clusters" ;;
"docker inspect "*) echo 172.18.0.2 ;;
"docker image inspect "*) [ ! -e "$NOTES/no-image" ] ;;
"istioctl "*create-remote-secret*) echo "kind: Secret" ;;
"istioctl "*proxy-config*) echo "10.241.0.5:8080 HEALTHY OK" ;;
"istioctl "*install*) [ ! -e "$NOTES/no-istio" ] || { echo "the server is away" >&2; exit 1; } ;;
"kubectl kustomize "*)
    printf 'kind: %s\n---\n' Service HorizontalPodAutoscaler
    printf 'kind: Deployment\nimage: eastgate:0.0.0\n'
    ;;
"kubectl "*"apply -f -") cat >>"$NOTES/applied" ;;
"kubectl "*"apply -f "*) basename "${!#}" .yaml >"$NOTES/rule" ;;
"kubectl "*"delete destinationrule"*) rm -f "$NOTES/rule" ;;
"kubectl "*"scale deployment echo --replicas="*) last=${!#} && echo "${last#*=}" >"$NOTES/replicas" ;;
"kubectl "*" /programs/client.py "*--times)
    echo >>"$NOTES/timed"
    set -- ${*##*echo-svc}
    printf 'cluster2 %s\np50_ms 2.5\np99_ms 9.25\n' "$2"
    ;;
"kubectl "*" /programs/usage.py "*)
    cat >/dev/null
    [ ! -e "$NOTES/no-usage" ] || exit 1
    unit=4000000 && [ "$(cat "$EASTGATE_KIND_STATE/proxy")" = envoy ] || unit=2000000
    echo "$(($(cat "$NOTES/timed" 2>/dev/null | wc -l) * unit)) $((unit * 16))"
    ;;
"kubectl "*" /programs/client.py "*)
    count=${!#} rule=$(cat "$NOTES/rule" 2>/dev/null) replicas=$(cat "$NOTES/replicas" 2>/dev/null)
    case $rule in failover) percent=100 ;; distribute) percent=80 ;; *) percent=50 ;; esac
    [ "$replicas" != 0 ] || percent=0
    [ ! -e "$NOTES/biased" ] || percent=30
    [ "$percent" = 0 ] || echo "cluster1 $((count * percent / 100))"
    [ "$percent" = 100 ] || echo "cluster2 $((count - count * percent / 100))"
    ;;
esac
"""


class Run:
    """A folder of programs that take notes, and the scripts with it on their path."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        for name in ("kind", "kubectl", "istioctl", "docker"):
            (programs / name).write_text(FAKE)
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "NOTES": str(self.notes),
            "EASTGATE_KIND_STATE": str(folder / "state"),
        }

    def __call__(self, script: str, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        run = subprocess.run(
            [KIND / script, *words], env={**self.environment, **more}, capture_output=True, text=True, check=False
        )
        assert run.returncode == code, run.stdout + run.stderr
        return run

    def complaint(self, script: str, *words: str, **more: str) -> str:
        run = self(script, *words, code=2, **more)
        assert run.stdout == ""
        [sentence] = run.stderr.splitlines()
        return sentence

    @property
    def state(self) -> Path:
        return Path(self.environment["EASTGATE_KIND_STATE"])

    @property
    def log(self) -> list[str]:
        return (self.notes / "log").read_text().splitlines()

    def said(self, part: str) -> list[str]:
        return [line for line in self.log if part in line]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: keys take their time."""
    first = Run(tmp_path_factory.mktemp("first"))
    first("up")
    return first.state / "certificates"


@pytest.fixture
def quick(run: Run, certificates: Path) -> Run:
    shutil.copytree(certificates, run.state / "certificates")
    return run


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("up", ("--proxy", "nginx"), "up: --proxy 'nginx': expected eastgate, envoy or mixed"),
        ("up", ("--proxy",), "up: --proxy '': expected eastgate, envoy or mixed"),
        ("up", ("--sidecars", "none"), "up: --sidecars 'none': expected envoy or eastgate"),
        ("up", ("now",), "up: unknown word now: expected --proxy eastgate|envoy|mixed, --sidecars envoy|eastgate"),
        ("story", ("--connections", "many"), "story: --connections 'many': expected a number above 0"),
        ("story", ("--connections", "0"), "story: --connections '0': expected a number above 0"),
        ("story", ("up",), "story: unknown word up: expected --connections N"),
        ("compare", ("--connections", "0"), "compare: --connections '0': expected a number above 0"),
        ("compare", ("up",), "compare: unknown word up: expected --connections N"),
        ("down", ("cluster1",), "down: unknown word cluster1: down takes none"),
    ],
)
def test_wrong_words_are_one_line(run, script, words, sentence):
    assert run.complaint(script, *words) == sentence
    assert not (run.notes / "log").exists()


def test_every_program_that_is_missing_has_a_line_that_says_where_it_comes_from(run, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("bash", "env", "dirname", "basename", "sed", "cat"):
        (bare / name).symlink_to(shutil.which(name) or "")
    lines = run("up", code=2, PATH=str(bare)).stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["kind", "kubectl", "istioctl", "openssl"]
    assert all(line.startswith("up: ") and " is missing" in line for line in lines)


def test_an_engine_that_is_missing_or_silent_is_one_line(run, tmp_path):
    assert run.complaint("down", EASTGATE_KIND_ENGINE="false") == (
        "down: false does not answer: is its service running, and may you use it?"
    )
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("bash", "env", "dirname", "basename", "sed"):
        (bare / name).symlink_to(shutil.which(name) or "")
    (bare / "kind").symlink_to(tmp_path / "bin/kind")
    assert run.complaint("down", PATH=str(bare)) == (
        "down: neither docker nor podman is installed: kind's nodes are their containers"
    )


@pytest.mark.parametrize("script", ["story", "compare"])
def test_what_needs_clusters_says_who_makes_them(run, script):
    assert run.complaint(script) == f"{script}: there is no cluster cluster1: {KIND}/up"


def test_a_second_up_creates_nothing_and_a_second_down_does_nothing(quick):
    quick("up")
    assert len(quick.said("kind create cluster")) == 2
    before = (quick.state / "certificates/root.pem").read_bytes()
    quick("up")
    assert len(quick.said("kind create cluster")) == 2
    assert (quick.state / "certificates/root.pem").read_bytes() == before
    quick("down")
    quick("down")
    assert len(quick.said("kind delete cluster")) == 2
    assert not quick.state.exists()


@pytest.mark.parametrize(
    ("proxy", "envoys"), [("eastgate", ()), ("envoy", CLUSTERS), ("mixed", ("cluster2",))], ids=lambda value: str(value)
)
def test_each_cluster_gets_the_gateway_that_was_asked_for(quick, proxy, envoys):
    quick("up", "--proxy", proxy)
    for cluster in CLUSTERS:
        deleted = quick.said(f"kind-{cluster} -n gateway delete deployment ")
        gone = "istio-eastwestgateway" if cluster in envoys else "istio-eastwestgateway-envoy"
        assert [line.split("deployment ")[1].split()[0] for line in deleted] == [gone]
        # A node loads what it runs.
        loaded = quick.said(f"load docker-image eastgate:{version()} --name {cluster}")
        assert bool(loaded) == (cluster not in envoys)
    applied = (quick.notes / "applied").read_text()
    assert applied.count("value: network") == len(envoys)
    assert "THIS_" not in applied


def test_nothing_comes_for_a_moment_that_is_deleted_again(quick):
    """An autoscaler, or beside a gateway of Envoy eastgate's Deployment, whose pod would drain for a while."""
    quick("up", "--proxy", "mixed")
    applied = [
        [one["kind"] for one in yaml.safe_load_all((quick.state / f"{cluster}-gateway.yaml").read_text())]
        for cluster in CLUSTERS
    ]
    assert applied == [["Service", "Deployment"], ["Service"]]
    assert f"image: eastgate:{version()}" in (quick.state / "cluster1-gateway.yaml").read_text()


def version() -> str:
    return yaml.safe_load((ROOT / "deploy/helm/eastgate-gateway/Chart.yaml").read_text())["version"]


def test_sidecars_of_eastgate_are_an_annotation_and_an_image(quick):
    quick("up", "--sidecars", "eastgate")
    applied = (quick.notes / "applied").read_text()
    # Two workloads in each of two clusters.
    assert applied.count(f"sidecar.istio.io/proxyImage: eastgate/proxyv2:{version()}") == 4
    assert applied.count("binaryPath: /usr/local/bin/eastgate-envoy") == 4
    assert len(quick.said(f"load docker-image eastgate/proxyv2:{version()}")) == 2


def test_without_a_registry_archives_are_loaded_instead(quick, tmp_path):
    archive = tmp_path / "all.tar"
    archive.touch()
    quick("up", EASTGATE_KIND_ARCHIVES=str(archive), EASTGATE_KIND_ISTIO_FLAGS="--set hub=localhost/lab")
    assert len(quick.said(f"load image-archive {archive}")) == 2
    assert quick.said("load docker-image") == []
    assert all("--set hub=localhost/lab" in line for line in quick.said(" install -y"))


def test_an_image_that_was_not_made_is_one_line_that_says_how(quick):
    (quick.notes / "no-image").touch()
    [line] = quick("up", code=2).stderr.splitlines()
    assert line.startswith(f"up: no image eastgate:{version()} in docker: make docker-image")


def test_what_a_program_said_is_shown_when_it_fails(quick):
    (quick.notes / "no-istio").touch()
    assert quick("up", code=2).stderr.splitlines() == [
        "the server is away",
        "up: istioctl install in cluster1: failed; its last lines are above",
    ]


def test_clusters_know_each_others_endpoints_and_gateways(quick):
    quick("up")
    for cluster in CLUSTERS:
        assert quick.said(
            f"--context kind-{cluster} create-remote-secret --name {cluster} --server https://172.18.0.2:6443"
        )
    [first], [second] = ([line for line in quick.said("patch service") if f"kind-{each}" in line] for each in CLUSTERS)
    assert '"ip": "172.18.200.1"' in first
    assert '"ip": "172.18.200.2"' in second


def test_story_is_told_in_stages_with_a_table_and_leaves_no_rule(quick):
    quick("up", "--proxy", "mixed")
    told = quick("story", "--connections", "100").stdout.splitlines()
    table = told[told.index("== cluster1 answers, expected and seen; gateways are mixed") + 1 :]
    assert [line.split()[-3:] for line in table] == [
        ["50.0%", "50.0%", "ok"],
        ["100.0%", "100.0%", "ok"],
        ["0.0%", "0.0%", "ok"],
        ["100.0%", "100.0%", "ok"],
        ["80.0%", "80.0%", "ok"],
    ]
    assert sum("HEALTHY OK" in line for line in told) == 5
    assert not (quick.notes / "rule").exists()
    assert (quick.notes / "replicas").read_text() == "2\n"


def without_waiting(quick: Run, script: str, *words: str, wait: str, none: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script in which nobody waits for what programs that take notes do not do."""
    copy = quick.notes.parent / "deploy/kind"
    shutil.copytree(KIND, copy)
    shutil.copy(ROOT / "pyproject.toml", quick.notes.parent)
    text = (copy / script).read_text()
    assert wait in text
    (copy / script).write_text(text.replace(wait, none))
    return subprocess.run([copy / script, *words], env=quick.environment, capture_output=True, text=True, check=False)


def test_a_stage_that_is_not_as_expected_fails_and_rules_are_taken_back(quick):
    quick("up")
    (quick.notes / "biased").touch()
    run = without_waiting(quick, "story", wait="end=$((SECONDS + 60))", none="end=$SECONDS")
    assert run.returncode == 1
    assert sum(line.endswith("WRONG") for line in run.stdout.splitlines()) == 5
    assert not (quick.notes / "rule").exists()


def test_compare_puts_both_proxies_into_one_table(quick):
    quick("up")
    run = without_waiting(quick, "compare", "--connections", "100", wait="READ_AGAIN_S=30", none="READ_AGAIN_S=0")
    assert run.returncode == 0, run.stderr
    told = run.stdout.splitlines()
    table = told[told.index("== 100 connections each, one after the other") + 1 :]
    assert [line.split()[-3:] for line in table] == [
        ["envoy", "eastgate", "ratio"],
        ["50.0", "50.0", "1.00"],
        ["0", "0", "-"],
        ["2.50", "2.50", "1.00"],
        ["9.25", "9.25", "1.00"],
        *3 * [["40", "20", "0.50"], ["61.0", "30.5", "0.50"]],
    ]
    assert (quick.notes / "replicas").read_text() == "2\n"


def test_a_kubelet_that_says_nothing_is_one_line_and_pods_come_back(quick):
    quick("up")
    (quick.notes / "no-usage").touch()
    run = without_waiting(quick, "compare", "--connections", "100", wait="READ_AGAIN_S=30", none="READ_AGAIN_S=0")
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == "compare: cluster1: the kubelet does not say what sleep- of demo takes"
    assert (quick.notes / "replicas").read_text() == "2\n"


def test_what_is_taken_while_nobody_connects_is_no_cost_of_connections(tmp_path):
    """10 s of waiting took 0.2 s of CPU, then 20 s with 1,000 connections 1.4 s: 1 ms for each."""
    folder = tmp_path / "envoy"
    folder.mkdir()
    for name, clock, used in (("quiet", 5, 10_000), ("before", 15, 10_200), ("after", 35, 11_600)):
        (folder / name).write_text(f"clock {clock}\ngateway 1 1\nclient {used * 1_000_000} 7\n")
    script = 'eval "$(sed -n "/^cpu() {/,/^}/p" "$0")"; connections=1000 figures=$1; cpu envoy client'
    run = subprocess.run(
        ["bash", "-ec", script, KIND / "compare", tmp_path], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) == pytest.approx(1000)


def summary(*containers: tuple[str, str, str, int, int]) -> str:
    """A kubelet's answer: namespace, pod, container, nanoseconds, bytes."""
    return json.dumps(
        {
            "pods": [
                {
                    "podRef": {"namespace": namespace, "name": pod},
                    "containers": [
                        {"name": name, "cpu": {"usageCoreNanoSeconds": cpu}, "memory": {"workingSetBytes": memory}}
                    ],
                }
                for namespace, pod, name, cpu, memory in containers
            ]
        }
    )


@pytest.mark.parametrize(
    ("container", "said", "code"), [("istio-proxy", "30 3\n", 0), ("*", "130 13\n", 0), ("nobody", "", 1)]
)
def test_usage_is_summed_over_the_containers_that_were_meant(container, said, code):
    answer = summary(
        ("demo", "echo-a", "istio-proxy", 10, 1),
        ("demo", "echo-b", "istio-proxy", 20, 2),
        ("demo", "echo-b", "echo", 100, 10),
        ("demo", "sleep-a", "istio-proxy", 1000, 1000),
        ("other", "echo-a", "istio-proxy", 1000, 1000),
    )
    words = [sys.executable, KIND / "manifests/usage.py", "demo", "echo-", container]
    run = subprocess.run(words, input=answer, capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == (said, code)
    assert "Traceback" not in run.stderr


def test_manifests_are_valid_once_names_are_filled_in():
    for path in sorted((KIND / "manifests").glob("*.yaml")):
        objects = objects_of(path.read_text().replace("ANNOTATIONS", "{}"))
        assert objects, path
        check_schemas(objects, "1.34")


def test_only_the_settings_differ_on_a_machine_without_a_registry():
    """Every variable from outside is read there."""
    for path in (KIND / name for name in ("up", "down", "story", "library.sh")):
        read = [line for line in path.read_text().splitlines() if "${EASTGATE_KIND_" in line]
        assert read == [], path
    assert os.access(KIND / "up", os.X_OK)
