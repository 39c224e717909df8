"""Listeners: where a node can be reached, under which names, and how each is secured.

`listeners` says where to bind, `advertised.listeners` what others are told. Each listener has a name; the map gives its
security protocol; `controller.listener.names` says which of them are the controller's. The rules are Kafka's: names are
not case-sensitive and occur once; a port occurs once, except on an IPv4 and an IPv6 address; no host means every
interface; nobody can be told to connect to 0.0.0.0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec

from kpybroker.config.errors import ConfigError


class SecurityProtocol(IntEnum):
    """How a listener is secured, numbered as broker registrations number it."""

    PLAINTEXT = 0
    SSL = 1
    SASL_PLAINTEXT = 2
    SASL_SSL = 3


class EndPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One address of one listener. Its text is the form that `listeners` has."""

    name: str
    """The listener's name, in capitals."""
    protocol: SecurityProtocol
    host: str
    """Without brackets. Empty: every interface when binding, this machine's name when advertised."""
    port: int
    """0: one that is free, known once it is bound."""

    @property
    def address(self) -> str:
        """host:port, with the brackets that IPv6 needs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every interface, so that no client could connect to it as it is written."""
        return self.host in ("", "0.0.0.0", "::")

    def __str__(self) -> str:
        return f"{self.name}://{self.address}"


def parse_protocols(text: str) -> dict[str, SecurityProtocol]:
    """The map NAME:PROTOCOL,NAME:PROTOCOL by listener name in capitals. Raises: ConfigError."""
    protocols = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, protocol = pair.rpartition(":")
        if not name or protocol.strip() not in SecurityProtocol.__members__:
            known = ", ".join(SecurityProtocol.__members__)
            kafka = "Error parsing configuration property 'listener.security.protocol.map': "
            raise ConfigError(
                f"listener.security.protocol.map: {pair!r} is not NAME:PROTOCOL; protocols are {known}",
                kafka=None if name else f"{kafka}begin 0, end -1, length {len(pair)}",
            )
        protocols[name.strip().upper()] = SecurityProtocol[protocol.strip()]
    return protocols


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, with an IPv6 address in brackets; no host means every interface. Raises: ConfigError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    valid = colon and port.isascii() and port.isdecimal() and int(port) <= 65535
    if not valid or (":" in host and bare == host):
        raise ConfigError(f"{text!r} is not HOST:PORT (an IPv6 address in brackets: [::1]:9092)")
    return bare, int(port)


def parse_end_points(
    setting: str, texts: Sequence[str], protocols: Mapping[str, SecurityProtocol], *, distinct_ports: bool = True
) -> tuple[EndPoint, ...]:
    """The end points of a setting's items. Raises: ConfigError, naming the setting."""
    try:
        end_points = tuple(_end_point(setting, text, protocols) for text in texts)
    except ConfigError as error:
        kafka = f"Error creating broker listeners from '[{', '.join(texts)}]': {error.kafka}"
        raise ConfigError(str(error), kafka=kafka) from None
    repeated = [name for name, times in Counter(each.name for each in end_points).items() if times > 1]
    if repeated:
        raise ConfigError(f"{setting}: each listener must have a different name, and {repeated[0]} is there twice")
    if distinct_ports:
        _check_ports(setting, end_points)
    return end_points


def _end_point(setting: str, text: str, protocols: Mapping[str, SecurityProtocol]) -> EndPoint:
    match = _END_POINT.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{setting}: {text!r} is not NAME://host:port (an IPv6 address in brackets)",
            kafka=f"Unable to parse {text} to a broker endpoint",
        )
    name = match["name"].upper()
    if name not in protocols:
        raise ConfigError(
            f"{setting}: listener {name} has no protocol in listener.security.protocol.map",
            kafka=f"No security protocol defined for listener {name}",
        )
    port = int(match["port"])
    if not 0 <= port <= 65535:
        raise ConfigError(f"{setting}: {text!r} has no valid port (0 to 65535)")
    return EndPoint(name=name, protocol=protocols[name], host=match["v6"] or match["host"] or "", port=port)


def _check_ports(setting: str, end_points: Sequence[EndPoint]) -> None:
    """A port may be shared by one IPv4 and one IPv6 address, and by nothing else; port 0 is no port yet."""
    by_port: dict[int, list[EndPoint]] = {}
    for each in end_points:
        if each.port:
            by_port.setdefault(each.port, []).append(each)
    for port, sharing in by_port.items():
        families = sorted(_family(each.host) for each in sharing)
        if len(sharing) > 1 and families != [4, 6]:
            names = " and ".join(each.name for each in sharing)
            raise ConfigError(
                f"{setting}: {names} share port {port}; only an IPv4 address and an IPv6 address may share one"
            )


def _family(host: str) -> int:
    """4 or 6 for an address, 0 for a name or none."""
    if ":" in host:
        return 6
    return 4 if _IPV4.fullmatch(host) else 0


_END_POINT = re.compile(
    r"(?P<name>[^:/]+)://(?:\[(?P<v6>[0-9a-fA-F:.%\w\-]+)\]|(?P<host>[0-9a-zA-Z\-%._]*)):(?P<port>[0-9]+)"
)
_IPV4 = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
