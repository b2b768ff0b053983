"""Rules that send a machine's connections through a sidecar, as text for iptables-restore or nft -f. Changes nothing.

They are Istio's (tools/istio-iptables): what the proxy's own user sends is left alone, or it would come back for ever;
what the proxy sends on loopback from its bind address 127.0.0.6 is for the application; probes and metrics of the proxy
and of the agent are not taken.
"""

from typing import Literal

from eastgate.xds.record import record

OUTBOUND_PORT, INBOUND_PORT = 15001, 15006
PROXY_ID = 1337
# HBONE, agent, readiness, metrics.
NEVER_INBOUND = (15008, 15020, 15021, 15090)
HBONE = 15008
OWNERS = ("uid", "gid")

Tool = Literal["iptables", "ip6tables", "nft"]
TOOLS: tuple[Tool, ...] = ("iptables", "ip6tables", "nft")


@record
class Family:
    """One version of IP: how its addresses are called by either tool."""

    command: str
    keyword: str
    loopback: str
    bind: str


FAMILIES = (
    Family("iptables", "ip", "127.0.0.1/32", "127.0.0.6/32"),
    Family("ip6tables", "ip6", "::1/128", "::6/128"),
)


def plan(tool: Tool) -> str:
    """The rules as text for one tool: iptables-restore for IPv4, ip6tables-restore for IPv6, nft for both."""
    if tool == "nft":
        return "\n".join(map(_nft, FAMILIES))
    return next(_iptables(family) for family in FAMILIES if family.command == tool)


def _iptables(family: Family) -> str:
    """Text for iptables-restore --noflush."""
    lines = [
        "*nat",
        *(f":{chain} - [0:0]" for chain in ("ISTIO_INBOUND", "ISTIO_IN_REDIRECT", "ISTIO_OUTPUT", "ISTIO_REDIRECT")),
        f"-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}",
        f"-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND_PORT}",
        "-A PREROUTING -p tcp -j ISTIO_INBOUND",
        *(f"-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN" for port in NEVER_INBOUND),
        "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT",
        "-A OUTPUT -p tcp -j ISTIO_OUTPUT",
        f"-A ISTIO_OUTPUT -s {family.bind} -o lo -j RETURN",
    ]
    for kind in OWNERS:
        own = f"-m owner --{kind}-owner {PROXY_ID}"
        others = f"-m owner ! --{kind}-owner {PROXY_ID}"
        lines += [
            f"-A ISTIO_OUTPUT ! -d {family.loopback} -o lo -p tcp ! --dport {HBONE} {own} -j ISTIO_IN_REDIRECT",
            f"-A ISTIO_OUTPUT -o lo {others} -j RETURN",
            f"-A ISTIO_OUTPUT {own} -j RETURN",
        ]
    lines += [f"-A ISTIO_OUTPUT -d {family.loopback} -j RETURN", "-A ISTIO_OUTPUT -j ISTIO_REDIRECT", "COMMIT"]
    return "\n".join(lines) + "\n"


def _nft(family: Family) -> str:
    """Text for nft -f -."""
    loopback, bind = family.loopback.split("/")[0], family.bind.split("/")[0]
    ports = ", ".join(map(str, NEVER_INBOUND))
    output = [f'oifname "lo" {family.keyword} saddr {bind} return']
    for kind in OWNERS:
        own = f"meta sk{kind} {PROXY_ID}"
        output += [
            f'oifname "lo" {family.keyword} daddr != {loopback} tcp dport != {HBONE} {own} redirect to :{INBOUND_PORT}',
            f'oifname "lo" meta sk{kind} != {PROXY_ID} return',
            f"{own} return",
        ]
    output += [f"{family.keyword} daddr {loopback} return", f"meta l4proto tcp redirect to :{OUTBOUND_PORT}"]
    inbound = [f"tcp dport {{ {ports} }} return", f"meta l4proto tcp redirect to :{INBOUND_PORT}"]
    lines = [f"table {family.keyword} eastgate {{"]
    for name, hook, rules in (("inbound", "prerouting", inbound), ("outbound", "output", output)):
        lines += [
            f"    chain {name} {{",
            f"        type nat hook {hook} priority -100; policy accept;",
            *(f"        {rule}" for rule in rules),
            "    }",
        ]
    return "\n".join([*lines, "}"]) + "\n"
