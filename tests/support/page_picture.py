"""docs/page.png: the page of a running gateway. Three pods of one of its services die, and it spills to another region.

`make page-picture` takes it, of real connections; look at it before it is committed.
"""

import socket
from contextlib import closing, suppress
from pathlib import Path

from envoy_data_plane.envoy.config.core.v3 import Locality
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from . import messages
from .browser import chromium
from .gateway_process import Eastgate
from .hellos import client_hello
from .outlier_mesh import outlier_detection
from .recordings import CDS, EDS
from .replay_ads import ReplayThread
from .switched_endpoints import SwitchedEndpoints
from .waiting import until

PICTURE = Path(__file__).parents[2] / "docs" / "page.png"
SIZE = {"width": 1280, "height": 1500}
SERVICES = ("web", "cart", "checkout", "payments", "search", "catalog")
# By priority.
PLACES = (Locality(region="tokyo-onprem", zone="a"), Locality(region="asia-northeast1", zone="asia-northeast1-a"))
LOCAL, REMOTE, DEAD = 8, 2, 3
CONNECTIONS = 400
EJECTING = {"consecutive_5xx": 1, "interval": 0.2, "base_ejection_time": 600, "max_ejection_percent": 100}


def name_of(service: str) -> str:
    return f"outbound_.80_._.{service}.shop.svc.cluster.local"


def assignment(name: str, endpoints: SwitchedEndpoints) -> bytes:
    at = [messages.At(endpoints.address(number), priority=int(number >= LOCAL)) for number in range(LOCAL + REMOTE)]
    found = ClusterLoadAssignment().parse(messages.assignment(name, at))
    for group, place in zip(found.endpoints, PLACES, strict=True):
        group.locality = place
    return bytes(found)


def connect(address: tuple[str, int], service: str) -> None:
    with socket.create_connection(address, 10) as peer, suppress(ConnectionResetError):
        peer.sendall(client_hello(name_of(service)))
        peer.recv(1)


def taken(gateway: Eastgate) -> bytes:
    """What a browser shows, as PNG."""
    with chromium() as browser:
        page = browser.new_page(viewport=SIZE)
        page.goto(gateway.admin)
        page.wait_for_selector("main[data-ready]")
        return page.screenshot()


def main() -> None:
    names = [name_of(service) for service in SERVICES]
    with closing(SwitchedEndpoints(LOCAL + REMOTE)) as endpoints:
        resources = messages.resources({name: [] for name in names})
        for name in names:
            resources[CDS][name] = messages.cluster(name, outlier_detection=outlier_detection(EJECTING))
            resources[EDS][name] = assignment(name, endpoints)
        with closing(ReplayThread(resources)) as server, Eastgate(server.address) as gateway:
            gateway.wait_ready()
            address = gateway.bound_address(messages.LISTENER)
            for number in range(CONNECTIONS):
                connect(address, SERVICES[number % len(SERVICES)])
            for dead in range(DEAD):
                endpoints.switch(dead, on=False)
            # Nobody else asks, and nobody finds out for the others.
            for _ in range(CONNECTIONS):
                connect(address, SERVICES[0])
            ejected = f"cluster.{names[0]}.outlier_detection.ejections_active"
            until(lambda: gateway.stats().get(ejected) == DEAD, "the dead ones are ejected")
            PICTURE.write_bytes(taken(gateway))


if __name__ == "__main__":
    main()
