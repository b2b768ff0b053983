"""Which listener has a redirected connection (Envoy: connection_handler_impl.cc, getBalancedHandlerByAddress)."""

from collections.abc import Sequence
from ipaddress import ip_address


def find(listeners: Sequence[tuple[str, int, bool]], destination: str, port: int) -> int | None:
    """Place of the listener in the list of (address, port, takes IPv4 too), or None."""
    wanted = ip_address(destination)
    wildcard = ip_address("0.0.0.0" if wanted.version == 4 else "::")
    for address in (wanted, wildcard):
        for compatible in (False, True):
            for number, (host, own_port, takes_ipv4) in enumerate(listeners):
                own = ip_address(host)
                if compatible and takes_ipv4 and own.version == 6:
                    own = ip_address("0.0.0.0") if own == ip_address("::") else own.ipv4_mapped or own
                if (own, own_port) == (address, port):
                    return number
    return None
