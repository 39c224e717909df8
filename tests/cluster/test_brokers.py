"""Registration, heartbeats, shutdown, producer ids."""

import msgspec.structs
import pytest

from kpybroker.cluster.image import EMPTY
from kpybroker.cluster.machines.activation import activation_records, registration_of_controller
from kpybroker.cluster.machines.brokers import BrokerSession, fence, heartbeat, register_broker
from kpybroker.cluster.machines.producer_ids import allocate_producer_ids
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest
from kpybroker.wire.messages.broker_registration import BrokerRegistrationRequest, Feature, Listener

from .making import CLUSTER_ID, LISTENER, apply, broker, cluster, config, directory, features, state, topic, topic_id

FINALIZED = {"metadata.version": 30, "eligible.leader.replicas.version": 1, "kraft.version": 1}
SUPPORTS = [
    Feature(name=name, min_supported_version=0 if name != "metadata.version" else 7, max_supported_version=level)
    for name, level in FINALIZED.items()
]


def registration(**fields):
    values = {
        "broker_id": 1,
        "cluster_id": CLUSTER_ID,
        "incarnation_id": b"a new incarnatio",
        "listeners": [Listener(name="PLAINTEXT", host="localhost", port=9092, security_protocol=0)],
        "features": SUPPORTS,
        "rack": None,
        "log_dirs": [directory(1)],
        "previous_broker_epoch": -1,
    }
    return BrokerRegistrationRequest(**{**values, **fields})


def register(image, api_version=4, **fields):
    return register_broker(
        state(image), registration(**fields), api_version=api_version, next_offset=77, finalized=FINALIZED
    )


def beat(image, broker_id=1, *, epoch=None, offset=100, fence_me=False, stop=False, sessions=None, cordoned=None):
    request = BrokerHeartbeatRequest(
        broker_id=broker_id,
        broker_epoch=broker_id * 10 if epoch is None else epoch,
        current_metadata_offset=offset,
        want_fence=fence_me,
        want_shut_down=stop,
        cordoned_log_dirs=cordoned,
    )
    known = sessions or {id_: BrokerSession(registered_at=50) for id_ in image.brokers}
    decision = heartbeat(state(image), request, known)
    response = decision.response.response
    told = (response.is_caught_up, response.is_fenced, response.should_shut_down)
    return list(decision.records), told, decision.response.shutting_down


def test_the_first_registration():
    decision = register(cluster(broker(2)))
    (record,) = decision.records
    assert (record.broker_id, record.broker_epoch, record.fenced, record.log_dirs) == (1, 77, True, [directory(1)])
    assert decision.response.broker_epoch == 77
    assert apply(cluster(broker(2)), record).brokers[1].endpoints == (LISTENER,)


def test_registering_again_as_the_same_incarnation_amends():
    image = cluster(broker(1))
    decision = register(image, incarnation_id=image.brokers[1].incarnation_id, rack="moved")
    (record,) = decision.records
    assert (record.broker_epoch, record.fenced, record.rack) == (10, False, "moved")


# What a broker that was the last one in sync left behind when it was fenced.
LEFT = apply(
    cluster(broker(1, fenced=True)),
    *topic(1, "t", [1], isr=[], leader=-1, eligible_leader_replicas=[1], last_known_elr=[1]),
)


def test_after_a_clean_stop_it_stays_eligible():
    assert [type(record) for record in register(LEFT, previous_broker_epoch=10).records] == [rec.RegisterBrokerRecord]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="no marker"),
        pytest.param({"previous_broker_epoch": 9}, id="a marker of another registration"),
        pytest.param({"previous_broker_epoch": 10, "api_version": 2}, id="a version that can't tell"),
    ],
)
def test_after_any_other_stop_it_is_not_eligible_any_more(fields):
    change, record = register(LEFT, **fields).records
    assert isinstance(record, rec.RegisterBrokerRecord)
    assert (change.eligible_leader_replicas, change.isr, change.leader) == ([], None, -2)


