"""The firewall as data: which bridges and published ports there are → one nft text. Pure.

There is one table per address family, replaced as a whole whenever a network comes or goes (one transaction: there is
no moment without rules). Published ports are elements of two maps (any host address; one host address), so publishing
one more is one element, and a packet costs one lookup however many there are.

Only drops and translations are written. A base chain's "accept" never overrules another table's drop, and the policy of
other tables is not touched.

Chains of ``table ip scow``:

- ``guard``: packets for 127.0.0.0/8 that come from outside are dropped. The kernel does so itself until route_localnet
  is set on our bridges, which host-loopback access to published ports needs.
- ``incoming``, ``local``: translate what is addressed to this host and published.
- ``outgoing``: hide containers behind the host's address; make hairpin and loopback connections answerable.
- ``forward``: bridges are closed to each other and to outside, except for answers and for published ports.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: The protocols that can be published.
PROTOCOLS = ("tcp", "udp")


@dataclass(frozen=True, slots=True)
class BridgeRules:
    """What the firewall knows of one bridge network, for one address family.

    Attributes:
        subnets: in CIDR form, of one family.
        masquerade: hide the containers behind the host's address on the way out.
        icc: containers may talk to each other.
        internal: nothing goes out, nothing comes in.
        open: any port may be reached from outside (gateway modes "routed" and "nat-unprotected").
    """

    bridge: str
    subnets: tuple[str, ...]
    masquerade: bool = True
    icc: bool = True
    internal: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class PortRule:
    """A published port; `host_ip` is "" for every address of the host (of the family)."""

    protocol: str
    host_ip: str
    host_port: int
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Family:
    """The words in which the two tables differ."""

    name: str
    address: str
    loopback: str


IPV4 = Family("ip", "ipv4_addr", "127.0.0.0/8")
IPV6 = Family("ip6", "ipv6_addr", "::1")


def ruleset(
    table: str, family: Family, bridges: Sequence[BridgeRules], ports: Iterable[PortRule], *, loopback: bool
) -> str:
    """The whole table as one transaction that replaces the old one.

    Args:
        loopback: the host may reach published ports at 127.0.0.1 by translation (route_localnet is set); otherwise such
            connections are left to the userland proxy.
    """
    lines = [
        f"table {family.name} {table}",
        f"delete table {family.name} {table}",
        f"table {family.name} {table} {{",
        *_maps(family, ports),
        *_translation(family, loopback),
        *_outgoing(family, bridges),
        *_forward(bridges),
        "}",
        "",
    ]
    return "\n".join(lines)


def removal(table: str, family: Family) -> str:
    """Take the table away, also when it is not there."""
    return f"table {family.name} {table}\ndelete table {family.name} {table}\n"


def publish(table: str, ports: Iterable[PortRule]) -> str:
    """Add published ports to the table in force."""
    return "".join(
        f"add element {_family(port).name} {table} {_map(port)} {{ {_key(port)} : {_value(port)} }}\n" for port in ports
    )


def withdraw(table: str, ports: Iterable[PortRule]) -> str:
    """Take published ports out of the table in force."""
    return "".join(f"delete element {_family(port).name} {table} {_map(port)} {{ {_key(port)} }}\n" for port in ports)


def sandbox_dns(udp_port: int, tcp_port: int, *, fresh: bool) -> str:
    """Rules inside a sandbox: 127.0.0.11:53 is answered by the engine's sockets on two odd ports.

    The sockets do not sit on port 53, so that a name server in the container can.

    Args:
        fresh: there are no such rules yet. Deleting costs 10 ms (the kernel waits before it frees), so it is only done
            where an earlier daemon left some.
    """
    delete = "" if fresh else "table ip scow_dns\ndelete table ip scow_dns\n"
    return (
        f"{delete}table ip scow_dns {{\n"
        "  chain out { type nat hook output priority -100; policy accept;\n"
        f"    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:{udp_port}\n"
        f"    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:{tcp_port}\n"
        "  }\n"
        "}\n"
    )


def _maps(family: Family, ports: Iterable[PortRule]) -> list[str]:
    anywhere: list[str] = []
    somewhere: list[str] = []
    for port in ports:
        (somewhere if port.host_ip else anywhere).append(f"{_key(port)} : {_value(port)}")
    kinds = {"published": "", "published_at": f"{family.address} . "}
    lines = []
    for (name, prefix), elements in zip(kinds.items(), (anywhere, somewhere), strict=True):
        given = f"; elements = {{ {', '.join(elements)} }}" if elements else ""
        key = f"{prefix}inet_proto . inet_service"
        lines.append(f"  map {name} {{ type {key} : {family.address} . inet_service{given}; }}")
    return lines


def _translation(family: Family, loopback: bool) -> list[str]:
    ip = family.name
    left_alone = [] if loopback else [f"    {ip} daddr {family.loopback} return"]
    guard = (
        [
            "  chain guard {",
            "    type filter hook prerouting priority -300; policy accept;",
            f'    ip daddr {family.loopback} iifname != "lo" drop',
            "  }",
        ]
        if family is IPV4
        else []
    )
    return [
        *guard,
        "  chain translate {",
        f"    meta l4proto {{ tcp, udp }} dnat {ip} to {ip} daddr . meta l4proto . th dport map @published_at",
        f"    meta l4proto {{ tcp, udp }} dnat {ip} to meta l4proto . th dport map @published",
        "  }",
        "  chain incoming {",
        "    type nat hook prerouting priority -100; policy accept;",
        "    fib daddr type local jump translate",
        "  }",
        "  chain local {",
        "    type nat hook output priority -100; policy accept;",
        *left_alone,
        "    fib daddr type local jump translate",
        "  }",
    ]


def _outgoing(family: Family, bridges: Sequence[BridgeRules]) -> list[str]:
    lines = ["  chain outgoing {", "    type nat hook postrouting priority 100; policy accept;"]
    for rules in bridges:
        name = f'"{rules.bridge}"'
        if family is IPV4:
            lines.append(f"    oifname {name} ip saddr {family.loopback} masquerade")
        for subnet in rules.subnets:
            # A container that reaches itself or a neighbour by a published port must be answered through us.
            lines.append(f"    oifname {name} {family.name} saddr {subnet} ct status dnat masquerade")
            if rules.masquerade and not rules.internal:
                lines.append(f"    oifname != {name} {family.name} saddr {subnet} masquerade")
    return [*lines, "  }"]


def _forward(bridges: Sequence[BridgeRules]) -> list[str]:
    lines: list[str] = []
    for rules in bridges:
        name = f'"{rules.bridge}"'
        lines.append(f"  chain to_{rules.bridge} {{")
        if rules.icc:
            lines.append(f"    iifname {name} accept")
        lines.append("    ct state established,related accept")
        if rules.open and not rules.internal:
            lines.append("    accept")
        else:
            if not rules.internal:
                lines.append("    ct status dnat accept")
            lines.append("    drop")
        lines.append("  }")
    closed = [rules.bridge for rules in bridges if rules.internal]
    lines += ["  chain forward {", "    type filter hook forward priority 0; policy accept;"]
    lines += [f'    iifname "{bridge}" oifname != "{bridge}" drop' for bridge in closed]
    if bridges:
        ways = ", ".join(f'"{rules.bridge}" : jump to_{rules.bridge}' for rules in bridges)
        lines.append(f"    oifname vmap {{ {ways} }}")
    return [*lines, "  }"]


def _family(port: PortRule) -> Family:
    return IPV6 if ":" in port.ip else IPV4


def _map(port: PortRule) -> str:
    return "published_at" if port.host_ip else "published"


def _key(port: PortRule) -> str:
    key = f"{port.protocol} . {port.host_port}"
    return f"{port.host_ip} . {key}" if port.host_ip else key


def _value(port: PortRule) -> str:
    return f"{port.ip} . {port.port}"
