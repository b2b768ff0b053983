"""The lab's command line; the Makefile's lab-* targets call it. Errors are one line on stderr and exit code 2."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

from . import images, layers
from .command_line import run_command
from .errors import LabError
from .lab import Lab
from .settings import CLUSTERS, from_environment
from .shell import say

USAGE = """usage: python -m lab COMMAND

  build                        everything into the cache
  up | down | status
  shell [CLUSTER]              a shell inside of a node: its network, mounts and processes; kubectl is set up
  kubectl CLUSTER WORDS...     kubectl on a cluster
  istioctl CLUSTER WORDS...    istioctl on a cluster
  churn [SECONDS [SERVICES [ENDPOINTS]]]
                               endpoints that change all the time, eastgate beside Envoy; 120 1000 20 unless told
  scale [GATEWAYS...]          what so many gateways cost one istiod; 10 100 1000 unless told
  image FILE                   the image of eastgate, as a docker archive"""


def lab() -> Lab:
    return Lab(from_environment())


def build(words: list[str]) -> None:
    one = lab()
    with one.alone():
        one.build()


def up(words: list[str]) -> None:
    one = lab()
    with one.alone():
        one.up()


def down(words: list[str]) -> None:
    one = lab()
    with one.alone():
        one.down()


def status(words: list[str]) -> None:
    for line in lab().status():
        say(line)


def shell(words: list[str]) -> None:
    one = lab()
    kubectl = one.kubectl[cluster_of(words[:1] or ["gke"])]
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubectl.config),
        "PATH": f"{one.settings.binaries}:{os.environ.get('PATH', '')}",
        "CONTAINERD_ADDRESS": "/run/containerd/containerd.sock",
        "CONTAINERD_NAMESPACE": "k8s.io",
        "PS1": f"[{kubectl.node.cluster.name}] \\w# ",
    }
    command = kubectl.node.inside(*(words[1:] or ["bash", "--norc"]))
    os.execvpe(command[0], command, environment)


def kubectl(words: list[str]) -> None:
    command = lab().kubectl[cluster_of(words)].argv(*words[1:])
    os.execvp(command[0], command)


def istioctl(words: list[str]) -> None:
    one = lab()
    kubectl = one.kubectl[cluster_of(words)]
    words = ["--net", str(one.settings.binaries / "istioctl"), *words[1:], f"--kubeconfig={kubectl.config}"]
    os.execvp("nsenter", ["nsenter", "-t", str(kubectl.node.pid), *words])


def churn(words: list[str]) -> None:
    numbers = [*words, *("120", "1000", "20")[len(words) :]]
    if len(numbers) != 3 or not all(word.isdecimal() and int(word) for word in numbers):
        raise LabError("churn: expected SECONDS SERVICES ENDPOINTS, each a number above 0")
    # Half a second of imports that only this command needs.
    from .churn import main as measure

    # Whoever tests the lab holds it meanwhile, and runs this.
    measure(lab(), *map(int, numbers))


def scale(words: list[str]) -> None:
    counts = words or ["10", "100", "1000"]
    if not all(word.isdecimal() and int(word) for word in counts):
        raise LabError("scale: expected GATEWAYS..., each a number above 0")
    from .scale import main as measure

    measure(lab(), [int(word) for word in counts])


def image(words: list[str]) -> None:
    settings = from_environment()
    if len(words) != 1:
        raise LabError("image: expected one FILE")
    one = next(one for one in images.IMAGES if one.name == "eastgate")
    one = replace(one, tag=distribution("eastgate").version, hub="")
    known = layers.eastgate_layers(settings)
    images.write_archive(Path(words[0]), one, [layers.made(settings, known[name]) for name in one.layers])


def cluster_of(words: list[str]) -> str:
    if not words or words[0] not in CLUSTERS:
        raise LabError(f"expected a cluster: {' or '.join(CLUSTERS)}")
    return words[0]


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "build": build, "up": up, "down": down, "status": status, "shell": shell, "kubectl": kubectl, "istioctl": istioctl,
    "churn": churn, "scale": scale, "image": image,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command("lab", USAGE, COMMANDS))
