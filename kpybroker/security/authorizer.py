"""Who may do what. Decides from the values it is handed; knows no connection and no cluster."""

from typing import Protocol

from kpybroker.security.operations import SUPPORTED_OPERATIONS, Operation, Resource
from kpybroker.security.principal import Principal

NOT_ASKED = -(2**31)
"""An authorized-operations field that the client did not ask for."""


class Authorizer(Protocol):
    """What a node asks before it carries something out."""

    def allows(self, principal: Principal, host: str, operation: Operation, resource: Resource, name: str) -> bool:
        """Whether `principal`, connected from `host`, may do `operation` to the resource `name`."""
        ...


class AllowAll:
    """The authorizer of a node whose `authorizer.class.name` is empty, as Kafka's: everybody may do everything."""

    def allows(self, principal: Principal, host: str, operation: Operation, resource: Resource, name: str) -> bool:  # noqa: ARG002
        """Always yes."""
        return True


def authorized_operations(
    authorizer: Authorizer, principal: Principal, host: str, resource: Resource, name: str
) -> int:
    """The bit field of what `principal` may do to a resource, bit n for the operation of code n (KIP-430)."""
    bits = 0
    for operation in SUPPORTED_OPERATIONS[resource]:
        if authorizer.allows(principal, host, operation, resource, name):
            bits |= 1 << operation
    return bits
