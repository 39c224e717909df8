"""A broker's life as the controller sees it: registered, unfenced, shutting down, fenced (KIP-631, KIP-841, KIP-966).

    (none) --register--> FENCED --heartbeat, caught up--> UNFENCED --wants to shut down--> CONTROLLED SHUTDOWN
                           ^                                 |  leads nothing: straight to FENCED     |
                           '---- fenced: told to stop -------+---- nothing led, others caught up -----'

Fencing takes the broker out of every ISR and elects other leaders; a replica that was the last one stays eligible
(ELR). Registering as a new incarnation first deals with what the former one left: if it did not stop cleanly its data
may be short, so it is no longer eligible either. Unfencing gives leaders to partitions that had none.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kpybroker.cluster.features import CORDONED_DIRECTORIES_SINCE, DIRECTORIES_SINCE, METADATA_VERSION
from kpybroker.cluster.image import MIGRATING_DIRECTORY, BrokerImage, ClusterImage
from kpybroker.cluster.machines.decision import Decision, State
from kpybroker.cluster.machines.leadership import (
    in_directory,
    in_elr,
    in_isr,
    leader_changes,
    leaderless,
    leads_any,
)
from kpybroker.cluster.machines.listeners import checked
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import (
    BrokerEndpoint,
    BrokerFeature,
    BrokerRegistrationChangeRecord,
    RegisterBrokerRecord,
)
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from kpybroker.wire.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse
from kpybroker.wire.primitives import uuid_text

FENCE, UNFENCE = 1, -1
"""Values of `BrokerRegistrationChangeRecord.fenced`."""

_RESERVED_DIRECTORIES_BELOW = (100).to_bytes(16, "big")


class BrokerSession(msgspec.Struct, kw_only=True):
    """What the controller knows of a broker only as long as it leads; a new controller starts without."""

    registered_at: int
    """Offset of the RegisterBroker record: who has applied metadata up to it knows that it is registered."""
    epoch: int = -1
    """Of the registration that the session is of."""
    heard_s: float | None = None
    """When the last heartbeat came; None: none that counts, so there is no session that could run out."""
    heartbeats: int = 0
    metadata_offset: int = -1
    """How far the broker said it has applied the metadata log."""
    shutdown_offset: int | None = None
    """End of the batch that moved its leaders away; it may go once all others have applied that."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What a heartbeat comes to."""

    response: BrokerHeartbeatResponse
    shutting_down: bool
    """The broker is in controlled shutdown after this; the end of the batch is its `shutdown_offset` if it has none."""


def fence(state: State, broker_id: int) -> list[MetadataRecord]:
    """Take a broker out of service. The broker must be registered."""
    broker = state.image.brokers[broker_id]
    changes = leader_changes(state, in_isr(state.image, broker_id), gone=broker_id)
    return [*changes, _change(broker, fenced=FENCE)]


def unfence(state: State, broker: BrokerImage) -> list[MetadataRecord]:
    """Take a broker into service, and let it lead what nobody leads."""
    return [_change(broker, fenced=UNFENCE), *leader_changes(state, leaderless(state.image), came=broker.id)]


def begin_shutdown(state: State, broker: BrokerImage) -> list[MetadataRecord]:
    """Move leaders away from a broker that wants to stop. It stays unfenced until it has handed over."""
    changes = leader_changes(state, in_isr(state.image, broker.id), gone=broker.id)
    if broker.in_controlled_shutdown:
        return list(changes)
    record = BrokerRegistrationChangeRecord(broker_id=broker.id, broker_epoch=broker.epoch, in_controlled_shutdown=1)
    return [record, *changes]


def former_incarnation(state: State, broker_id: int, *, clean: bool) -> list[MetadataRecord]:
    """What the former incarnation of a broker that registers anew still holds is taken from it."""
    image = state.image
    if clean or not image.features.elr_enabled:
        return list(leader_changes(state, in_isr(image, broker_id), gone=broker_id))
    return [
        *leader_changes(state, in_isr(image, broker_id), lost_data=broker_id),
        *leader_changes(state, in_elr(image, broker_id), lost_data=broker_id),
    ]


