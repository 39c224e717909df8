"""CreateAcls (API 30): add access control entries (KIP-140)."""

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Struct, message


class AclCreation(Struct):
    resource_type: Int8
    resource_name: str
    resource_pattern_type: Int8 = 3
    principal: str
    host: str
    operation: Int8
    permission_type: Int8


@message(key=30, versions="1-3", flexible="2+")
class CreateAclsRequest(Message):
    creations: list[AclCreation]


class AclCreationResult(Struct):
    error_code: Int16
    error_message: str | None


@message(key=30, versions="1-3", flexible="2+")
class CreateAclsResponse(Message):
    throttle_time_ms: Int32
    results: list[AclCreationResult]