def test_without_elr_the_last_one_in_sync_stays_that():
    image = apply(cluster(broker(1, fenced=True), elr=False), *topic(1, "t", [1], leader=-1))
    assert [type(record) for record in register(image).records] == [rec.RegisterBrokerRecord]


@pytest.mark.parametrize(
    ("image", "fields", "code", "why"),
    [
        pytest.param(
            cluster(),
            {"cluster_id": "other"},
            Code.INCONSISTENT_CLUSTER_ID,
            f"Expected cluster ID {CLUSTER_ID}, but got cluster ID other",
            id="another cluster",
        ),
        pytest.param(cluster(), {}, Code.DUPLICATE_BROKER_REGISTRATION, None, id="the former incarnation lives"),
        pytest.param(
            LEFT, {"is_migrating_zk_broker": True}, Code.BROKER_ID_NOT_REGISTERED, None, id="a ZooKeeper broker"
        ),
        pytest.param(
            LEFT, {"log_dirs": []}, Code.INVALID_REGISTRATION, "No directories specified in request", id="no directory"
        ),
        pytest.param(
            LEFT,
            {"log_dirs": [bytes(16)]},
            Code.INVALID_REGISTRATION,
            "Reserved directory ID in request",
            id="a reserved directory",
        ),
        pytest.param(
            LEFT,
            {"log_dirs": [directory(1)] * 2},
            Code.INVALID_REGISTRATION,
            "Duplicate directory ID in request",
            id="a directory twice",
        ),
        pytest.param(
            cluster(broker(2)),
            {"log_dirs": [directory(2)]},
            Code.INVALID_REGISTRATION,
            "Broker 2 is already registered with directory ZGlyZWN0b3J5IG9mIDAwMg",
            id="another broker's directory",
        ),
        pytest.param(
            LEFT,
            {"features": []},
            Code.INVALID_REGISTRATION,
            "Request features do not contain 'metadata.version'",
            id="no metadata.version",
        ),
        pytest.param(
            LEFT,
            {"features": SUPPORTS[:1]},
            Code.UNSUPPORTED_VERSION,
            "Unable to register because the broker does not support finalized version 1 of "
            "eligible.leader.replicas.version. The broker wants a version between 0 and 0, inclusive.",
            id="a finalized feature left out",
        ),
        pytest.param(
            LEFT,
            {"features": [msgspec.structs.replace(SUPPORTS[0], max_supported_version=29), *SUPPORTS[1:]]},
            Code.UNSUPPORTED_VERSION,
            "Unable to register because the broker does not support finalized version 30 of metadata.version. The "
            "broker wants a version between 7 and 29, inclusive.",
            id="too old",
        ),
    ],
)
def test_registrations_that_are_refused(image, fields, code, why):
    with pytest.raises(Refused) as raised:
        register(image, **fields)
    assert raised.value.code is code
    assert why is None or raised.value.why == why


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("host", ""), ("host", " "), ("port", 0), ("security_protocol", 4), ("security_protocol", -1)],
)
def test_what_would_halt_kafkas_nodes_is_not_written(field, value):
    listener = {"name": "A", "host": "h", "port": 1, "security_protocol": 0, field: value}
    with pytest.raises(Refused) as raised:
        register(cluster(broker(1, fenced=True)), listeners=[Listener(**listener)])
    assert raised.value.code is Code.UNKNOWN_SERVER_ERROR


def test_of_listeners_of_one_name_the_last_counts():
    given = [("A", "first"), ("B", "other"), ("A", "last")]
    listeners = [Listener(name=name, host=host, port=1, security_protocol=0) for name, host in given]
    record = register(cluster(broker(1, fenced=True)), listeners=listeners).records[-1]
    assert [(point.name, point.host) for point in record.end_points] == [("A", "last"), ("B", "other")]


