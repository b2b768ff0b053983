"""Real kind on this machine; `make kind-*` calls it. Errors are one line on stderr and exit code 2."""

import os
import sys
from collections.abc import Callable

import yaml

from .. import versions
from ..build import KIND_TARGETS, build_all, install_packages
from ..command_line import run_command
from ..errors import LabError
from ..images import IMAGES, archive_of
from ..istio import PILOT_ENVIRONMENT, SMALL
from ..lab import Lab, obstacle
from ..settings import HUB, TAG, Settings, from_environment
from ..shell import say
from .engine import HERE, Engine
from .node_image import HUB as NODE_HUB
from .node_image import NODE_IMAGE, make_node_image

USAGE = """usage: python -m lab.kind COMMAND

  build                        programs and images into the cache, and the image of kind's nodes
  up                           that, and the engine
  run WORDS...                 a command in the engine's network, with what deploy/kind reads set for this machine
  down                         end containers and engine; images stay"""
# Images that the nodes are given: what deploy/kind would have pulled.
LOADED = ("pilot", "proxyv2", "app", "eastgate")


def istio_options() -> dict[str, object]:
    """What istioctl is told beside the words of deploy/kind: Istio's images are ours, around a stock Envoy."""
    values = {
        "pilot": {"env": PILOT_ENVIRONMENT, "autoscaleEnabled": False, "resources": SMALL},
        "global": {"proxy": {"resources": SMALL}},
    }
    return {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "spec": {
            "hub": HUB,
            "tag": TAG,
            "values": values,
            # A stock Envoy has no istio.stats.
            "meshConfig": {"defaultProviders": {"metrics": []}},
        },
    }


def settings_of_kind(settings: Settings, engine: Engine) -> dict[str, str]:
    """The variables of deploy/kind/settings.sh for this machine; the files that they name are written."""
    config, istio = engine.folder / "kind.yaml", engine.folder / "istio.yaml"
    text = (HERE / "kind.yaml").read_text()
    config.write_text(text.replace("REPOSITORY", NODE_HUB).replace("COREDNS_TAG", f"v{versions.COREDNS}"))
    istio.write_text(yaml.safe_dump(istio_options()))
    (engine.folder / "home").mkdir(exist_ok=True)
    images = {image.name: image for image in IMAGES}
    return {
        "EASTGATE_KIND_ENGINE": "docker",
        "EASTGATE_KIND_NODE_IMAGE": NODE_IMAGE,
        "EASTGATE_KIND_CONFIG": str(config),
        "EASTGATE_KIND_ARCHIVES": " ".join(str(archive_of(settings, images[name])) for name in LOADED),
        "EASTGATE_KIND_IMAGE": images["eastgate"].reference,
        "EASTGATE_KIND_SIDECAR_IMAGE": images["proxyv2"].reference,
        "EASTGATE_KIND_APP_IMAGE": images["app"].reference,
        "EASTGATE_KIND_ISTIO_FLAGS": f"-f {istio}",
        # Files of deploy/kind stand below it, where its documents say; nobody's own are touched.
        "HOME": str(engine.folder / "home"),
    }


def up(words: list[str]) -> None:
    if reason := obstacle():
        raise LabError(reason)
    settings = from_environment()
    lab, engine = Lab(settings), Engine(settings)
    with lab.alone():
        lab.build()
        install_packages(versions.KIND_HOST_PACKAGES)
        build_all(settings, KIND_TARGETS)
        engine.up()
        make_node_image(settings, engine)
    say("== the engine of kind runs: `make kind-test`, or `python -m lab.kind run deploy/kind/up`")


def build(words: list[str]) -> None:
    up(words)
    down(words)


def execute(words: list[str]) -> None:
    settings = from_environment()
    engine = Engine(settings)
    if not words:
        raise LabError("run: expected a command")
    command = engine.command(*words)
    os.execvpe(command[0], command, {**engine.environment(), **settings_of_kind(settings, engine)})


def down(words: list[str]) -> None:
    Engine(from_environment()).down()


COMMANDS: dict[str, Callable[[list[str]], None]] = {"build": build, "up": up, "run": execute, "down": down}


if __name__ == "__main__":
    sys.exit(run_command("lab.kind", USAGE, COMMANDS))
