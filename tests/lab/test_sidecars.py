"""A pod's annotation chooses its sidecar, in the place that it stands for and in no other."""

import json

import pytest

from lab import objects
from lab.images import IMAGES
from lab.settings import GKE, Proxies
from lab.sidecars import BINARY, CONFIG, annotations


def chosen(proxies: Proxies) -> dict[str, str]:
    """Deployment -> its annotation."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["annotations"].get(CONFIG, "")
        for one in objects.apps(GKE, proxies)
        if one["kind"] == "Deployment"
    }


@pytest.mark.parametrize(("place", "deployment"), [("client", "sleep"), ("server", "echoserver")])
def test_one_place_chooses_its_pods(place: str, deployment: str) -> None:
    stock = chosen(Proxies("stock", "stock"))
    assert stock == {"sleep": "", "echoserver": ""}
    other = chosen(Proxies(**{"client": "stock", "server": "stock", place: "eastgate"}))
    assert {name for name in other if other[name] != stock[name]} == {deployment}
    assert json.loads(other[deployment]) == {"binaryPath": BINARY}


def test_stock_is_the_absence_of_a_choice() -> None:
    """So that removing the annotation is the way back."""
    assert annotations("stock") == {}


def test_a_choice_goes_along_with_other_settings() -> None:
    (text,) = annotations("eastgate", holdApplicationUntilProxyStarts=True).values()
    assert json.loads(text) == {"binaryPath": BINARY, "holdApplicationUntilProxyStarts": True}
    (text,) = annotations("stock", holdApplicationUntilProxyStarts=True).values()
    assert json.loads(text) == {"holdApplicationUntilProxyStarts": True}


def test_the_image_of_sidecars_carries_both_proxies() -> None:
    (image,) = (one for one in IMAGES if one.name == "proxyv2")
    assert {"proxy", "python", "eastgate"} <= set(image.layers)
    assert image.entrypoint == ("/usr/local/bin/pilot-agent",)