def test_fencing_and_unfencing_moves_leaders():
    image = apply(cluster(broker(1), broker(2)), *topic(1, "t", [1, 2], [2, 1]), *topic(2, "alone", [1]))
    fenced = apply(image, *fence(state(image), 1))
    assert fenced.brokers[1].fenced
    both, other, alone = (
        fenced.partition(topic_id(1), 0),
        fenced.partition(topic_id(1), 1),
        fenced.partition(topic_id(2), 0),
    )
    assert (both.leader, both.isr, both.leader_epoch) == (2, (2,), 1)
    assert (other.leader, other.isr, other.leader_epoch) == (2, (2,), 0)
    assert (alone.leader, alone.isr, alone.elr, alone.last_known_elr) == (-1, (), (1,), (1,))
    records, told, _ = beat(fenced)
    assert told == (True, False, False)
    back = apply(fenced, *records)
    assert back.brokers[1].active
    alone = back.partition(topic_id(2), 0)
    assert (alone.leader, alone.isr, alone.elr, alone.last_known_elr, alone.leader_epoch) == (1, (1,), (), (), 2)
    assert back.partition(topic_id(1), 0).leader == 2, "what has a leader keeps it"


def test_min_insync_replicas_of_the_topic_decides_who_stays_eligible():
    image = apply(
        cluster(broker(1), broker(2)),
        *topic(1, "t", [1, 2]),
        *topic(2, "u", [1, 2]),
        config(2, "t", "min.insync.replicas", "2"),
    )
    fenced = apply(image, *fence(state(image), 1))
    assert fenced.partition(topic_id(1), 0).elr == (1,)
    assert fenced.partition(topic_id(2), 0).elr == ()


@pytest.mark.parametrize(
    ("fields", "told", "kinds"),
    [
        pytest.param({}, (True, False, False), ["BrokerRegistrationChangeRecord"], id="caught up: unfenced"),
        pytest.param({"offset": 49}, (False, True, False), [], id="behind its registration: not yet"),
        pytest.param({"fence_me": True}, (True, True, False), [], id="does not want to be"),
        pytest.param({"stop": True}, (True, True, True), ["BrokerRegistrationChangeRecord"], id="stops at once"),
    ],
)
def test_heartbeats_of_a_fenced_broker(fields, told, kinds):
    records, answer, shutting_down = beat(cluster(broker(1, fenced=True)), **fields)
    assert answer == told
    assert [type(record).__name__ for record in records] == kinds
    assert not shutting_down


@pytest.mark.parametrize(
    ("fields", "told", "kinds"),
    [
        pytest.param({}, (True, False, False), [], id="well"),
        pytest.param(
            {"fence_me": True}, (True, True, False), ["BrokerRegistrationChangeRecord"], id="wants to be fenced"
        ),
        pytest.param(
            {"fence_me": True, "stop": True},
            (True, True, True),
            ["BrokerRegistrationChangeRecord"],
            id="fenced and gone",
        ),
        pytest.param({"stop": True}, (True, True, True), ["BrokerRegistrationChangeRecord"], id="leads nothing: stops"),
    ],
)
def test_heartbeats_of_a_live_broker_that_leads_nothing(fields, told, kinds):
    records, answer, shutting_down = beat(cluster(), **fields)
    assert (answer, shutting_down) == (told, False)
    assert [type(record).__name__ for record in records] == kinds


def test_a_controlled_shutdown_waits_until_the_others_know():
    image = apply(cluster(broker(1), broker(2)), *topic(1, "t", [1, 2]))
    records, told, shutting_down = beat(image, stop=True)
    assert (told, shutting_down) == ((True, False, False), True)
    change, moved = records
    assert (change.in_controlled_shutdown, change.fenced) == (1, 0)
    assert (moved.leader, moved.isr) == (2, [2])
    image = apply(image, *records)
    sessions = {
        1: BrokerSession(registered_at=50, shutdown_offset=120),
        2: BrokerSession(registered_at=50, metadata_offset=119),
    }
    assert beat(image, stop=True, sessions=sessions) == ([], (True, False, False), True)
    sessions[2].metadata_offset = 120
    records, told, shutting_down = beat(image, stop=True, sessions=sessions)
    assert (told, shutting_down) == ((True, True, True), False)
    assert [record.fenced for record in records] == [1]


