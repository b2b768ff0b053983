"""The static HTTP listeners of the bootstrap that pilot-agent renders, and of shapes that are not served."""

import json
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.bootstrap import read_bootstrap
from eastgate.proxy.bootstrap_listeners import StaticListener, StaticRoute
from eastgate.proxy.bootstrap_reader import BootstrapError

from ..support.recordings import FOLDER

RECORDED = FOLDER / "envoy" / "anthos-gateway" / "bootstrap.json"


def read_changed(tmp_path: Path, change: Any) -> tuple[StaticListener, ...]:
    value = json.loads(RECORDED.read_text())
    change(value["static_resources"])
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(value))
    return read_bootstrap(str(file)).listeners


def manager(static: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = static["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def test_the_two_of_pilot_agent_are_read() -> None:
    assert read_bootstrap(str(RECORDED)).listeners == (
        StaticListener("0.0.0.0_15090", ("0.0.0.0:15090",), (StaticRoute("127.0.0.1:15000", "/stats/prometheus"),)),
        StaticListener("0.0.0.0_15021", ("0.0.0.0:15021",), (StaticRoute("127.0.0.1:15020", "/healthz/ready"),)),
    )


def test_dual_stack_listens_twice(tmp_path: Path) -> None:
    def change(static: dict[str, Any]) -> None:
        more = {"address": {"socketAddress": {"address": "::", "port_value": 15021}}}
        static["listeners"][1]["additionalAddresses"] = [more]

    assert read_changed(tmp_path, change)[1].addresses == ("0.0.0.0:15021", "[::]:15021")


def test_prefix_and_path_match_as_envoy_matches() -> None:
    assert StaticRoute("a:1", prefix="/healthz/ready").matches("/healthz/readyz")
    assert not StaticRoute("a:1", prefix="/healthz/ready").matches("/quitquitquit")
    assert not StaticRoute("a:1", path="/healthz/ready").matches("/healthz/readyz")


@pytest.mark.parametrize(
    "change",
    [
        lambda static: manager(static)["route_config"]["virtual_hosts"][0]["routes"][0]["match"].update(
            {"headers": [{"name": "x"}]}
        ),
        lambda static: manager(static)["route_config"]["virtual_hosts"][0]["routes"][0].update(
            {"match": {"safe_regex": {"regex": ".*"}}}
        ),
        lambda static: manager(static)["route_config"]["virtual_hosts"][0]["routes"][0]["route"].update(
            {"cluster": "xds-grpc"}
        ),
        lambda static: static["listeners"][1]["filter_chains"][0].update({"transport_socket": {"name": "tls"}}),
        lambda static: manager(static).update({"@type": "type.googleapis.com/a.b.C"}),
    ],
)
def test_what_would_widen_or_narrow_a_route_is_left_out_and_said(tmp_path: Path, change: Any) -> None:
    listener = read_changed(tmp_path, change)[1]
    assert listener.routes == ()
    assert len(listener.unread) == 1
    assert "static_resources.listeners[1].filter_chains[0]" in listener.unread[0]


def test_an_address_that_is_none_is_told_with_its_path(tmp_path: Path) -> None:
    def change(static: dict[str, Any]) -> None:
        static["listeners"][0]["address"]["socket_address"]["port_value"] = "http"

    with pytest.raises(BootstrapError, match=r"listeners\[0\].address.socket_address.port_value: must be a port"):
        read_changed(tmp_path, change)
