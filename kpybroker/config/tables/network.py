"""Broker settings: listeners, connections, and the threads that Kafka has for them."""

from __future__ import annotations

from typing import Final

from kpybroker.config.setting import (
    CLUSTER,
    INERT,
    INT,
    INT_MAX,
    LIST,
    LONG,
    PER_BROKER,
    STATIC,
    STRING,
    USED,
    Setting,
    at_least,
    items,
    some_items,
)

# fmt: off
# Rows to be read as a table: name, type, default, bounds, when it can be changed, whether it does anything here.

NETWORK: Final[tuple[Setting, ...]] = (
    Setting("listeners", LIST, ("PLAINTEXT://:9092",), some_items(), PER_BROKER, USED,
            "Where the node listens: NAME://host:port, comma-separated; an empty host means every interface."),
    Setting("advertised.listeners", LIST, None, some_items(), STATIC, USED,
            "The addresses that clients and other nodes are told to use; those of listeners if not given."),
    Setting("listener.security.protocol.map",
            STRING, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", None,
            PER_BROKER, USED,
            "NAME:PROTOCOL pairs saying how each listener is secured; protocols are their own names by default."),
    Setting("early.start.listeners", LIST, None, items(), STATIC, INERT,
            "Listeners that may open before the authorizer is ready; only the controller's if not given."),
    Setting("socket.request.max.bytes", INT, 104_857_600, at_least(1), STATIC, USED,
            "The largest request that is read; a connection that announces a larger one is closed."),
    Setting("socket.send.buffer.bytes", INT, 102_400, None, STATIC, INERT,
            "SO_SNDBUF of accepted connections; -1 leaves it to the operating system."),
    Setting("socket.receive.buffer.bytes", INT, 102_400, None, STATIC, INERT,
            "SO_RCVBUF of listening sockets; -1 leaves it to the operating system."),
    Setting("socket.listen.backlog.size", INT, 50, at_least(1), STATIC, USED,
            "How many connections the kernel keeps waiting to be accepted."),
    Setting("connections.max.idle.ms", LONG, 600_000, None, STATIC, USED,
            "A connection on which nothing has happened for so long is closed; a negative number means never."),
    Setting("connection.failed.authentication.delay.ms", INT, 100, at_least(0), STATIC, INERT,
            "How long the answer to a failed authentication is held back, to slow down guessing."),
    Setting("max.connections", INT, INT_MAX, at_least(0), CLUSTER, USED,
            "The most connections that the node accepts; also per listener, with the listener's prefix."),
    Setting("max.connections.per.ip", INT, INT_MAX, at_least(0), CLUSTER, USED,
            "The most connections from one address."),
    Setting("max.connections.per.ip.overrides", STRING, "", None, CLUSTER, USED,
            "Exceptions from max.connections.per.ip: address:count pairs."),
    Setting("max.connection.creation.rate", INT, INT_MAX, at_least(0), CLUSTER, USED,
            "The most new connections a second; also per listener, with the listener's prefix."),
    Setting("num.network.threads", INT, 3, at_least(1), CLUSTER, INERT,
            "Kafka's pool of network threads; one event loop reads and writes all connections here."),
    Setting("num.io.threads", INT, 8, at_least(1), CLUSTER, INERT,
            "Kafka's pool of request handlers; requests are carried out on the event loop here."),
    Setting("background.threads", INT, 10, at_least(1), CLUSTER, INERT,
            "Kafka's pool for background duties; these are tasks of the event loop here."),
    Setting("queued.max.requests", INT, 500, at_least(1), STATIC, INERT,
            "Kafka's bound on requests between its network and handler threads; there is no such queue here."),
    Setting("queued.max.request.bytes", LONG, -1, None, STATIC, INERT,
            "Kafka's bound on bytes between its network and handler threads; there is no such queue here."),
    Setting("request.timeout.ms", INT, 30_000, None, STATIC, USED,
            "How long the node waits for the answer to a request of its own before it tries again."),
    Setting("socket.connection.setup.timeout.ms", LONG, 10_000, None, STATIC, INERT,
            "How long the node waits for a connection of its own to be set up, at first."),
    Setting("socket.connection.setup.timeout.max.ms", LONG, 30_000, None, STATIC, INERT,
            "Up to how much that wait grows when attempts keep failing."),
)
