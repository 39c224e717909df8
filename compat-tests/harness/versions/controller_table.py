"""The cases of a controller by itself, by name: the API that they are about, and what asks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.versions import (
    controller_cases,
    controller_feature_stories,
    controller_placement_stories,
    controller_stories,
)
from harness.versions.controller_world import ControllerWorld
from harness.versions.world import Answer
from kpybroker.wire.api_keys import APIS, ApiKey


@dataclass(frozen=True)
class ControllerCase:
    """`ask(world, version)` gives the answers at one version, as one JSON value."""

    api: ApiKey
    ask: Callable[[ControllerWorld, int], Answer]
    since: int = 0

    def versions(self) -> range:
        """The versions that Apache Kafka 4.3.1 serves on its controller's listener."""
        served = APIS[self.api].served_controller
        assert served is not None
        return range(max(self.since, served[0]), served[1] + 1)


def _story(ask: Callable[[ControllerWorld], Answer]) -> ControllerCase:
    """One that is told once: it is about several APIs."""
    return ControllerCase(ApiKey.BROKER_HEARTBEAT, lambda world, _: ask(world), since=2)


CASES: Final = {
    "broker-registration": ControllerCase(ApiKey.BROKER_REGISTRATION, controller_cases.broker_registration),
    "former-incarnations": ControllerCase(ApiKey.BROKER_REGISTRATION, controller_cases.former_incarnations),
    "broker-heartbeat": ControllerCase(ApiKey.BROKER_HEARTBEAT, controller_cases.broker_heartbeat),
    "directories-in-heartbeats": ControllerCase(
        ApiKey.BROKER_HEARTBEAT, controller_cases.directories_in_heartbeats, since=1
    ),
    "assign-replicas-to-dirs": ControllerCase(ApiKey.ASSIGN_REPLICAS_TO_DIRS, controller_cases.assign_replicas_to_dirs),
    "alter-partition": ControllerCase(ApiKey.ALTER_PARTITION, controller_cases.alter_partition),
    "allocate-producer-ids": ControllerCase(ApiKey.ALLOCATE_PRODUCER_IDS, controller_cases.allocate_producer_ids),
    "unregister-broker": ControllerCase(ApiKey.UNREGISTER_BROKER, controller_cases.unregister_broker),
    "elect-leaders": ControllerCase(ApiKey.ELECT_LEADERS, controller_cases.elect_leaders),
    "alter-partition-reassignments": ControllerCase(
        ApiKey.ALTER_PARTITION_REASSIGNMENTS, controller_cases.alter_partition_reassignments
    ),
    "envelope": ControllerCase(ApiKey.ENVELOPE, controller_cases.envelope),
    "describe-cluster": ControllerCase(ApiKey.DESCRIBE_CLUSTER, controller_cases.describe_cluster),
    "voters-refused": ControllerCase(ApiKey.UPDATE_RAFT_VOTER, controller_cases.voters_refused),
    "eligible-leaders": _story(controller_stories.eligible_leaders),
    "min-insync-replicas-change": _story(controller_stories.min_insync_replicas_change),
    "unclean-elections": _story(controller_stories.unclean_elections),
    "controlled-shutdown": _story(controller_stories.controlled_shutdown),
    "reassignments": _story(controller_stories.reassignments),
    "alterations": _story(controller_stories.alterations),
    "folders-fail": _story(controller_stories.folders_fail),
    "placement": _story(controller_placement_stories.placement),
    "racks": _story(controller_placement_stories.racks),
    "over-the-controllers-listener": _story(controller_stories.over_the_controllers_listener),
    "features-of-all": ControllerCase(ApiKey.UPDATE_FEATURES, controller_feature_stories.features_of_all, since=1),
    "elr-is-disabled": ControllerCase(ApiKey.UPDATE_FEATURES, controller_feature_stories.elr_is_disabled, since=2),
    "other-controllers": ControllerCase(ApiKey.CONTROLLER_REGISTRATION, controller_feature_stories.other_controllers),
}
"""The last one leaves controllers behind that nobody can unregister."""

OLD_RELEASE: Final = "3.9-IV0"
"""The oldest metadata.version that a quorum with kraft.version 1 may have."""

OLD: Final = {
    **{
        name: CASES[name]
        for name in (
            "former-incarnations",
            "alter-partition",
            "elect-leaders",
            "eligible-leaders",
            "unclean-elections",
            "controlled-shutdown",
            "reassignments",
            "alterations",
            "folders-fail",
        )
    },
    "upgrades": _story(controller_feature_stories.upgrades),
}
"""What is asked of a cluster with that metadata.version, at the last version of each API; the last one raises it."""
