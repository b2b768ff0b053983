"""The Dockerfile: what its stages copy, and as whom its images run. `make docker-image` builds it."""

import re
import subprocess

import pytest

from .rendered import ROOT
from .tools import tool

DOCKERFILE = ROOT / "deploy/Dockerfile"


def stages() -> dict[str, list[str]]:
    """Name -> instructions, comments left out."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in DOCKERFILE.read_text().splitlines():
        if match := re.fullmatch(r"FROM \S+ AS (\S+)", line):
            name = match[1]
            found[name] = [line]
        elif name and line and not line.startswith("#"):
            found[name].append(line)
    return found


def sources() -> set[str]:
    """What setup.py makes packages of."""
    text = re.search(r"^FOLDERS = \((.*)\)$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert text
    return set(re.findall(r'"(\w+)"', text[1]))


@pytest.mark.parametrize("stage", ["debian-build", "istio-build"])
def test_a_build_copies_every_package_and_no_more(stage):
    copied = {line.split()[1] for line in stages()[stage] if line.startswith("COPY") and "/src/" in line.split()[2]}
    assert copied - {"LICENSE"} == sources()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in sources()} <= set(ignored)


@pytest.mark.parametrize("stage", ["gateway", "proxyv2"])
def test_images_run_as_a_number_that_is_not_root(stage):
    users = [line for line in stages()[stage] if line.startswith("USER")]
    # A number: runAsNonRoot cannot be checked against a name.
    assert users[-1] == "USER 1337:1337"


def test_compilers_stay_in_the_stages_that_compile():
    assert {name for name, lines in stages().items() if "RUN /tmp/install.sh compiler" in lines} == {
        "debian-build",
        "istio-build",
    }


def test_scripts_are_clean():
    files = [path for folder in ("deploy", "lab", "release") for path in (ROOT / folder).rglob("*") if path.is_file()]
    scripts = [path for path in files if is_script(path.read_bytes())]
    assert {ROOT / "deploy/image/install.sh", ROOT / "release/wheels.sh"} <= set(scripts)
    # What a script sources lies beside it.
    run = subprocess.run(
        [tool("shellcheck"), "-x", "-P", "SCRIPTDIR", *scripts], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


def is_script(content: bytes) -> bool:
    return re.match(rb"#!.*\b(ba)?sh\n", content) is not None
