"""istioctl shows of an eastgate sidecar what it shows of a stock one beside it, and istiod's view of it matches."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from lab.errors import LabError
from lab.istio import istioctl
from lab.settings import PROXIES
from lab.shell import wait_for

from .pairs import NAMESPACE, Pairs


def named(pairs: Pairs, proxy: str) -> str:
    (pod,) = pairs.pods(f"client-{proxy}")
    return f"{pod['metadata']['name']}.{NAMESPACE}"


def shown(pairs: Pairs, proxy: str, *words: str) -> str:
    """What istioctl says of the client beside that proxy, whose own name and address are replaced."""
    (pod,) = pairs.pods(f"client-{proxy}")
    text = istioctl(pairs.settings, pairs.kubectl, *words, named(pairs, proxy))
    for own, word in ((pod["metadata"]["name"], "POD"), (pod["status"]["podIP"], "IP"), (f"client-{proxy}", "CLIENT")):
        text = text.replace(own, word)
    return text


def rows(text: str) -> list[list[str]]:
    """Cells of a table, sorted: the order of equal keys is nobody's promise.

    Equal ones once: Envoy repeats inline routes for each earlier version of their listener that still drains.
    """
    return sorted(map(list, {tuple(line.split()) for line in text.splitlines() if line.strip()}))


def agreed(what: str, ask: Callable[[str], Any]) -> Any:
    """What istioctl says of both proxies, once it is the same; fails with the last difference.

    Between two questions istiod may push what earlier tests left to be deleted: both are asked again until they agree.
    """
    said: list[Any] = []

    def same() -> bool:
        said[:] = [ask(proxy) for proxy in PROXIES]
        return bool(said[0] == said[1])

    with contextlib.suppress(LabError):
        wait_for(f"istioctl agrees about {what}", same, seconds=60, every=1)
    ours, theirs = said
    assert ours == theirs
    return ours


@pytest.mark.parametrize("view", ["cluster", "listener", "route", "endpoint"])
def test_tables_of_proxy_config_are_equal(pairs: Pairs, view: str) -> None:
    # Of the bootstrap's own clusters eastgate lists no endpoints.
    own = {"agent", "prometheus_stats", "xds-grpc", "sds-grpc"} if view == "endpoint" else set()

    def ask(proxy: str) -> list[list[str]]:
        table = rows(shown(pairs, proxy, "proxy-config", view))
        if proxy == "stock":
            assert own <= {row[-1] for row in table}
        return [row for row in table if row[-1] not in own]

    assert len(agreed(view, ask)) > 3


def test_secrets_are_active_and_valid(pairs: Pairs) -> None:
    def ask(proxy: str) -> list[list[str]]:
        # Name, type, status, valid; then what each certificate has of its own.
        return [row[:5] for row in rows(shown(pairs, proxy, "proxy-config", "secret"))]

    assert any("default" in row and "true" in row for row in agreed("secrets", ask))


def test_bootstrap_is_what_pilot_agent_rendered(pairs: Pairs) -> None:
    ours, theirs = (json.loads(shown(pairs, proxy, "proxy-config", "bootstrap"))["bootstrap"] for proxy in PROXIES)
    assert set(ours) == set(theirs)
    assert set(ours["node"]["metadata"]) == set(theirs["node"]["metadata"])
    assert ours["node"]["id"] == theirs["node"]["id"]
    assert ours["staticResources"] == theirs["staticResources"]


def test_a_log_level_can_be_set_and_read(pairs: Pairs) -> None:
    pod = named(pairs, "eastgate")
    assert "warning" in istioctl(pairs.settings, pairs.kubectl, "proxy-config", "log", pod)
    try:
        assert "debug" in istioctl(pairs.settings, pairs.kubectl, "proxy-config", "log", pod, "--level", "debug")
    finally:
        istioctl(pairs.settings, pairs.kubectl, "proxy-config", "log", pod, "--level", "warning")


def test_all_of_it_at_once(pairs: Pairs) -> None:
    def kinds(proxy: str) -> set[str]:
        said = json.loads(shown(pairs, proxy, "proxy-config", "all", "-o", "json"))
        return {one["@type"] for one in said["configs"]}

    assert len(agreed("all of it", kinds)) > 3


@pytest.mark.parametrize("role", ["client", "server"])
def test_proxy_status_of_the_pod_matches(pairs: Pairs, role: str) -> None:
    (pod,) = pairs.pods(f"{role}-eastgate")

    def matches() -> bool:
        said = istioctl(pairs.settings, pairs.kubectl, "proxy-status", f"{pod['metadata']['name']}.{NAMESPACE}")
        lines = [" ".join(line.split()[:2]) for line in said.splitlines()]
        if lines == ["Clusters Match", "Listeners Match", "Routes Match"]:
            return True
        raise LabError(said)

    wait_for(f"proxy-status of {role} matches", matches, seconds=60, every=1)


def test_proxy_status_lists_both_alike(pairs: Pairs) -> None:
    def status(proxy: str) -> list[list[str]]:
        table = istioctl(pairs.settings, pairs.kubectl, "proxy-status").splitlines()
        return [line.split()[1:] for line in table if line.startswith(named(pairs, proxy))]

    assert len(agreed("the list of proxies", status)) == 1


@pytest.mark.parametrize("words", [("x", "describe", "pod"), ("x", "authz", "check")], ids=" ".join)
def test_describe_and_authz_check_read_it(pairs: Pairs, words: tuple[str, ...]) -> None:
    agreed(" ".join(words), lambda proxy: shown(pairs, proxy, *words))
