"""The article's story in every mixture of eastgate and stock proxies, both ways, on one bring-up.

`make lab-test` tells it with eastgate in every place; EASTGATE_LAB_MATRIX=1 (`make lab-matrix`) tells all mixtures, and
the stages after the story in each.
"""

import os
from collections.abc import Iterator, Mapping

import pytest

from lab.lab import Lab
from lab.settings import CLUSTERS, Cluster, Proxies

from .mesh import Mesh
from .story import stages, told

WHOLE = bool(os.environ.get("EASTGATE_LAB_MATRIX"))
STOCK = Proxies("stock", "stock", "stock")
EASTGATE = Proxies("eastgate", "eastgate", "eastgate")


def everywhere(proxies: Proxies) -> dict[str, Proxies]:
    return dict.fromkeys(CLUSTERS, proxies)


ALL_EASTGATE = "all eastgate"
MIXTURES: Mapping[str, Mapping[str, Proxies]] = {
    ALL_EASTGATE: everywhere(EASTGATE),
    "eastgate sidecars, stock gateways": everywhere(Proxies("eastgate", "eastgate", "stock")),
    "clients alone eastgate": everywhere(Proxies("eastgate", "stock", "stock")),
    "servers alone eastgate": everywhere(Proxies("stock", "eastgate", "stock")),
    "gke eastgate, anthos stock": {"gke": EASTGATE, "anthos": STOCK},
    "gke stock, anthos eastgate": {"gke": STOCK, "anthos": EASTGATE},
    "gateways alone eastgate": everywhere(Proxies("stock", "stock", "eastgate")),
    "all stock": everywhere(STOCK),
}
TOLD = MIXTURES if WHOLE else [ALL_EASTGATE]


@pytest.fixture(scope="module")
def placed(lab: Lab, _mesh: Mesh) -> Iterator[Lab]:
    """The lab, whose proxies this module changes; as it was at the end."""
    _mesh.shows_endpoints = WHOLE
    yield lab
    _mesh.shows_endpoints = False
    lab.place(lab.settings.proxies)


@pytest.mark.parametrize("client", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("mixture", TOLD)
def test_story_of_a_mixture(placed: Lab, mesh: Mesh, mixture: str, client: Cluster) -> None:
    proxies = MIXTURES[mixture]
    placed.place(proxies)
    told(mesh, client, f"{mixture}: ", proxies[client.name])
    if WHOLE:
        stages(mesh, client, f"{mixture}: ")
