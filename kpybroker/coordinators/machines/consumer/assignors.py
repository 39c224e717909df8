"""The server-side assignors of consumer groups: which member is to have which partitions in the end (KIP-848).

Both come to Kafka's results: see java_order.py for why that takes more than Kafka's rules. Racks play no part.
"""

from __future__ import annotations

import enum

from kpybroker.coordinators.machines.consumer.assignment import Assignment, GroupSpec
from kpybroker.coordinators.machines.consumer.range_assignor import assign_ranges
from kpybroker.coordinators.machines.consumer.uniform_heterogeneous import Balance
from kpybroker.coordinators.machines.consumer.uniform_homogeneous import assign_evenly


class Assignor(enum.StrEnum):
    """The assignors by name."""

    UNIFORM = "uniform"
    RANGE = "range"


def assign(assignor: Assignor, spec: GroupSpec) -> Assignment:
    """A new assignment for the group."""
    if not spec.members:
        return {}
    if assignor is Assignor.RANGE:
        return assign_ranges(spec)
    if spec.homogeneous:
        return assign_evenly(spec)
    return Balance(spec).assign()
