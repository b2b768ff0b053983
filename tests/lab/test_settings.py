"""Places and folders of the lab come from variables; a wrong word is one sentence."""

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.settings import ANTHOS, GKE, other, read_settings


def test_every_gateway_is_eastgate_unless_told() -> None:
    settings = read_settings({"EASTGATE_LAB_CACHE": "/cache"})
    assert settings.gateways == {"gke": "eastgate", "anthos": "eastgate"}
    assert settings.state == Path("/cache/state")
    assert settings.folder(GKE) == Path("/cache/state/gke")


def test_one_word_makes_a_mixed_mesh() -> None:
    mixed = read_settings({"EASTGATE_LAB_GATEWAY_ANTHOS": "stock"})
    assert mixed.gateways == {"gke": "eastgate", "anthos": "stock"}
    turned = read_settings({"EASTGATE_LAB_GATEWAYS": "stock", "EASTGATE_LAB_GATEWAY_ANTHOS": "eastgate"})
    assert turned.gateways == {"gke": "stock", "anthos": "eastgate"}


@pytest.mark.parametrize("variable", ["EASTGATE_LAB_GATEWAYS", "EASTGATE_LAB_GATEWAY_GKE"])
def test_an_unknown_word_names_its_variable(variable: str) -> None:
    with pytest.raises(LabError, match=f"{variable}=envoy: expected .* or"):
        read_settings({variable: "envoy"})


def test_addresses_of_a_cluster_follow_from_its_ranges() -> None:
    assert (GKE.api_ip, GKE.dns_ip, GKE.api_url) == ("10.28.0.1", "10.28.0.10", "https://192.168.120.1:6443")
    assert other(GKE) is ANTHOS
    assert other(ANTHOS) is GKE
