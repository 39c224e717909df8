"""Listeners: what parses into which end points, and what is refused in which words."""

from __future__ import annotations

import pytest

from kpybroker.config import BrokerConfig, ConfigError, EndPoint, SecurityProtocol
from kpybroker.config.listeners import parse_end_points, parse_protocols
from kpybroker.config.sources import listening_on

PLAIN = dict.fromkeys(("PLAINTEXT", "INTERNAL", "CONTROLLER"), SecurityProtocol.PLAINTEXT)


def end_points(*texts: str, distinct_ports: bool = True) -> list[tuple[str, str, int]]:
    parsed = parse_end_points("listeners", texts, PLAIN, distinct_ports=distinct_ports)
    return [(each.name, each.host, each.port) for each in parsed]


@pytest.mark.parametrize(
    ("text", "end_point", "written"),
    [
        pytest.param("PLAINTEXT://:9092", ("PLAINTEXT", "", 9092), None, id="no host: every interface"),
        pytest.param("PLAINTEXT://0.0.0.0:9092", ("PLAINTEXT", "0.0.0.0", 9092), None, id="every IPv4 interface"),
        pytest.param("PLAINTEXT://host-1.example_a:0", ("PLAINTEXT", "host-1.example_a", 0), None, id="a free port"),
        pytest.param("PLAINTEXT://[::1]:9092", ("PLAINTEXT", "::1", 9092), None, id="IPv6"),
        pytest.param("PLAINTEXT://[fe80::1%eth0]:9", ("PLAINTEXT", "fe80::1%eth0", 9), None, id="IPv6 with a zone"),
        pytest.param("internal://h:1", ("INTERNAL", "h", 1), "INTERNAL://h:1", id="names are capitals"),
    ],
)
def test_end_point(text: str, end_point: tuple[str, str, int], written: str | None) -> None:
    (parsed,) = parse_end_points("listeners", [text], PLAIN)
    assert (parsed.name, parsed.host, parsed.port) == end_point
    assert str(parsed) == (written or text)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["PLAINTEXT:9092"], "listeners: 'PLAINTEXT:9092' is not NAME://host:port (an IPv6 address in brackets)"),
        (["PLAINTEXT://h"], "listeners: 'PLAINTEXT://h' is not NAME://host:port (an IPv6 address in brackets)"),
        (["PLAINTEXT://::1:9092"], "'PLAINTEXT://::1:9092' is not NAME://host:port (an IPv6 address in brackets)"),
        (["PLAINTEXT://h:-1"], "listeners: 'PLAINTEXT://h:-1' is not NAME://host:port (an IPv6 address in brackets)"),
        (["PLAINTEXT://h:65536"], "listeners: 'PLAINTEXT://h:65536' has no valid port (0 to 65535)"),
        (["OTHER://h:1"], "listeners: listener OTHER has no protocol in listener.security.protocol.map"),
        (
            ["PLAINTEXT://h:1", "plaintext://h:2"],
            "listeners: each listener must have a different name, and PLAINTEXT is there twice",
        ),
        (
            ["PLAINTEXT://a:1", "INTERNAL://b:1"],
            "listeners: PLAINTEXT and INTERNAL share port 1; only an IPv4 address and an IPv6 address may share one",
        ),
        (["PLAINTEXT://127.0.0.1:1", "INTERNAL://b:1"], "share port 1"),
        (["PLAINTEXT://127.0.0.1:1", "INTERNAL://127.0.0.2:1"], "share port 1"),
        (["PLAINTEXT://127.0.0.1:1", "INTERNAL://[::1]:1", "CONTROLLER://h:1"], "share port 1"),
    ],
)
def test_refused(texts: list[str], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        end_points(*texts)
    assert why in str(refused.value)


def test_ports_that_may_be_the_same() -> None:
    assert end_points("PLAINTEXT://127.0.0.1:1", "INTERNAL://[::1]:1")
    assert end_points("PLAINTEXT://h:0", "INTERNAL://h:0")
    assert end_points("PLAINTEXT://a:1", "INTERNAL://b:1", distinct_ports=False)


def test_protocol_map() -> None:
    assert parse_protocols("") == {}
    assert parse_protocols(" a:PLAINTEXT , B:SASL_SSL,") == {
        "A": SecurityProtocol.PLAINTEXT,
        "B": SecurityProtocol.SASL_SSL,
    }
    for text in ("A", "A:plaintext", ":SSL", "A:"):
        with pytest.raises(ConfigError, match=r"listener\.security\.protocol\.map"):
            parse_protocols(text)


def load(**settings: str) -> BrokerConfig:
    return BrokerConfig.load(overrides={name.replace("_", "."): value for name, value in settings.items()})


def test_embedded_profile() -> None:
    reachable = load().reachable
    assert [str(each) for each in reachable.listening] == ["PLAINTEXT://localhost:9092", "CONTROLLER://localhost:9093"]
    assert [str(each) for each in reachable.brokers] == ["PLAINTEXT://localhost:9092"]
    assert [str(each) for each in reachable.controllers] == ["CONTROLLER://localhost:9093"]
    assert [str(each) for each in reachable.advertised] == ["PLAINTEXT://localhost:9092"]
    assert [str(each) for each in reachable.advertised_controllers] == ["CONTROLLER://localhost:9093"]
    assert reachable.controller_names == ("CONTROLLER",)
    assert reachable.inter_broker_name == "PLAINTEXT"


@pytest.mark.parametrize(
    ("host", "port", "listeners", "advertised"),
    [
        ("127.0.0.1", 9192, "PLAINTEXT://127.0.0.1:9192", "PLAINTEXT://127.0.0.1:9192"),
        ("::1", 0, "PLAINTEXT://[::1]:0", "PLAINTEXT://[::1]:0"),
        ("", 9092, "PLAINTEXT://:9092", "PLAINTEXT://:9092"),
        ("0.0.0.0", 9092, "PLAINTEXT://0.0.0.0:9092", "PLAINTEXT://:9092"),
        ("::", 9093, "PLAINTEXT://[::]:9093", "PLAINTEXT://:9093"),
    ],
)
def test_listening_elsewhere(host: str, port: int, listeners: str, advertised: str) -> None:
    reachable = BrokerConfig.load(overrides=listening_on(host, port)).reachable
    assert [str(each) for each in reachable.brokers] == [listeners]
    assert [str(each) for each in reachable.advertised] == [advertised]
    assert len(reachable.controllers) == 1


def test_what_is_advertised_defaults_to_where_it_listens() -> None:
    static = {
        "process.roles": "broker,controller",
        "node.id": "3",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": "3@voter.example:9193,4@other:9093",
        "listeners": "PLAINTEXT://one:9092,CONTROLLER://:9093",
    }
    reachable = BrokerConfig(static).reachable
    assert [str(each) for each in reachable.advertised] == ["PLAINTEXT://one:9092"]
    assert [str(each) for each in reachable.advertised_controllers] == ["CONTROLLER://voter.example:9193"]
    assert reachable.protocols["CONTROLLER"] is SecurityProtocol.PLAINTEXT, "not in the default map, and added"
    elsewhere = {**static, "controller.quorum.voters": "3@[::1]:9193"}
    assert [each.host for each in BrokerConfig(elsewhere).reachable.advertised_controllers] == ["::1"]
    bootstrap = {**static, "controller.quorum.bootstrap.servers": "h:1", "controller.quorum.voters": ""}
    bootstrap["listeners"] = "PLAINTEXT://one:9092,CONTROLLER://0.0.0.0:9093"
    assert [str(each) for each in BrokerConfig(bootstrap).reachable.advertised_controllers] == ["CONTROLLER://:9093"]


BROKER_ONLY = {
    "process_roles": "broker",
    "listeners": "PLAINTEXT://h:9092",
    "advertised_listeners": "PLAINTEXT://h:9092",
}
CONTROLLER_ONLY = {
    "process_roles": "controller",
    "listeners": "CONTROLLER://h:9093",
    "advertised_listeners": "CONTROLLER://h:9093",
}


def test_roles_alone() -> None:
    assert load(**BROKER_ONLY).reachable.controllers == ()
    assert load(**CONTROLLER_ONLY).reachable.brokers == ()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"listeners": "CONTROLLER://localhost:9093"},
            "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners",
        ),
        (
            {"advertised_listeners": "PLAINTEXT://0.0.0.0:9092"},
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.",
        ),
        (
            {"advertised_listeners": "CONTROLLER://localhost:9093"},
            "There must be at least one broker advertised listener. Perhaps all listeners appear in",
        ),
        (
            {"controller_listener_names": "NONE"},
            "controller.listener.names must contain at least one value appearing in the",
        ),
        (
            {"inter_broker_listener_name": "SSL"},
            "The valid options based on currently configured listeners are PLAINTEXT",
        ),
        ({"inter_broker_listener_name": "X"}, "inter.broker.listener.name: X is not in listener.security.protocol.map"),
        (
            {"security_inter_broker_protocol": "PLAINTEXT"},
            "inter.broker.listener.name and security.inter.broker.protocol exclude each other",
        ),
        (
            {"controller_quorum_bootstrap_servers": ""},
            "If using process.roles, either controller.quorum.bootstrap.servers must contain",
        ),
        (
            {"controller_quorum_voters": "2@h:1"},
            "the node id 1 must be included in the set of voters controller.quorum.voters=Set(2)",
        ),
        (
            {**BROKER_ONLY, "controller_quorum_voters": "1@h:1"},
            "the node id 1 must not be included in the set of voters",
        ),
        (
            {"process_roles": "broker"},
            "controller.listener.names must not contain a value appearing in the 'listeners' configuration",
        ),
        (
            {**BROKER_ONLY, "controller_listener_names": "C"},
            "Controller listener with name C defined in controller.listener.names not found in listener.security",
        ),
        (
            {**BROKER_ONLY, "controller_quorum_auto_join_enable": "true"},
            "controller.quorum.auto.join.enable is only supported when process.roles contains the 'controller' role.",
        ),
        (
            {**CONTROLLER_ONLY, "inter_broker_listener_name": "CONTROLLER"},
            "must not contain an explicitly set inter.broker.listener.name configuration value",
        ),
        (
            {"process_roles": "controller"},
            "The listeners config must only contain KRaft controller listeners from controller.listener.names",
        ),
        (
            {"listener_security_protocol_map": "PLAINTEXT:SSL,CONTROLLER:PLAINTEXT"},
            "listeners: PLAINTEXT is secured by SSL, and only PLAINTEXT is spoken here so far",
        ),
    ],
)
def test_listeners_that_do_not_fit_together(settings: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(**settings)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_wildcards() -> None:
    for host, wildcard in (("", True), ("0.0.0.0", True), ("::", True), ("localhost", False), ("127.0.0.1", False)):
        assert EndPoint(name="A", protocol=SecurityProtocol.PLAINTEXT, host=host, port=1).wildcard is wildcard
