"""Places and folders of the lab come from variables; a wrong word is one sentence."""

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.settings import ANTHOS, GKE, PLACES, Proxies, other, read_settings


def test_gateways_are_eastgate_and_sidecars_stock_unless_told() -> None:
    settings = read_settings({"EASTGATE_LAB_CACHE": "/cache"})
    assert settings.proxies == dict.fromkeys(("gke", "anthos"), Proxies("stock", "stock", "eastgate"))
    assert settings.state == Path("/cache/state")
    assert settings.folder(GKE) == Path("/cache/state/gke")


@pytest.mark.parametrize("place", PLACES)
def test_one_word_makes_one_place_different(place: str) -> None:
    usual = read_settings({}).proxies["gke"]
    turned = "eastgate" if getattr(usual, place) == "stock" else "stock"
    mixed = read_settings({f"EASTGATE_LAB_{place.upper()}_ANTHOS": turned}).proxies
    assert mixed["gke"] == usual
    assert {one for one in PLACES if getattr(mixed["anthos"], one) != getattr(usual, one)} == {place}
    both = read_settings({f"EASTGATE_LAB_{place.upper()}S": turned}).proxies
    assert both == dict.fromkeys(("gke", "anthos"), mixed["anthos"])


def test_the_narrower_word_wins() -> None:
    words = {
        "EASTGATE_LAB_SIDECARS": "eastgate",
        "EASTGATE_LAB_SERVERS": "stock",
        "EASTGATE_LAB_SERVER_GKE": "eastgate",
    }
    proxies = read_settings(words).proxies
    assert proxies["gke"] == Proxies("eastgate", "eastgate", "eastgate")
    assert proxies["anthos"] == Proxies("eastgate", "stock", "eastgate")
    # Not a word about gateways.
    assert read_settings({"EASTGATE_LAB_SIDECARS": "eastgate", "EASTGATE_LAB_GATEWAYS": "stock"}).proxies == (
        dict.fromkeys(("gke", "anthos"), Proxies("eastgate", "eastgate", "stock"))
    )


def test_an_empty_word_says_nothing() -> None:
    assert (
        read_settings({"EASTGATE_LAB_GATEWAYS": "", "EASTGATE_LAB_CLIENT_GKE": ""}).proxies == read_settings({}).proxies
    )


@pytest.mark.parametrize(
    "variable",
    ["EASTGATE_LAB_GATEWAYS", "EASTGATE_LAB_GATEWAY_GKE", "EASTGATE_LAB_SIDECARS", "EASTGATE_LAB_CLIENT_ANTHOS"],
)
def test_an_unknown_word_names_its_variable(variable: str) -> None:
    with pytest.raises(LabError, match=f"{variable}=envoy: expected eastgate or stock"):
        read_settings({variable: "envoy"})


def test_an_unknown_word_is_refused_where_another_wins() -> None:
    with pytest.raises(LabError, match="EASTGATE_LAB_SIDECARS=envoy"):
        read_settings(
            {"EASTGATE_LAB_SIDECARS": "envoy", "EASTGATE_LAB_CLIENTS": "stock", "EASTGATE_LAB_SERVERS": "stock"}
        )


@pytest.mark.parametrize("variable", ["EASTGATE_LAB_CLIENT", "EASTGATE_LAB_SIDECAR_GKE", "EASTGATE_LAB_SERVER_AWS"])
def test_a_place_that_there_is_not_is_named(variable: str) -> None:
    with pytest.raises(LabError, match=f"{variable}: there is no such place.*EASTGATE_LAB_CLIENT_ANTHOS"):
        read_settings({variable: "stock"})


def test_addresses_of_a_cluster_follow_from_its_ranges() -> None:
    assert (GKE.api_ip, GKE.dns_ip, GKE.api_url) == ("10.28.0.1", "10.28.0.10", "https://192.168.120.1:6443")
    assert other(GKE) is ANTHOS
    assert other(ANTHOS) is GKE
