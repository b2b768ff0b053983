"""Channels are made with the limits that istiod and large pushes ask for."""

import grpc
from eastgate.xds.channel import OPTIONS, QUIET_OPTIONS, plaintext, with_credentials, without_pings


def test_responses_are_unlimited_and_pings_are_slow_enough() -> None:
    options = dict(OPTIONS)
    assert options["grpc.max_receive_message_length"] == -1
    # istiod answers faster clients with GOAWAY "too many pings".
    assert options["grpc.keepalive_time_ms"] >= 15_000
    # Go's servers that say nothing of pings allow one in 5 minutes.
    assert "grpc.keepalive_time_ms" not in dict(QUIET_OPTIONS)
    assert dict(QUIET_OPTIONS)["grpc.max_receive_message_length"] == -1


async def test_channels_are_opened_without_waiting() -> None:
    for factory in (
        plaintext,
        without_pings,
        with_credentials(grpc.ssl_channel_credentials(), server_name="istiod.istio-system.svc"),
    ):
        channel = factory("127.0.0.1:1")
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        await channel.close()