def test_a_lone_broker_is_let_go_at_its_second_heartbeat():
    image = apply(cluster(), *topic(1, "t", [1]))
    records, _, shutting_down = beat(image, stop=True)
    assert shutting_down
    image = apply(image, *records)
    sessions = {1: BrokerSession(registered_at=50, shutdown_offset=120)}
    _, told, _ = beat(image, stop=True, sessions=sessions)
    assert told == (True, True, True)


def test_cordoned_folders_are_told_once():
    image = cluster()
    (record,), _, _ = beat(image, cordoned=[])
    assert record.cordoned_log_dirs == []
    assert beat(apply(image, record), cordoned=[])[0] == []
    old = apply(EMPTY, rec.FeatureLevelRecord(name="metadata.version", feature_level=29), broker(1))
    assert beat(old, cordoned=[])[0] == []


@pytest.mark.parametrize(
    ("broker_id", "epoch", "why"),
    [
        (3, 30, "No broker registration found for broker id 3"),
        (1, 9, "Expected broker epoch 10, but got broker epoch 9"),
    ],
)
def test_a_stale_broker(broker_id, epoch, why):
    with pytest.raises(Refused) as raised:
        beat(cluster(), broker_id, epoch=epoch)
    assert (raised.value.code, raised.value.why) == (Code.STALE_BROKER_EPOCH, why)
    with pytest.raises(Refused) as raised:
        allocate_producer_ids(state(cluster()), AllocateProducerIdsRequest(broker_id=broker_id, broker_epoch=epoch))
    assert raised.value.code is Code.STALE_BROKER_EPOCH


def test_blocks_of_producer_ids_follow_each_other():
    image = cluster()
    for start in (0, 1000, 2000):
        decision = allocate_producer_ids(state(image), AllocateProducerIdsRequest(broker_id=1, broker_epoch=10))
        assert (decision.response.producer_id_start, decision.response.producer_id_len) == (start, 1000)
        image = apply(image, *decision.records)


def test_producer_ids_run_out():
    last = rec.ProducerIdsRecord(broker_id=1, broker_epoch=10, next_producer_id=2**63 - 1000)
    request = AllocateProducerIdsRequest(broker_id=1, broker_epoch=10)
    with pytest.raises(Refused, match="Exhausted all producerIds"):
        allocate_producer_ids(state(apply(cluster(), last)), request)


def test_activation_of_an_empty_cluster():
    given = [rec.FeatureLevelRecord(name="metadata.version", feature_level=30)]
    assert activation_records(state(EMPTY), given, transaction_open=False) == [
        rec.BeginTransactionRecord(name="Bootstrap records"),
        *given,
        rec.EndTransactionRecord(),
    ]
    begun_before = activation_records(state(EMPTY), given, transaction_open=True)
    assert begun_before[0] == rec.AbortTransactionRecord(reason="Controller failover")
    assert len(begun_before) == 4


def test_activation_of_a_cluster_that_is_there():
    image = apply(EMPTY, *features())
    assert activation_records(state(image), [], transaction_open=False) == []
    assert activation_records(state(image), [], transaction_open=True) == [
        rec.AbortTransactionRecord(reason="Controller failover")
    ]


def test_clusters_from_before_controllers_registered():
    old = apply(EMPTY, rec.FeatureLevelRecord(name="metadata.version", feature_level=14))
    assert registration_of_controller(old, node_id=1, incarnation_id=bytes(16), endpoints=[LISTENER]) == []
    (record,) = registration_of_controller(cluster(), node_id=1, incarnation_id=bytes(16), endpoints=[LISTENER])
    assert record.end_points[0].name == "PLAINTEXT"
