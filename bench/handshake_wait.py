"""How long a relay waits for its loop while the hellos of many connections come at once.

    python -m bench.handshake_wait [--hellos 192] [--rounds 9]

One hosted loop that ends the TLS of its clients (P-256), one relay that was there before. The hellos come, and behind
them a message of the relay. What is counted is the CPU time of the thread in the turns until the message has come out,
which other programs of the machine do not lengthen, and how many of the flights were made by then.
"""

import argparse
import statistics
import time
from contextlib import ExitStack

from tests.fastpath.driven_engine import client_hello, has_bytes, relaying
from tests.fastpath.loop.tls_ends import end_tls


def waited(hellos: int) -> tuple[float, int]:
    """(milliseconds of CPU until the message was through, flights made by then)."""
    with ExitStack() as stack:
        gateway, _, client, endpoint = stack.enter_context(relaying())
        end_tls(gateway)
        peers = [stack.enter_context(gateway.connect()) for _ in range(hellos)]
        gateway.until(lambda: gateway.engine.active_connections() == 1 + hellos)
        for peer in peers:
            peer.sendall(client_hello())
        client.sendall(b"ping")
        began = time.thread_time()
        while not has_bytes(endpoint):
            gateway.engine.turn()
        took = time.thread_time() - began
        return took * 1e3, sum(map(has_bytes, peers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hellos", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    waited(options.hellos)
    rounds = [waited(options.hellos) for _ in range(options.rounds)]
    times = sorted(took for took, _ in rounds)
    print(
        f"{options.hellos} hellos: the relay waits {statistics.median(times):.2f} ms of CPU"
        f" ({times[0]:.2f} to {times[-1]:.2f}), {statistics.median(made for _, made in rounds):.0f} flights before it"
    )


if __name__ == "__main__":
    main()
