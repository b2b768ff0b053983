"""The first configuration of a gateway, from the response to who is served."""

from contextlib import closing

from eastgate.xds.decode import CDS, EDS, LDS

from ..support import messages
from ..support.control_side import packed
from ..support.gateway_process import Eastgate
from ..support.scripted_ads import ScriptedAds
from ..support.upstreams import Upstreams, reached


def test_ready_is_who_serves_the_endpoints_that_have_come() -> None:
    """Many assignments are accepted at once and compiled one after the other: until they serve it is not ready."""
    names = [f"c{number}" for number in range(1500)]
    with Upstreams() as upstreams, closing(ScriptedAds()) as ads:
        where = [messages.At(upstreams.start("one"))]
        ads.send(CDS, [packed(CDS, messages.cluster(name)) for name in names])
        ads.send(EDS, [packed(EDS, messages.assignment(name, where)) for name in names])
        ads.send(LDS, [packed(LDS, messages.listener([messages.plain_chain(names[0])]))])
        with Eastgate(ads.address) as gateway:
            gateway.wait_ready()
            assert reached(gateway.bound_address(messages.LISTENER)) == "one"
