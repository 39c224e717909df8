"""After any history of several brokers: leaders are alive and in sync, epochs grow, nothing in sync is forgotten.

`make campaign ARGS='tests/cluster/test_any_history_of_many.py --campaign-size 20000 --campaign-seed 7'` plays as many
histories. Each failure names its seed, and the history up to it.
"""

import random

import pytest

from kpybroker.cluster.batches import encode_batch, read_batches
from kpybroker.cluster.image import EMPTY, NO_LEADER, ResourceType
from kpybroker.cluster.machines.alter_configs import incremental_alter_configs
from kpybroker.cluster.machines.alter_partition import alter_partition
from kpybroker.cluster.machines.assign_directories import assign_replicas_to_dirs, assignments_request
from kpybroker.cluster.machines.brokers import fence, heartbeat, register_broker
from kpybroker.cluster.machines.create_partitions import create_partitions
from kpybroker.cluster.machines.create_topics import create_topics
from kpybroker.cluster.machines.delete_topics import delete_topics
from kpybroker.cluster.machines.elect_leaders import elect_leaders
from kpybroker.cluster.machines.periodic_elections import elect_preferred, elect_unclean
from kpybroker.cluster.machines.reassignments import alter_partition_reassignments
from kpybroker.cluster.machines.sessions import Sessions
from kpybroker.cluster.machines.unregister_broker import unregister_broker
from kpybroker.cluster.snapshot import image_records
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.alter_partition import (
    AlterPartitionRequest,
    BrokerState,
    RequestPartitionData,
    RequestTopicData,
)
from kpybroker.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest
from kpybroker.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from kpybroker.wire.messages.create_topics import CreateTopicsRequest
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest
from kpybroker.wire.messages.elect_leaders import ElectLeadersRequest
from kpybroker.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest

from .making import CALLER, apply, config, features, state, topic_id, wanted
from .test_brokers import registration

BROKERS = range(1, 5)
TOKEN = 30
STEPS = 120


def folders(broker_id):
    return [b"folder %d of %04d" % (number, broker_id) for number in (1, 2)]


