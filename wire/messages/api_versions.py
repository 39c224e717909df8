"""ApiVersions (API 18): what a node speaks and which features it has; a client's first request (KIP-35, KIP-584)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, Tag, message


@message(key=18, versions="0-5", flexible="3+")
class ApiVersionsRequest(Message):
    client_software_name: Annotated[str, Since(3), IGNORABLE] = ""  # KIP-511
    client_software_version: Annotated[str, Since(3), IGNORABLE] = ""
    cluster_id: Annotated[str | None, Since(5), IGNORABLE] = None
    node_id: Annotated[Int32, Since(5), IGNORABLE] = -1


class ApiVersion(Struct):
    api_key: Int16
    min_version: Int16
    max_version: Int16


class SupportedFeatureKey(Struct):
    name: str
    min_version: Int16
    max_version: Int16


class FinalizedFeatureKey(Struct):
    name: str
    max_version_level: Int16
    min_version_level: Int16


@message(key=18, versions="0-5", flexible="3+")
class ApiVersionsResponse(Message):
    error_code: Int16
    api_keys: list[ApiVersion]
    throttle_time_ms: Annotated[Int32, Since(1), IGNORABLE] = 0
    supported_features: Annotated[list[SupportedFeatureKey], Tag(0, since=3), IGNORABLE] = []  # KIP-584
    finalized_features_epoch: Annotated[Int64, Tag(1, since=3), IGNORABLE] = -1
    finalized_features: Annotated[list[FinalizedFeatureKey], Tag(2, since=3), IGNORABLE] = []  # KIP-584
    zk_migration_ready: Annotated[bool, Tag(3, since=3), IGNORABLE] = False
