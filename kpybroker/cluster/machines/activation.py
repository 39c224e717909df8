"""What a controller writes first when it becomes the active one."""

from __future__ import annotations

from collections.abc import Sequence

from kpybroker.cluster.features import (
    CONTROLLER_REGISTRATION_SINCE,
    ELR_VERSION,
    METADATA_VERSION,
    METADATA_VERSION_MAX,
    SUPPORTED,
    TRANSACTIONS_SINCE,
)
from kpybroker.cluster.image import ClusterImage, Endpoint, ResourceType
from kpybroker.cluster.machines.config_changes import MIN_INSYNC_REPLICAS
from kpybroker.cluster.machines.decision import State
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.internal.metadata_records import (
    AbortTransactionRecord,
    BeginTransactionRecord,
    ConfigRecord,
    ControllerEndpoint,
    ControllerFeature,
    EndTransactionRecord,
    FeatureLevelRecord,
    RegisterControllerRecord,
)


def activation_records(
    state: State, bootstrap: Sequence[MetadataRecord], *, transaction_open: bool
) -> list[MetadataRecord]:
    """End what a former controller left half done, and start an empty cluster with the records of its format.

    `transaction_open`: the log ends within a transaction. `bootstrap`: what bootstrap.checkpoint holds.
    """
    records: list[MetadataRecord] = []
    if transaction_open:
        records.append(AbortTransactionRecord(reason="Controller failover"))
    if state.image.features.metadata_version is not None:
        return records
    level = next(
        (
            each.feature_level
            for each in bootstrap
            if isinstance(each, FeatureLevelRecord) and each.name == METADATA_VERSION
        ),
        METADATA_VERSION_MAX,
    )
    whole = level >= TRANSACTIONS_SINCE
    records += [BeginTransactionRecord(name="Bootstrap records"), *bootstrap] if whole else bootstrap
    if any(
        isinstance(record, FeatureLevelRecord) and record.name == ELR_VERSION and record.feature_level > 0
        for record in bootstrap
    ):
        # ELR rests on one min.insync.replicas for all brokers (KIP-966): the static value becomes the cluster's.
        records.append(
            ConfigRecord(
                resource_type=ResourceType.BROKER,
                resource_name="",
                name=MIN_INSYNC_REPLICAS,
                value=str(state.settings.min_insync_replicas),
            )
        )
    return [*records, EndTransactionRecord()] if whole else records


def registration_of_controller(
    image: ClusterImage, *, node_id: int, incarnation_id: bytes, endpoints: Sequence[Endpoint]
) -> list[MetadataRecord]:
    """A controller's registration (KIP-919): nothing if the cluster's metadata.version is older than that."""
    if (image.features.metadata_version or 0) < CONTROLLER_REGISTRATION_SINCE:
        return []
    return [
        RegisterControllerRecord(
            controller_id=node_id,
            incarnation_id=incarnation_id,
            zk_migration_ready=False,
            end_points=[
                ControllerEndpoint(
                    name=endpoint.name,
                    host=endpoint.host,
                    port=endpoint.port,
                    security_protocol=endpoint.security_protocol,
                )
                for endpoint in endpoints
            ],
            features=[
                ControllerFeature(name=name, min_supported_version=low, max_supported_version=high)
                for name, (low, high) in SUPPORTED.items()
            ],
        )
    ]