class Story:
    """One history. Brokers are what the controller hears of them; time goes a little further with each step."""

    def __init__(self, seed, *, elr):
        self.chance = random.Random(seed)
        self.elr = elr
        levels = {"eligible.leader.replicas.version": 1} if elr else {}
        self.image = apply(EMPTY, *features(**levels), config(4, "", "min.insync.replicas", "2"))
        self.sessions = Sessions(node_id=0, timeout_s=9.0)
        self.sessions.begin(self.image, 0.0)
        self.now_s = 0.0
        self.told = []
        self.topics = 0

    def play(self, steps):
        for broker_id in BROKERS:
            self.registers(broker_id)
            self.beats(broker_id)
        actions = {
            self.registers_someone: 3,
            self.beats_someone: 12,
            self.stops_someone: 3,
            self.dies_someone: 4,
            self.alters: 20,
            self.creates: 3,
            self.grows: 1,
            self.deletes: 1,
            self.moves: 5,
            self.elects: 4,
            self.elects_by_itself: 3,
            self.forgets: 1,
            self.configures: 3,
            self.assigns: 2,
            self.changes_controller: 1,
        }
        for _ in range(steps):
            self.now_s += self.chance.random()
            (action,) = self.chance.choices(list(actions), list(actions.values()))
            action()

    # What happens

    def decided(self, name, records, *, unclean=False):
        """Write what was decided; all that must hold is checked. `unclean`: leaders not in sync were asked for."""
        records = list(records)
        self.told.append((name, records))
        if not records:
            return
        (batch,) = read_batches(encode_batch(records, timestamp_ms=1))
        assert list(batch.records) == records
        before, self.image = self.image, apply(self.image, *records)
        check(before, self.image, elr=self.elr, unclean=unclean)

    def someone(self):
        return self.chance.choice(list(BROKERS))

    def partition(self):
        """Some partition: topic, index, image; None if there is none."""
        found = [
            (topic, index, partition)
            for topic in self.image.topics.by_name.values()
            for index, partition in topic.partitions.items()
        ]
        return self.chance.choice(found) if found else None

    def registers_someone(self):
        self.registers(self.someone())

    def registers(self, broker_id):
        known = self.image.brokers.get(broker_id)
        clean = known is not None and self.chance.random() < 0.4
        request = registration(
            broker_id=broker_id,
            incarnation_id=self.chance.randbytes(16),
            log_dirs=folders(broker_id)[: self.chance.choice([1, 2, 2])],
            previous_broker_epoch=known.epoch if clean else -1,
        )
        lives = self.sessions.lives(broker_id, self.now_s)
        try:
            decision = register_broker(
                state(self.image),
                request,
                api_version=4,
                next_offset=self.image.offset + 1,
                finalized={"metadata.version": 30},
                former_lives=lives,
            )
        except Refused as refused:
            duplicate = refused.code == Code.DUPLICATE_BROKER_REGISTRATION
            if not duplicate or not (lives or not known.fenced):
                raise
            return
        self.decided(f"{broker_id} registers, clean {clean}", decision.records)
        self.sessions.registered(broker_id, decision.response.broker_epoch, self.image.offset)

    def beats_someone(self):
        self.beats(self.someone())

    def stops_someone(self):
        self.beats(self.someone(), stop=True)

    def beats(self, broker_id, *, stop=False):
        broker = self.image.brokers.get(broker_id)
        if broker is None:
            return
        stop = stop or broker.in_controlled_shutdown  # who wants to stop does not change its mind
        offline = [each for each in broker.directories[1:] if self.chance.random() < 0.05]
        offset = self.image.offset - self.chance.choice([0, 0, 0, 5])
        request = BrokerHeartbeatRequest(
            broker_id=broker_id,
            broker_epoch=broker.epoch,
            current_metadata_offset=offset,
            want_fence=self.chance.random() < 0.05,
            want_shut_down=stop,
            offline_log_dirs=offline,
        )
        session = self.sessions.heard(broker, self.now_s, offset)
        decision = heartbeat(state(self.image), request, self.sessions.of_brokers)
        self.decided(f"{broker_id} beats {request}", decision.records)
        if decision.response.response.should_shut_down:
            self.sessions.over(broker_id)
            assert self.image.brokers[broker_id].fenced
        elif not decision.response.shutting_down:
            session.shutdown_offset = None
        elif session.shutdown_offset is None:
            session.shutdown_offset = self.image.offset
        assert decision.response.response.is_fenced == self.image.brokers[broker_id].fenced

    def dies_someone(self):
        """Its session runs out, or it was found dead."""
        broker_id = self.someone()
        broker = self.image.brokers.get(broker_id)
        if broker is not None and not broker.fenced:
            self.decided(f"{broker_id} dies", fence(state(self.image), broker_id))
            self.sessions.over(broker_id)

    def alters(self):
        """A leader proposes other replicas in sync, now and then as of some time ago."""
        found = self.partition()
        if found is None:
            return
        topic, index, partition = found
        leader = self.image.brokers.get(partition.leader)
        if leader is None:
            return
        old = self.chance.random() < 0.1
        isr = [each for each in partition.replicas if each == leader.id or self.chance.random() < 0.7]
        recovery = partition.leader_recovery_state if len(isr) == 1 and self.chance.random() < 0.3 else 0
        data = RequestPartitionData(
            partition_index=index,
            leader_epoch=partition.leader_epoch - old,
            new_isr_with_epochs=[
                BrokerState(broker_id=each, broker_epoch=self.image.brokers[each].epoch)
                for each in isr
                if each in self.image.brokers
            ],
            leader_recovery_state=recovery,
            partition_epoch=partition.partition_epoch,
        )
        request = AlterPartitionRequest(
            broker_id=leader.id,
            broker_epoch=leader.epoch,
            topics=[RequestTopicData(topic_id=topic.id, partitions=[data])],
        )
        decision = alter_partition(state(self.image), request, api_version=3)
        ((answer,),) = (each.partitions for each in decision.response.topics)
        assert (answer.error_code in (Code.NONE, Code.NEW_LEADER_ELECTED)) or not decision.records
        assert not (old and decision.records)
        self.decided(f"{leader.id} alters {topic.name}-{index}: {isr}", decision.records)
        if answer.error_code == Code.NONE:
            now = self.image.partition(topic.id, index)
            told = (answer.leader_id, answer.leader_epoch, tuple(answer.isr), answer.partition_epoch)
            assert told == (now.leader, now.leader_epoch, now.isr, now.partition_epoch)

    def creates(self):
        self.topics += 1
        name = f"t{self.topics}"
        configs = self.chance.choice(
            [(), (("unclean.leader.election.enable", "true"),), (("min.insync.replicas", "1"),)]
        )
        topic = wanted(name, self.chance.randint(1, 4), self.chance.randint(1, 4), configs=configs)
        decision = create_topics(
            state(self.image),
            CreateTopicsRequest(topics=[topic]),
            CALLER,
            topic_ids=[topic_id(self.topics)],
            seed=self.chance.randrange(1000),
        )
        self.decided(f"create {topic}", decision.records)

    def grows(self):
        found = self.partition()
        if found is not None:
            wish = CreatePartitionsTopic(name=found[0].name, count=len(found[0].partitions) + 1, assignments=None)
            request = CreatePartitionsRequest(topics=[wish], timeout_ms=0, validate_only=False)
            decision = create_partitions(state(self.image), request, CALLER, seed=self.chance.randrange(1000))
            self.decided(f"grow {found[0].name}", decision.records)

    def deletes(self):
        found = self.partition()
        if found is not None and self.topics > 3:
            request = DeleteTopicsRequest(topic_names=[found[0].name], topics=[], timeout_ms=0)
            self.decided(f"delete {found[0].name}", delete_topics(state(self.image), request, CALLER).records)

    def moves(self):
        found = self.partition()
        if found is None:
            return
        topic, index, _ = found
        replicas = self.chance.sample(list(BROKERS), self.chance.randint(1, 4))
        wish = ReassignablePartition(partition_index=index, replicas=None if self.chance.random() < 0.3 else replicas)
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=0, topics=[ReassignableTopic(name=topic.name, partitions=[wish])]
        )
        decision = alter_partition_reassignments(state(self.image), request)
        self.decided(f"move {topic.name}-{index} to {wish.replicas}", decision.records)

    def elects(self):
        kind = self.chance.randint(0, 1)
        request = ElectLeadersRequest(election_type=kind, topic_partitions=None, timeout_ms=0)
        self.decided(f"elect {kind}", elect_leaders(state(self.image), request).records, unclean=bool(kind))

    def elects_by_itself(self):
        if self.chance.random() < 0.5:
            self.decided("preferred", elect_preferred(state(self.image)))
        else:
            self.decided("unclean", elect_unclean(state(self.image)))

    def forgets(self):
        broker_id = self.someone()
        try:
            decision = unregister_broker(state(self.image), UnregisterBrokerRequest(broker_id=broker_id))
        except Refused:
            if broker_id in self.image.brokers:
                raise
            return
        self.decided(f"forget {broker_id}", decision.records)

    def configures(self):
        found = self.partition()
        if found is None:
            return
        key = self.chance.choice(["min.insync.replicas", "unclean.leader.election.enable"])
        value = self.chance.choice(["1", "2", "3"] if key.startswith("min") else ["true", "false"])
        kind, name = self.chance.choice([(ResourceType.TOPIC, found[0].name), (ResourceType.BROKER, "")])
        change = AlterableConfig(name=key, config_operation=0, value=value)
        resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=[change])
        request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
        decision = incremental_alter_configs(state(self.image), request, CALLER)
        self.decided(f"configure {name!r} {key} {value}", decision.records)

    def assigns(self):
        """A broker says where it has put a replica."""
        found = self.partition()
        if found is None:
            return
        topic, index, partition = found
        broker = self.image.brokers.get(self.chance.choice(partition.replicas))
        if broker is not None:
            folder = self.chance.choice(folders(broker.id))
            request = assignments_request(broker.id, broker.epoch, {(topic.id, index): folder})
            decision = assign_replicas_to_dirs(state(self.image), request)
            self.decided(f"{broker.id} assigns {topic.name}-{index}", decision.records)

    def changes_controller(self):
        """Another controller knows the image, and no more."""
        again = apply(EMPTY, *image_records(self.image))
        assert again.topics == self.image.topics
        assert again.brokers == self.image.brokers
        self.sessions = Sessions(node_id=0, timeout_s=9.0)
        suspects = self.sessions.begin(self.image, self.now_s)
        assert {each.broker_id for each in suspects} == {
            broker.id for broker in self.image.brokers.values() if not broker.fenced
        }
        self.told.append(("another controller", []))