def register_broker(
    state: State,
    request: BrokerRegistrationRequest,
    *,
    api_version: int,
    next_offset: int,
    finalized: Mapping[str, int],
    former_lives: bool = False,
) -> Decision[BrokerRegistrationResponse]:
    """Decide a BrokerRegistration request (v0 to 4). `next_offset` becomes the epoch of a new incarnation.

    `finalized`: the finalized feature levels, kraft.version among them; the broker must support each. `former_lives`:
    the session of who is registered lasts, though it may be fenced (it is starting).
    Raises: Refused, with the codes that Kafka's controller answers.
    """
    existing = state.image.brokers.get(request.broker_id)
    same = existing if existing is not None and existing.incarnation_id == request.incarnation_id else None
    lives = existing is not None and (former_lives or not existing.fenced)
    _check_registration(state, request, replaces_living=same is None and lives)
    with_directories = (state.image.features.metadata_version or 0) >= DIRECTORIES_SINCE
    if with_directories:
        _check_directories(state.image, request)
    _check_features(request, finalized)
    record = RegisterBrokerRecord(
        broker_id=request.broker_id,
        is_migrating_zk_broker=False,
        incarnation_id=request.incarnation_id,
        broker_epoch=same.epoch if same is not None else next_offset,
        end_points=[
            BrokerEndpoint(name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol)
            for point in checked(request.listeners)
        ],
        features=[
            BrokerFeature(
                name=feature.name,
                min_supported_version=feature.min_supported_version,
                max_supported_version=feature.max_supported_version,
            )
            for feature in request.features
        ],
        rack=request.rack,
        fenced=same.fenced if same is not None else True,
        in_controlled_shutdown=same is not None and same.in_controlled_shutdown,
        log_dirs=list(request.log_dirs) if with_directories else [],
        cordoned_log_dirs=None,
    )
    records: list[MetadataRecord] = [record]
    if same is None:
        told = api_version >= 3 and existing is not None and existing.epoch == request.previous_broker_epoch
        records = [*former_incarnation(state, request.broker_id, clean=told), record]
    response = BrokerRegistrationResponse(throttle_time_ms=0, error_code=Code.NONE, broker_epoch=record.broker_epoch)
    return Decision(records, response)


def _check_registration(state: State, request: BrokerRegistrationRequest, *, replaces_living: bool) -> None:
    """Whether the broker is of this cluster, and the only one of its id."""
    if request.cluster_id != state.settings.cluster_id:
        raise Refused(
            Code.INCONSISTENT_CLUSTER_ID,
            f"Expected cluster ID {state.settings.cluster_id}, but got cluster ID {request.cluster_id}",
        )
    if replaces_living:
        raise Refused(
            Code.DUPLICATE_BROKER_REGISTRATION,
            "Another broker is registered with that broker id. If the broker was recently restarted this should "
            "self-resolve once the heartbeat manager expires the broker's session.",
        )
    if request.is_migrating_zk_broker:
        raise Refused(Code.BROKER_ID_NOT_REGISTERED, "Controller does not support registering ZK brokers.")


def _check_directories(image: ClusterImage, request: BrokerRegistrationRequest) -> None:
    directories = request.log_dirs
    if not directories:
        raise Refused(Code.INVALID_REGISTRATION, "No directories specified in request")
    if any(MIGRATING_DIRECTORY <= directory < _RESERVED_DIRECTORIES_BELOW for directory in directories):
        raise Refused(Code.INVALID_REGISTRATION, "Reserved directory ID in request")
    if len(set(directories)) != len(directories):
        raise Refused(Code.INVALID_REGISTRATION, "Duplicate directory ID in request")
    for broker in image.brokers.values():
        if broker.id != request.broker_id and (taken := set(directories) & set(broker.directories)):
            raise Refused(
                Code.INVALID_REGISTRATION,
                f"Broker {broker.id} is already registered with directory {uuid_text(taken.pop())}",
            )


def _check_features(request: BrokerRegistrationRequest, finalized: Mapping[str, int]) -> None:
    """The broker must support the finalized level of every feature; one it does not name it supports at 0 only."""
    supported = {
        feature.name: (feature.min_supported_version, feature.max_supported_version) for feature in request.features
    }
    if METADATA_VERSION not in supported:
        raise Refused(Code.INVALID_REGISTRATION, "Request features do not contain 'metadata.version'")
    for name in {**supported, **finalized}:
        level = finalized.get(name, 0)
        low, high = supported.get(name, (0, 0))
        if not low <= level <= high:
            raise Refused(
                Code.UNSUPPORTED_VERSION,
                f"Unable to register because the broker does not support finalized version {level} of {name}. The "
                f"broker wants a version between {low} and {high}, inclusive.",
            )


