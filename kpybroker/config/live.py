"""LiveConfig: a running node's configuration, as what it was started with and the cluster's metadata make it.

The metadata's settings for all brokers and for this one change while the node runs. Each change makes a new
BrokerConfig; whoever must act on one is called back with the old and the new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from kpybroker.config.broker import BrokerConfig
from kpybroker.config.errors import ConfigError

log = logging.getLogger("kpybroker.config")

Changed = Callable[[BrokerConfig, BrokerConfig], None]
"""What is called at a change, with the old and the new configuration."""


class LiveConfig:
    """The configuration in force. Belongs to the node's event loop."""

    def __init__(self, config: BrokerConfig) -> None:
        self.current = config
        """The configuration in force; another object after each change."""
        self._callbacks: list[Changed] = []

    def on_change(self, callback: Changed) -> None:
        """Call `callback` after each change from now on, in the order in which callbacks were given."""
        self._callbacks.append(callback)

    def update(self, new: BrokerConfig) -> None:
        """Put `new` in force, and tell everybody."""
        old, self.current = self.current, new
        for callback in self._callbacks:
            callback(old, new)

    def follow(self, *, cluster: Mapping[str, str], broker: Mapping[str, str]) -> None:
        """The metadata sets `cluster` for all brokers, and `broker` for this one: obey, as far as it can be done."""
        now = self.current
        new, problems = applied(now, cluster=cluster, broker=broker)
        for problem in problems:
            log.warning("%s", problem)
        if new is not now:
            self.update(new)


def applied(
    now: BrokerConfig, *, cluster: Mapping[str, str], broker: Mapping[str, str]
) -> tuple[BrokerConfig, list[str]]:
    """A configuration with these dynamic settings instead of its own (itself, if they are the same), and its problems.

    What cannot be obeyed is left out, as Kafka does with what it finds in its log. If the whole would not be valid, one
    of the two is taken if it can be, else neither: a stored setting never stops a node.
    """
    problems = []
    for default, own in ((cluster, broker), (cluster, now.dynamic_broker), (now.dynamic_default, broker)):
        try:
            new = now.with_dynamic(default=default, broker=own)
        except ConfigError as error:
            problems.append(f"the cluster's settings of this broker cannot be applied: {error}")
            continue
        problems += new.warnings
        same = (new.dynamic_default, new.dynamic_broker) == (now.dynamic_default, now.dynamic_broker)
        return now if same else new, problems
    return now, problems