def check(before, after, *, elr, unclean):
    """What holds after every decision, whatever it was."""
    for topic in after.topics.by_name.values():
        former = before.topics.by_id.get(topic.id)
        rules = state(after).configs.leadership(after.config(ResourceType.TOPIC, topic.name))
        factor = max(len(partition.replicas) for partition in (former or topic).partitions.values())
        for index, partition in topic.partitions.items():
            alone(after, partition, elr=elr)
            was = former.partitions.get(index) if former is not None else None
            enough = len(partition.isr) >= min(rules.min_insync_replicas, factor)
            if enough and partition is not was and (was is None or was.leader == partition.leader):
                assert not partition.elr, "who is eligible is told only while too few are in sync"
            if former is not None and index in former.partitions:
                compared(former.partitions[index], partition, rules, unclean=unclean)
    for broker in after.brokers.values():
        was = before.brokers.get(broker.id)
        assert was is None or broker.epoch >= was.epoch


def alone(image, partition, *, elr):
    """What holds for a partition by itself."""
    replicas, isr = set(partition.replicas), set(partition.isr)
    assert len(replicas) == len(partition.replicas) == len(partition.directories)
    assert len(isr) == len(partition.isr)
    assert isr <= replicas
    # Who is eligible need not be a replica: as in Kafka, one that a move took away may be told of for a while.
    assert not isr & set(partition.elr)
    assert set(partition.adding_replicas) | set(partition.removing_replicas) <= replicas
    assert partition.elr == () or elr
    assert len(partition.last_known_elr) <= 1
    active = {each for each in isr if image.is_active(each)}
    able = {each for each in active if not offline(image, partition, each)}
    if partition.leader == NO_LEADER:
        assert not able, "somebody could lead"
        assert elr or len(isr) == 1, "the last one in sync stays so"
    else:
        assert partition.leader in able
        assert active == isr


