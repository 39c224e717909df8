"""How a node is reached: its listeners sorted by what they are for, bound and advertised."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kpybroker.config.errors import ConfigError
from kpybroker.config.listeners import EndPoint, SecurityProtocol, parse_end_points, parse_protocols
from kpybroker.config.values import Value


class Reachable(msgspec.Struct, frozen=True, kw_only=True):
    """The listeners of a node.

    Advertised end points may lack a host (this machine's name) or a port (0: the one that was bound): see
    `EndPoint`. `msgspec.structs.replace` fills them in once they are known.
    """

    listening: tuple[EndPoint, ...]
    """Every end point of `listeners`: the brokers' and the controller's."""
    brokers: tuple[EndPoint, ...]
    """Those of them that clients and brokers connect to."""
    controllers: tuple[EndPoint, ...]
    """Those of them that are the controller's."""
    advertised: tuple[EndPoint, ...]
    """What clients and brokers are told to connect to."""
    advertised_controllers: tuple[EndPoint, ...]
    """What other members of the quorum are told to connect to."""
    controller_names: tuple[str, ...]
    """The names of the controller's listeners, in capitals; a broker uses the first."""
    inter_broker_name: str
    """The name of the listener on which brokers talk to each other, in capitals."""
    protocols: Mapping[str, SecurityProtocol]
    """The protocol of each listener name."""

    @classmethod
    def of(cls, values: Mapping[str, Value], *, protocols_given: bool) -> Reachable:
        """Read them from parsed settings. Raises: ConfigError."""
        controller_names = tuple(name.upper() for name in _list(values, "controller.listener.names"))
        listening_texts = _list(values, "listeners")
        protocols = parse_protocols(str(values["listener.security.protocol.map"]))
        if not protocols_given:
            _add_plain_controllers(protocols, controller_names, listening_texts)
        listening = parse_end_points("listeners", listening_texts, protocols)
        controllers = tuple(each for each in listening if each.name in controller_names)
        advertised_texts = _list(values, "advertised.listeners")
        told = parse_end_points("advertised.listeners", advertised_texts, protocols, distinct_ports=False)
        return cls(
            listening=listening,
            brokers=tuple(each for each in listening if each.name not in controller_names),
            controllers=controllers,
            advertised=tuple(each for each in told or listening if each.name not in controller_names),
            advertised_controllers=_advertised_controllers(controller_names, told, controllers, values),
            controller_names=controller_names,
            inter_broker_name=_inter_broker_name(values, protocols),
            protocols=protocols,
        )


def _add_plain_controllers(
    protocols: dict[str, SecurityProtocol], controller_names: tuple[str, ...], listening: tuple[str, ...]
) -> None:
    """Without a map of their own, controller listeners are plain as long as nothing else is secured."""
    used = {*controller_names, *(text.partition(":")[0].upper() for text in listening)}
    if not used & {"SSL", "SASL_PLAINTEXT", "SASL_SSL"}:
        for name in controller_names:
            protocols.setdefault(name, SecurityProtocol.PLAINTEXT)


def _advertised_controllers(
    names: tuple[str, ...], told: tuple[EndPoint, ...], bound: tuple[EndPoint, ...], values: Mapping[str, Value]
) -> tuple[EndPoint, ...]:
    """For each name what is advertised, else what is bound; a wildcard becomes this voter's address, or no host."""
    result = []
    for index, name in enumerate(names):
        explicit = [each for each in told if each.name == name]
        for each in explicit or [each for each in bound if each.name == name]:
            if not explicit and each.host in ("", "0.0.0.0"):
                voter = _own_voter(values) if index == 0 else None
                host, port = voter or ("", each.port)
                result.append(msgspec.structs.replace(each, host=host, port=port))
            else:
                result.append(each)
    return tuple(result)


def _own_voter(values: Mapping[str, Value]) -> tuple[str, int] | None:
    """This node's host and port in controller.quorum.voters, if it is there."""
    for voter in _list(values, "controller.quorum.voters"):
        voter_id, _, address = voter.partition("@")
        if int(voter_id) == values["node.id"]:
            host, _, port = address.rpartition(":")
            return host.strip("[]"), int(port)
    return None


def _inter_broker_name(values: Mapping[str, Value], protocols: Mapping[str, SecurityProtocol]) -> str:
    """inter.broker.listener.name, or the listener named like security.inter.broker.protocol."""
    given = values["inter.broker.listener.name"]
    name = str(values["security.inter.broker.protocol"] if given is None else given).upper()
    if name not in protocols:
        raise ConfigError(f"inter.broker.listener.name: {name} is not in listener.security.protocol.map")
    return name


def _list(values: Mapping[str, Value], name: str) -> tuple[str, ...]:
    value = values[name]
    return value if isinstance(value, tuple) else ()
