"""Names of services as Istio's clients say them, and a gateway's own words for a refusal."""

from typing import Any

import pytest
from eastgate.insight.cluster_model import ClusterModel, ProxyModel
from eastgate.insight.errors import InsightError, UnreachableError
from eastgate.insight.probe import Answer, Verdict
from eastgate.insight.probe_services import all_words, gateway_words, names_of, server_name

NAME = "outbound_.80_._.echo.test.svc.cluster.local"


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("echo.test:80", NAME),
        ("echo.test.svc.cluster.local:80", NAME),
        ("echo.test:80/v1", "outbound_.80_.v1_.echo.test.svc.cluster.local"),
        ("db.example.com:5432", "outbound_.5432_._.db.example.com"),
        ("outbound|80|v1|echo.test.svc.cluster.local", "outbound_.80_.v1_.echo.test.svc.cluster.local"),
        (NAME, NAME),
    ],
)
def test_services_by_what_people_call_them(service: str, name: str) -> None:
    assert server_name(service) == name


@pytest.mark.parametrize(
    "service", ["", "echo", "echo.test", "echo.test:0", "echo.test:70000", "outbound|80", "a b:80"]
)
def test_what_is_no_service_is_one_line(service: str) -> None:
    with pytest.raises(InsightError, match=r"expected NAME\.NAMESPACE:PORT"):
        server_name(service)


def proxy(*names: str, said: str = "") -> ProxyModel:
    return ProxyModel("x", {name: ClusterModel(name, server_name=said) for name in names})


def test_names_of_a_dump_are_those_that_a_gateway_routes_or_a_client_says() -> None:
    client = proxy("outbound|80||echo.test.svc.cluster.local", "inbound|80||", "PassthroughCluster")
    gateway = proxy(NAME, "outbound|80||other.test.svc.cluster.local")
    assert names_of([client]) == names_of([gateway]) == names_of([client, gateway]) == (NAME,)
    # What the client really says counts.
    assert names_of([proxy("outbound|80||echo.test.svc.cluster.local", said="db")]) == ("db",)


CLOSED = Answer("x:1", NAME, Verdict.CLOSED, local="127.0.0.1:4000", began=1_000_000_000.0)
OWN = {"downstream": "127.0.0.1:4000", "server_name": NAME, "reason": "unknown_server_name",
       "nearest_server_name": "outbound_.81", "cluster": ""}  # fmt: skip
OTHER = {"downstream": "10.0.0.1:9", "server_name": NAME, "reason": "no_endpoints", "cluster": NAME,
         "time": "2001-09-09T01:46:41.000Z"}  # fmt: skip


def test_the_entry_of_the_own_address_comes_first() -> None:
    assert gateway_words(CLOSED, [OTHER, OWN]) == "unknown server name; the nearest that it knows is outbound_.81"


def test_behind_a_balancer_the_latest_of_the_name_counts() -> None:
    assert gateway_words(CLOSED, [OTHER]) == f"no endpoints (cluster {NAME})"
    old = {**OTHER, "time": "2001-09-09T01:46:30.000Z"}
    assert gateway_words(CLOSED, [old, {**OTHER, "server_name": "x"}, {**OTHER, "time": "?"}]) == ""


def test_only_refusals_have_words() -> None:
    assert gateway_words(Answer("x:1", NAME, Verdict.MESH, local="127.0.0.1:4000"), [OWN]) == ""


class Pages:
    name = "x"

    def __init__(self, *pages: Any) -> None:
        self._pages = pages
        self.asked = 0

    def read(self, path: str) -> Any:
        page = self._pages[min(self.asked, len(self._pages) - 1)]
        self.asked += 1
        if page is None:
            raise UnreachableError("nobody")
        return page


@pytest.mark.parametrize("page", [None, [], {}, {"refusals": {}}, "x"])
def test_a_gateway_that_keeps_no_list_is_asked_once(page: Any) -> None:
    pages = Pages(page)
    assert all_words([CLOSED], pages) == [""]
    assert pages.asked == 1


def test_a_refusal_that_is_not_told_yet_is_asked_for_again() -> None:
    pages = Pages({"refusals": [1]}, {"refusals": [OWN]})
    assert all_words([CLOSED, CLOSED], pages) == [gateway_words(CLOSED, [OWN])] * 2
    assert pages.asked == 2


def test_without_a_refusal_or_an_admin_nobody_is_asked() -> None:
    pages = Pages({"refusals": []})
    assert all_words([Answer("x:1", NAME, Verdict.MESH)], pages) == [""]
    assert pages.asked == 0
    assert all_words([CLOSED], None) == [""]