def offline(image, partition, broker_id):
    """Whether the folder is in which a broker has its replica."""
    directory = partition.directories[partition.replicas.index(broker_id)]
    return not image.brokers[broker_id].has_online_directory(directory)


def compared(was, now, rules, *, unclean):
    """What holds between a partition and itself one batch later."""
    assert now.partition_epoch >= was.partition_epoch
    assert now.leader_epoch >= was.leader_epoch
    if now == was:
        return
    if now.leader != was.leader or not set(was.replicas) <= set(now.replicas):
        assert now.leader_epoch > was.leader_epoch
    if now.partition_epoch == was.partition_epoch:  # ClearElr touches nothing else
        assert (now.leader, now.isr, now.replicas) == (was.leader, was.isr, was.replicas)
        return
    if now.leader not in (was.leader, NO_LEADER) and now.leader not in was.isr and now.leader not in was.elr:
        joined = was.leader != NO_LEADER and now.leader in now.isr and now.leader in now.replicas
        if not (joined and not was.leader_recovery_state == 0 != now.leader_recovery_state):
            allowed = unclean or rules.unclean_election or was.last_known_elr == (now.leader,)
            assert allowed, "nobody leads who was neither in sync nor eligible"
            assert now.isr == (now.leader,)
            assert now.leader_recovery_state == 1
            assert now.elr == ()


@pytest.mark.parametrize("elr", [True, False])
def test_any_history(elr, pytestconfig):
    size = pytestconfig.getoption("--campaign-size") or TOKEN
    seed = pytestconfig.getoption("--campaign-seed")
    kinds = set()
    for number in range(size):
        story = Story(f"{seed}-{number}", elr=elr)
        try:
            story.play(STEPS)
        except BaseException:
            for step in story.told[-8:]:
                print(*step, sep="\n    ")
            print("seed", seed, "history", number)
            raise
        kinds |= {name.split()[0] for name, records in story.told if records}
    assert len(kinds) > 8
