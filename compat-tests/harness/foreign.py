"""What Kafka's own tools put into a broker and kpybroker may not use yet: security, share groups and the like.

`make` puts it there; `listing` is what the tools tell of it, to be compared with what they tell later.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.java_clients import JavaClients
from harness.java_tools import (
    ACLS,
    CLIENT_METRICS,
    CONFIGS,
    CONSOLE_SHARE_CONSUMER,
    CONSUMER_GROUPS,
    DELEGATION_TOKENS,
    FEATURES,
    SHARE_GROUPS,
    STREAMS_GROUPS,
    TRANSACTIONS,
    Result,
    ToolHost,
    Tools,
)

JAAS = "org.apache.kafka.common.security.scram.ScramLoginModule required"
USER, PASSWORD = "alice", "alice-secret"
AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
VARYING = re.compile(r"Epoch: \d+|127\.0\.0\.1:\d+ *")
"""What the tools tell that differs from start to start: as of which offset, and on which port."""
SHARED = 7
"""How many records the share group takes."""

TOLD = {
    "ACLs": "permissionType=DENY",
    "users": "SCRAM-SHA-512=iterations=4096",
    "clients": "consumer_byte_rate=2000000.0",
    "ips": "connection_creation_rate=1000.0",
    "group configs": "share.auto.offset.reset=earliest",
    "client metrics": "interval.ms=5000",
    "tokens": "[User:bob]",
    "share groups": "sharing",
    "share groups' states": "sharing",
    "consumer groups": "modern",
    "consumer groups' states": "modern",
    "streams groups": "streaming",
    "features": "share.version",
    "transactions": "Ongoing",
}
"""A word that each part of the listing has: that the tools found what was made."""


def broker_settings(address: str, sasl_address: str, controller_port: int) -> dict[str, str]:
    """Settings of an Apache Kafka that has all this: a listener for SASL, an authorizer, a secret for tokens."""
    return {
        "listeners": (
            f"PLAINTEXT://{address},SASL_PLAINTEXT://{sasl_address},CONTROLLER://127.0.0.1:{controller_port}"
        ),
        "listener.security.protocol.map": ("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"),
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": f"{JAAS};",
        "authorizer.class.name": AUTHORIZER,
        "super.users": f"User:ANONYMOUS;User:{USER}",
        "allow.everyone.if.no.acl.found": "true",
        "delegation.token.secret.key": "the secret",
        "share.coordinator.state.topic.num.partitions": "2",
        "transaction.state.log.num.partitions": "2",
    }


class Foreign:
    """The tools, for one broker."""

    def __init__(self, tools: ToolHost, clients: JavaClients, address: str, sasl_address: str, folder: Path) -> None:
        self._host = tools
        self._tools = Tools(tools, address)
        self._clients = clients
        self._address = address
        self._sasl_address = sasl_address
        self._config = folder / "scram.properties"
        self._config.write_text("".join(f"{name}={value}\n" for name, value in self.sasl(USER, PASSWORD).items()))

    @staticmethod
    def sasl(user: str, password: str, more: str = "") -> dict[str, str]:
        """A client's settings to log in."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.jaas.config": f'{JAAS} username="{user}" password="{password}"{more};',
        }

    def make(self, topic: str, target: str) -> None:
        """Put all of it into the broker; groups of each type read `topic`, and Streams writes to `target`."""
        self._acls()
        self._users_and_quotas()
        self._configs(
            "--add-config", "metrics=org.apache.kafka.consumer.,interval.ms=5000", "client-metrics", "metrics"
        )
        self._token("--create", "--max-life-time-period", "-1", "--renewer-principal", "User:bob")
        self._share(topic)
        self._consume(topic)
        self._stream(topic, target)

    def _acls(self) -> None:
        add = self._tools.out
        add(ACLS, "--add", "--allow-principal", f"User:{USER}", "--operation", "All", "--topic", "*")
        prefixed = ("--topic", "orders-", "--resource-pattern-type", "prefixed")
        add(ACLS, "--add", "--deny-principal", "User:bob", "--deny-host", "10.0.0.1", "--operation", "Write", *prefixed)
        add(ACLS, "--add", "--allow-principal", "User:*", "--consumer", "--group", "group", "--topic", "t")
        add(ACLS, "--add", "--allow-principal", "User:bob", "--operation", "Alter", "--cluster")
        add(ACLS, "--remove", "--force", "--allow-principal", "User:*", "--operation", "Describe", "--topic", "t")

    def _users_and_quotas(self) -> None:
        # None is removed: Kafka 4.3.1 loses others of the mechanism when it replays the removal together with them.
        for user, mechanism in ((USER, "SCRAM-SHA-256"), (USER, "SCRAM-SHA-512"), ("bob", "SCRAM-SHA-512")):
            secret = f"{mechanism}=[iterations=4096,password={PASSWORD}]"
            self._configs("--add-config", secret, "users", user)
        self._configs("--add-config", "producer_byte_rate=1000000,request_percentage=200", "users", USER)
        self._configs("--add-config", "consumer_byte_rate=2000000", "clients", "some client")
        self._configs("--add-config", "connection_creation_rate=1000", "ips", "127.0.0.9")

    def _configs(self, what: str, value: str, kind: str, name: str) -> None:
        self._tools.out(CONFIGS, "--alter", what, value, "--entity-type", kind, "--entity-name", name)

    def _token(self, *arguments: str) -> str:
        settings = ("--bootstrap-server", self._sasl_address, "--command-config", str(self._config))
        return _out(self._tools.bare(DELEGATION_TOKENS, *settings, *arguments))

    def _tokens(self) -> str:
        return self._token("--describe", "--owner-principal", f"User:{USER}")

    def _share(self, topic: str) -> None:
        self._configs("--add-config", "share.auto.offset.reset=earliest", "groups", "sharing")
        arguments = ("--topic", topic, "--group", "sharing", "--max-messages", str(SHARED), "--timeout-ms", "30000")
        _out(self._tools(CONSOLE_SHARE_CONSUMER, *arguments))

    def _consume(self, topic: str) -> None:
        """By the consumer protocol."""
        with self._clients.consumer(self._address, group_id="modern", group_protocol="consumer") as consumer:
            consumer.subscribe([topic])
            self._clients.read(consumer, 5)
            consumer.commitSync()

    def _stream(self, topic: str, target: str) -> None:
        """A word count by the streams protocol."""
        state = str(self._config.parent / "streams")
        arguments = (self._address, "streaming", state, topic, target, "at_least_once", "streams")
        application = self._host.start("WordCount", *arguments)
        assert self._host.wait_for_lines([application], 2, 60), "REBALANCING, RUNNING"
        application.stop()
        application.result(60)

    def listing(self) -> dict[str, list[str]]:
        """What the tools tell; lines and words are sorted, as the tools go through hash tables."""
        out = self._tools.out
        told = {
            "ACLs": out(ACLS, "--list"),
            "users": out(CONFIGS, "--describe", "--entity-type", "users"),
            "clients": out(CONFIGS, "--describe", "--entity-type", "clients"),
            "ips": out(CONFIGS, "--describe", "--entity-type", "ips"),
            "group configs": out(CONFIGS, "--describe", "--entity-type", "groups", "--entity-name", "sharing"),
            "client metrics": out(CLIENT_METRICS, "--describe", "--name", "metrics"),
            "tokens": self._tokens(),
            "share groups": out(SHARE_GROUPS, "--describe", "--all-groups", "--offsets"),
            "share groups' states": out(SHARE_GROUPS, "--describe", "--all-groups", "--state"),
            "streams groups": out(STREAMS_GROUPS, "--list"),
            "consumer groups": out(CONSUMER_GROUPS, "--describe", "--group", "modern", "--offsets"),
            "consumer groups' states": out(CONSUMER_GROUPS, "--list", "--state"),
            "features": out(FEATURES, "describe"),
            "transactions": out(TRANSACTIONS, "list"),
        }
        return {name: sorted(map(_sorted_words, VARYING.sub("", text).splitlines())) for name, text in told.items()}

    def log_in(self) -> None:
        """By password, and by token. Raises: Py4JJavaError."""
        token = self._tokens().split("TOKENID")[1].splitlines()[-1].split()
        by_token = self.sasl(token[0], token[1], ' tokenauth="true"')
        for settings in (self.sasl(USER, PASSWORD), by_token):
            with self._clients.admin(self._sasl_address, **settings) as admin:
                assert admin.describeCluster().clusterId().get()


def _out(result: Result) -> str:
    assert result.code == 0, f"{result.out}\n{result.err}"
    return result.out


def _sorted_words(line: str) -> str:
    return " ".join(sorted(line.replace(",", " ").split()))
