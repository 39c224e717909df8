"""DeleteAcls (API 31): remove the access control entries that match filters (KIP-140)."""

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Struct, message


class DeleteAclsFilter(Struct):
    resource_type_filter: Int8
    resource_name_filter: str | None
    pattern_type_filter: Int8 = 3
    principal_filter: str | None
    host_filter: str | None
    operation: Int8
    permission_type: Int8


@message(key=31, versions="1-3", flexible="2+")
class DeleteAclsRequest(Message):
    filters: list[DeleteAclsFilter]


class DeleteAclsMatchingAcl(Struct):
    error_code: Int16
    error_message: str | None
    resource_type: Int8
    resource_name: str
    pattern_type: Int8 = 3
    principal: str
    host: str
    operation: Int8
    permission_type: Int8


class DeleteAclsFilterResult(Struct):
    error_code: Int16
    error_message: str | None
    matching_acls: list[DeleteAclsMatchingAcl]


@message(key=31, versions="1-3", flexible="2+")
class DeleteAclsResponse(Message):
    throttle_time_ms: Int32
    filter_results: list[DeleteAclsFilterResult]