def broker_at_epoch(image: ClusterImage, broker_id: int, epoch: int) -> BrokerImage:
    """The registration that a broker's request is about. Raises: Refused(STALE_BROKER_EPOCH)."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise Refused(Code.STALE_BROKER_EPOCH, f"No broker registration found for broker id {broker_id}")
    if broker.epoch != epoch:
        why = f"Expected broker epoch {broker.epoch}, but got broker epoch {epoch}"
        raise Refused(Code.STALE_BROKER_EPOCH, why)
    return broker


def heartbeat(
    state: State, request: BrokerHeartbeatRequest, sessions: Mapping[int, BrokerSession]
) -> Decision[Heartbeat]:
    """Decide a BrokerHeartbeat request (v0 to 2). Raises: Refused(STALE_BROKER_EPOCH)."""
    broker = broker_at_epoch(state.image, request.broker_id, request.broker_epoch)
    session = sessions[broker.id]
    caught_up = request.current_metadata_offset >= session.registered_at
    records: list[MetadataRecord] = []
    fenced, shutting_down, stop = broker.fenced, session.shutdown_offset is not None, False
    if broker.fenced:
        stop, shutting_down = request.want_shut_down, False
        if stop:
            records = fence(state, broker.id)
        elif not request.want_fence and caught_up and not _failed(broker, request):
            # News of a folder first: nobody is to lead in it who comes into service (in Kafka one may, then).
            records, fenced = unfence(state, broker), False
    elif shutting_down:
        stop = not leads_any(state.image, broker.id) and _others_know(state, broker, sessions)
    elif request.want_fence:
        fenced, stop = True, request.want_shut_down
        records = fence(state, broker.id)
    elif request.want_shut_down:
        shutting_down = leads_any(state.image, broker.id)
        stop = not shutting_down
        if shutting_down:
            records = begin_shutdown(state, broker)
    if stop and not fenced:
        records, fenced, shutting_down = fence(state, broker.id), True, False
    records += _directories(state, broker, request)
    response = BrokerHeartbeatResponse(
        throttle_time_ms=0, error_code=Code.NONE, is_caught_up=caught_up, is_fenced=fenced, should_shut_down=stop
    )
    return Decision(records, Heartbeat(response=response, shutting_down=shutting_down))


def _others_know(state: State, leaving: BrokerImage, sessions: Mapping[int, BrokerSession]) -> bool:
    """Whether all active brokers have applied the batch that moved the leaving one's leaders."""
    offsets = [
        sessions[broker.id].metadata_offset
        for broker in state.image.brokers.values()
        if broker.active and broker.id != leaving.id and broker.id in sessions
    ]
    moved_at = sessions[leaving.id].shutdown_offset
    return moved_at is not None and all(offset >= moved_at for offset in offsets)


def _failed(broker: BrokerImage, request: BrokerHeartbeatRequest) -> list[bytes]:
    """The folders that the heartbeat says are offline, and nobody knew."""
    return [each for each in broker.directories if each in request.offline_log_dirs]


def _directories(state: State, broker: BrokerImage, request: BrokerHeartbeatRequest) -> list[MetadataRecord]:
    """What the heartbeat says of the broker's folders, if it is news (KIP-858, KIP-1066)."""
    image = state.image
    version = image.features.metadata_version or 0
    records: list[MetadataRecord] = []
    failed = _failed(broker, request)
    if failed and version >= DIRECTORIES_SINCE:
        for directory in failed:
            records += leader_changes(state, in_directory(image, broker.id, directory), gone=broker.id)
        left = [each for each in broker.directories if each not in failed]
        records.append(BrokerRegistrationChangeRecord(broker_id=broker.id, broker_epoch=broker.epoch, log_dirs=left))
    cordoned, known = request.cordoned_log_dirs, broker.cordoned_directories
    if cordoned is None or version < CORDONED_DIRECTORIES_SINCE or (known is not None and set(known) == set(cordoned)):
        return records
    change = BrokerRegistrationChangeRecord(
        broker_id=broker.id, broker_epoch=broker.epoch, cordoned_log_dirs=list(cordoned)
    )
    return [*records, change]


def _change(broker: BrokerImage, *, fenced: int) -> BrokerRegistrationChangeRecord:
    return BrokerRegistrationChangeRecord(broker_id=broker.id, broker_epoch=broker.epoch, fenced=fenced)
