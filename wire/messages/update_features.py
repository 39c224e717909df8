"""UpdateFeatures (API 57): raise or lower finalized feature levels (KIP-584)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int8, Int16, Int32, Message, Since, Struct, Versions, message


class FeatureUpdateKey(Struct):
    feature: str
    max_version_level: Int16
    allow_downgrade: Annotated[bool, Versions("0")] = False
    upgrade_type: Annotated[Int8, Since(1)] = 1


@message(key=57, versions="0-2", flexible="0+")
class UpdateFeaturesRequest(Message):
    timeout_ms: Int32 = 60000
    feature_updates: list[FeatureUpdateKey]
    validate_only: Annotated[bool, Since(1)] = False


class UpdatableFeatureResult(Struct):
    feature: str
    error_code: Int16
    error_message: str | None


@message(key=57, versions="0-2", flexible="0+")
class UpdateFeaturesResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None
    results: Annotated[list[UpdatableFeatureResult], Versions("0-1"), IGNORABLE] = []
