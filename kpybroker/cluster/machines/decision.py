"""What a decision of the controller is made from, and what it comes to.

A decision function is pure: the image (with the records that are appended but not yet committed), the settings, the
request and the choices of chance go in; records and a response come out. Nothing has happened until the records are in
the log. A request that is declined as a whole raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from kpybroker.cluster.image import CLUSTER_DEFAULTS, ClusterImage, ResourceType
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.security.operations import CLUSTER_NAME, Operation, Resource
from kpybroker.wire.codes import Code, Refused

R = TypeVar("R")

RECORDS_MAX = 10_000
"""No user request may write more records: they are one batch, applied whole or not at all (as Kafka's limit)."""

PARTITIONS_MAX = 10_000
"""No CreateTopics request may ask for more partitions."""


class Decision(NamedTuple, Generic[R]):
    """Records to append as one batch (none: nothing changes) and the answer to give once they are committed."""

    records: Sequence[MetadataRecord]
    response: R


class EffectiveConfig(NamedTuple):
    """The value that a topic's setting has, all levels considered."""

    name: str
    value: str | None
    """None: it has none, or it is a secret."""
    source: int
    """Where it comes from, in the codes of DescribeConfigs (KIP-226)."""
    sensitive: bool


class LeadershipRules(NamedTuple):
    """The settings of a topic that decide about its leaders."""

    min_insync_replicas: int
    unclean_election: bool


class ConfigView(Protocol):
    """The node's configuration under certain dynamic configs: what a topic without settings of its own gets."""

    def check_topic(self, configs: Mapping[str, str], existing: Mapping[str, str]) -> None:
        """Check all settings that one topic is to have, together; `existing` are those it has now.

        Raises: Refused(INVALID_CONFIG) with Kafka's sentence.
        """

    def leadership(self, configs: Mapping[str, str]) -> LeadershipRules:
        """What decides about the leaders of a topic with these settings of its own."""

    def effective(self, configs: Mapping[str, str]) -> list[EffectiveConfig]:
        """All settings of a topic with these settings of its own."""


class ConfigRules(Protocol):
    """What the controller must know of settings: kept behind a protocol, because `config` owns them."""

    def under(self, *, cluster: Mapping[str, str], broker: Mapping[str, str]) -> ConfigView:
        """The node's configuration with the dynamic configs of all brokers and of this one."""

    def check_group(self, configs: Mapping[str, str]) -> None:
        """Check the settings of a group. Raises: Refused(INVALID_CONFIG)."""

    def check_client_metrics(self, name: str, configs: Mapping[str, str]) -> None:
        """Check a subscription of client metrics. Raises: Refused(INVALID_CONFIG or INVALID_REQUEST)."""

    def is_list(self, resource_type: int, name: str) -> bool:
        """True if values can be appended to and subtracted from the setting."""

    def default(self, resource_type: int, name: str) -> str | None:
        """What an unset setting of that kind of resource is, as text."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the node's own configuration tells its controller."""

    node_id: int
    cluster_id: str
    num_partitions: int
    default_replication_factor: int
    min_insync_replicas: int
    """The static value: what becomes the cluster's default when ELR is first enabled."""
    delete_topic_enable: bool
    rules: ConfigRules
    session_timeout_s: float = 9.0
    """After which a broker that sends no heartbeat is fenced."""
    rebalance_s: float | None = 300.0
    """How often preferred leaders are elected; None: only when somebody asks."""
    unclean_election_s: float = 300.0
    """How often leaders are sought for partitions that have none."""
    idle_s: float | None = 0.5
    """The longest that the metadata log stays as it is while others follow it; None: for ever."""


def _any_number(partitions: int) -> None:
    pass


def _everything(operation: Operation, resource: Resource, name: str) -> bool:  # noqa: ARG001 - the signature is Caller's
    return True


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: what a decision needs to know of a request besides its body."""

    api_version: int
    principal: str = "User:ANONYMOUS"
    forwarded: bool = True
    """The request came in on a broker's listener, not on a controller's: some checks and sentences differ."""
    allows: Callable[[Operation, Resource, str], bool] = _everything
    """Whether the principal has a right; asked without logging a denial, as it only filters."""
    mutate: Callable[[int], None] = _any_number
    """Count so many partitions as created or deleted. Raises: Refused(THROTTLING_QUOTA_EXCEEDED), KIP-599."""

    def may(self, operation: Operation, topic: str) -> bool:
        """Whether it may do this to one topic."""
        return self.allows(operation, Resource.TOPIC, topic)

    def may_group(self, operation: Operation, group: str) -> bool:
        """Whether it may do this to one group."""
        return self.allows(operation, Resource.GROUP, group)

    def may_cluster(self, operation: Operation) -> bool:
        """Whether it may do this to the cluster."""
        return self.allows(operation, Resource.CLUSTER, CLUSTER_NAME)


class State(NamedTuple):
    """What the controller knows when it decides."""

    image: ClusterImage
    """With everything that was appended, committed or not: decisions follow one another."""
    settings: Settings

    @property
    def configs(self) -> ConfigView:
        """The node's configuration as the image has it now: its dynamic configs count as defaults for topics."""
        image = self.image
        own = image.config(ResourceType.BROKER, str(self.settings.node_id))
        return self.settings.rules.under(cluster=image.configs.get(CLUSTER_DEFAULTS, {}), broker=own)


def error_of(refused: Refused) -> tuple[int, str | None]:
    """The error code and message of one item in a response. A message that says no more than the code is left out."""
    why = refused.why
    return int(refused.code), None if why == refused.code.message else why


def check_batch(records: Sequence[Any]) -> None:
    """Raises: Refused(POLICY_VIOLATION) if one request would write more than a batch may hold."""
    if len(records) > RECORDS_MAX:
        raise Refused(Code.POLICY_VIOLATION, "Unable to perform excessively large batch operation.")


def unique(names: Sequence[R]) -> tuple[list[R], list[R]]:
    """Names that are there once, and those that are there more often (each listed once), in their order."""
    counts: dict[R, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [name for name, n in counts.items() if n == 1], [name for name, n in counts.items() if n > 1]
