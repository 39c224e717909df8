"""UpdateFeatures: raise or lower finalized feature levels (KIP-584, KIP-778, KIP-1022).

All updates of a request are made, or none. A level must be supported by this controller, by every registered broker and
by every registered controller. metadata.version goes down only as far as no version in between has changed the
metadata's records: what they say could not be kept otherwise. kraft.version only goes up, and is no record of the
metadata but the quorum's own: the caller writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from kpybroker.cluster.features import (
    CONTROLLER_REGISTRATION_SINCE,
    DEPENDENCIES,
    ELR_VERSION,
    KRAFT_VERSION,
    METADATA_CHANGED_AT,
    METADATA_VERSION,
    SUPPORTED,
)
from kpybroker.cluster.image import CLUSTER_DEFAULTS, ClusterImage, ResourceType
from kpybroker.cluster.machines.config_changes import MIN_INSYNC_REPLICAS
from kpybroker.cluster.machines.decision import State
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import ConfigRecord, FeatureLevelRecord, NoOpRecord
from kpybroker.wire.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

RESULTS_UNTIL = 1
"""The last version whose response has a result for each feature."""

_DISABLED = (0, 0)


class UpgradeType(IntEnum):
    """Which way a level may go. Version 0 of the request, which knows only downgrades allowed or not, only goes up."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureDecision(NamedTuple):
    """What an UpdateFeatures request comes to."""

    records: Sequence[MetadataRecord]
    upgrade_kraft: bool
    """The quorum is to go from kraft.version 0 to 1, before the records are written."""
    response: UpdateFeaturesResponse


class QuorumLevel(NamedTuple):
    """What a decision about features needs to know of the quorum."""

    kraft_version: int
    voters: Sequence[int]


def update_features(
    state: State, request: UpdateFeaturesRequest, quorum: QuorumLevel, *, api_version: int
) -> FeatureDecision:
    """Decide an UpdateFeatures request (v0 to 2). A feature that is named twice gets the last level."""
    updates = {update.feature: update for update in request.feature_updates}
    try:
        records = _Updates(state, quorum, updates).records()
    except Refused as refused:
        why = f"The update failed for all features since the following feature had an error: {refused.message}"
        return FeatureDecision([], False, _response(refused.code, why, []))
    results = []
    if api_version <= RESULTS_UNTIL:
        results = [
            UpdatableFeatureResult(feature=update.feature, error_code=Code.NONE, error_message="NONE")
            for update in request.feature_updates
        ]
    response = _response(Code.NONE, None, results)
    if request.validate_only:
        return FeatureDecision([], False, response)
    wanted = updates.get(KRAFT_VERSION)
    return FeatureDecision(records, wanted is not None and wanted.max_version_level > quorum.kraft_version, response)


def _response(code: Code, why: str | None, results: list[UpdatableFeatureResult]) -> UpdateFeaturesResponse:
    return UpdateFeaturesResponse(throttle_time_ms=0, error_code=code, error_message=why, results=results)


