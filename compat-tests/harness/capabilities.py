"""What a broker can do yet, by name: the one place where the tests know that kpybroker is not finished.

A test says what it takes with @pytest.mark.needs("..."). Apache Kafka has everything, and an outside broker is taken to
have it. What kpybroker does not have is listed here with why; such a test is expected to fail there, strictly: once it
passes, it fails as "unexpectedly passing" until the line is taken out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CAPABILITIES: Final = {
    "kafka-topics --create",
    "kafka-topics --list",
    "kafka-topics --describe",
    "kafka-topics --delete",
    "kafka-broker-api-versions",
    "kafka-get-offsets",
    "kafka-consumer-groups --describe",
    "admin describe configs",
    "admin list groups",
    "admin alter configs",
    "admin delete records",
    "admin describe log dirs",
    "admin alter replica log dirs",
    "admin elect leaders",
    "admin reassignments",
    "admin describe producers",
    "admin quotas",
    "admin list config resources",
    "admin update features",
    "admin describe quorum",
}

NOT_YET_IN_KPYBROKER: Final = {
    "kafka-topics --describe": "DescribeConfigs, ListPartitionReassignments",
    "admin describe configs": "DescribeConfigs",
    "admin alter configs": "AlterConfigs, IncrementalAlterConfigs, DescribeConfigs",
    "admin delete records": "DeleteRecords",
    "admin describe log dirs": "DescribeLogDirs",
    "admin alter replica log dirs": "AlterReplicaLogDirs, DescribeLogDirs",
    "admin elect leaders": "ElectLeaders",
    "admin reassignments": "AlterPartitionReassignments, ListPartitionReassignments",
    "admin describe producers": "DescribeProducers",
    "admin quotas": "AlterClientQuotas, DescribeClientQuotas",
    "admin list config resources": "ListConfigResources",
    "admin update features": "UpdateFeatures",
    "admin describe quorum": "DescribeQuorum",
}
"""Capability -> the APIs that it waits for."""


def missing_on(kind: str, capabilities: Iterable[str]) -> list[str]:
    """Those of the capabilities that this kind of broker does not have. Raises: KeyError for an unknown capability."""
    unknown = set(capabilities) - CAPABILITIES
    if unknown:
        raise KeyError(f"not in harness/capabilities.py: {sorted(unknown)}")
    if kind != "kpybroker":
        return []
    return [f"{each} (needs {NOT_YET_IN_KPYBROKER[each]})" for each in capabilities if each in NOT_YET_IN_KPYBROKER]
