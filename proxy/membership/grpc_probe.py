"""A check by gRPC's health checking protocol (grpc.health.v1). Decides whether it passed, and nothing else.

As in Envoy (source/extensions/health_checkers/grpc): it passes with the status OK and SERVING in the answer. Any other
answer takes the endpoint out at once, whatever the threshold; no answer counts towards it. The connection is kept, and
one that the endpoint closes between two checks (with GOAWAY or without) fails none.
"""

import asyncio

import grpc
from eastgate.xds.errors import XdsError
from eastgate.xds.grpc_health import CHECK, SERVING, request, serving_status
from eastgate.xds.resources import GrpcCheck, HealthCheck
from grpc import aio

from .check_outcome import USER_AGENT, Outcome, Target, lacks_descriptors

READY = grpc.ChannelConnectivity.READY


def target_uri(target: Target) -> str:
    """How gRPC names the place of a check."""
    if "/" in target.host or not target.port:
        return f"unix:{target.host}"
    return f"ipv6:[{target.host}]:{target.port}" if ":" in target.host else f"ipv4:{target.host}:{target.port}"


class GrpcProbe:
    """Asks whether a service is served."""

    def __init__(self, check: HealthCheck, target: Target) -> None:
        assert check.grpc is not None
        self._check = check
        self._grpc: GrpcCheck = check.grpc
        self._target = target
        self._channel: aio.Channel | None = None

    async def check(self) -> Outcome:
        """Check once, within the timeout."""
        channel = self._channel
        if channel is None:
            channel = self._channel = self._open()
        outcome = Outcome(network=True, reason="given up")
        try:
            outcome = await self._ask(channel)
        finally:
            # After a connect that failed a channel waits before it tries again: the next check has one of its own.
            if outcome.network or not self._check.reuse_connection:
                self.close()
        return outcome

    async def wait(self, wait_s: float) -> Outcome | None:
        """Wait for so long."""
        await asyncio.sleep(wait_s)
        return None

    def close(self) -> None:
        """Give up what is open: a channel that nobody refers to closes its connection."""
        self._channel = None

    def _open(self) -> aio.Channel:
        return aio.insecure_channel(
            target_uri(self._target),
            options=(
                ("grpc.default_authority", self._target.hostname),
                ("grpc.primary_user_agent", USER_AGENT),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
                ("grpc.service_config_disable_resolution", 1),
            ),
        )

    async def _ask(self, channel: aio.Channel) -> Outcome:
        timeout_s = self._check.timeout_s
        try:
            call = channel.unary_unary(CHECK)(
                request(self._grpc.service), timeout=timeout_s, metadata=self._grpc.metadata
            )
            status = serving_status(await call)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Outcome(network=True, timed_out=True, reason=f"no answer within {timeout_s:g} s")
            # A status comes from the endpoint while there is a connection to it, and otherwise says why there is none.
            answered = channel.get_state() is READY
            return Outcome(
                network=not answered,
                local=not answered and lacks_descriptors(),
                at_once=answered,
                reason=f"{error.code().name}: {error.details() or 'no details'}",
            )
        except XdsError:
            return Outcome(at_once=True, reason="the answer is no HealthCheckResponse")
        except (grpc.RpcError, aio.UsageError, ValueError) as error:
            return Outcome(network=True, reason=f"not possible: {error}")
        if status != SERVING:
            return Outcome(at_once=True, reason=f"the service is {status}")
        return Outcome(passed=True)