class _Updates:
    """The updates of one request."""

    def __init__(self, state: State, quorum: QuorumLevel, updates: Mapping[str, FeatureUpdateKey]) -> None:
        self._state = state
        self._quorum = quorum
        self._updates = updates
        levels = {**state.image.features.levels, KRAFT_VERSION: quorum.kraft_version}
        self._current = levels
        self._proposed = {**levels, **{name: update.max_version_level for name, update in updates.items()}}

    def records(self) -> list[MetadataRecord]:
        """The records of all updates. Raises: Refused(INVALID_UPDATE_VERSION) for the first that can't be."""
        records = [record for update in self._updates.values() for record in self._record(update)]
        elr = self._updates.get(ELR_VERSION)
        if elr is not None and elr.max_version_level > 0:
            return [*_one_min_insync_replicas(self._state), *records]
        return records

    def _record(self, update: FeatureUpdateKey) -> list[MetadataRecord]:
        name, level = update.feature, update.max_version_level
        try:
            upgrade_type = UpgradeType(update.upgrade_type)
        except ValueError:
            raise _invalid(update, "The controller does not support the given upgrade type.") from None
        if level < 0:
            raise _invalid(update, "A feature version cannot be less than 0.")
        self._check_supported(update)
        self._check_direction(update, upgrade_type)
        if name == METADATA_VERSION:
            _check_metadata(self._current[name], level, unsafe=upgrade_type is UpgradeType.UNSAFE_DOWNGRADE)
        elif name == KRAFT_VERSION:
            if upgrade_type is not UpgradeType.UPGRADE:
                return []
            return [NoOpRecord()]  # so that there is an offset to wait for
        else:
            self._check_dependencies(update)
        return [FeatureLevelRecord(name=name, feature_level=level)]

    def _check_supported(self, update: FeatureUpdateKey) -> None:
        """By this controller, and by all brokers and controllers that have registered."""
        name, me = update.feature, self._state.settings.node_id
        _check_node(update, f"Local controller {me}", SUPPORTED.get(name, _DISABLED))
        image = self._state.image
        for broker in image.brokers.values():
            _check_node(update, f"Broker {broker.id}", broker.features.get(name, _DISABLED))
        if (image.features.metadata_version or 0) < CONTROLLER_REGISTRATION_SINCE:
            return
        for controller in image.controllers.values():
            if controller.id != me:
                _check_node(update, f"Controller {controller.id}", controller.features.get(name, _DISABLED))
        for voter in self._quorum.voters:
            if voter != me and voter not in image.controllers:
                raise _invalid(update, f"controller {voter} has not registered, and may not support this feature")

    def _check_direction(self, update: FeatureUpdateKey, upgrade_type: UpgradeType) -> None:
        current = self._current.get(update.feature, 0)
        if update.max_version_level < current and upgrade_type is UpgradeType.UPGRADE:
            raise _invalid(
                update,
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe "
                "downgrade.",
            )
        if update.max_version_level > current and upgrade_type is not UpgradeType.UPGRADE:
            raise _invalid(update, "Can't downgrade to a newer version.")
        if update.feature == KRAFT_VERSION and update.max_version_level < current:
            raise _invalid(update, "Can't downgrade the version of this feature.")

    def _check_dependencies(self, update: FeatureUpdateKey) -> None:
        name, level = update.feature, update.max_version_level
        if name not in SUPPORTED:  # at level 0 everybody supports what nobody knows
            raise _invalid(update, f"Feature {name} not found.")
        for other, least in DEPENDENCIES.get((name, level), {}).items():
            if self._proposed.get(other, 0) < least:
                raise _invalid(
                    update, f"{name} could not be set to {level} because it depends on {other} level {least}"
                )


def _invalid(update: FeatureUpdateKey, why: str) -> Refused:
    level = update.max_version_level
    return Refused(Code.INVALID_UPDATE_VERSION, f"Invalid update version {level} for feature {update.feature}. {why}")


def _check_node(update: FeatureUpdateKey, who: str, supported: tuple[int, int]) -> None:
    low, high = supported
    if low <= update.max_version_level <= high:
        return
    if high == 0:
        raise _invalid(update, f"{who} does not support this feature.")
    raise _invalid(update, f"{who} only supports versions {low if low == high else f'{low}-{high}'}")


def _check_metadata(current: int, wanted: int, *, unsafe: bool) -> None:
    """Raises: Refused(INVALID_UPDATE_VERSION) if records might say what the version cannot hold."""
    if not any(wanted < changed <= current for changed in METADATA_CHANGED_AT):
        return
    why = (
        "Unsafe metadata downgrade is not supported in this version."
        if unsafe
        else "Refusing to perform the requested downgrade because it might delete metadata information."
    )
    raise Refused(
        Code.INVALID_UPDATE_VERSION, f"Unsupported metadata.version downgrade from {current} to {wanted}. {why}"
    )


def _one_min_insync_replicas(state: State) -> Iterable[ConfigRecord]:
    """ELR rests on one min.insync.replicas for all brokers (KIP-966)."""
    image: ClusterImage = state.image

    def record(broker: str, value: str | None) -> ConfigRecord:
        return ConfigRecord(
            resource_type=ResourceType.BROKER, resource_name=broker, name=MIN_INSYNC_REPLICAS, value=value
        )

    if MIN_INSYNC_REPLICAS not in image.configs.get(CLUSTER_DEFAULTS, {}):
        yield record("", str(state.settings.min_insync_replicas))
    for resource, configs in image.configs.items():
        if resource.type == ResourceType.BROKER and resource.name and MIN_INSYNC_REPLICAS in configs:
            yield record(resource.name, None)
