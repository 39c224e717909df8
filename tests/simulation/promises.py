"""What must hold, whatever happens: looked at in the nodes themselves all the time, and in what clients are told."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from kpybroker.cluster.image import EMPTY

from .group_promises import GroupPromises

if TYPE_CHECKING:
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.node import Node
    from kpybroker.replication.partition import Partition

    from .world import SimulatedNode, World


class Place(NamedTuple):
    """A partition."""

    topic: str
    index: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.index}"


class Promises:
    """What was seen, and with it what may never be seen again. Raises AssertionError for what is broken."""

    def __init__(self) -> None:
        self.known: dict[Place, dict[int, bytes]] = defaultdict(dict)
        """Records that somebody was told to be committed, by their offsets: by an acknowledgement, or by reading."""
        self.acknowledged: dict[Place, list[bytes]] = defaultdict(list)
        """Values in the order in which they were acknowledged."""
        self.aborted: set[bytes] = set()
        """Values of transactions that were certainly aborted."""
        self.latest: dict[tuple[Place, int], int] = {}
        self.group = GroupPromises()
        self._leaders: dict[tuple[Place, int], int] = {}
        self._controllers: dict[int, int] = {}
        self._watermarks: dict[tuple[Place, int, int], int] = {}
        self._images: dict[int, ClusterImage] = {}
        self._followed: set[tuple[int, int]] = set()

    # What clients are told

    def committed(self, place: Place, offset: int, value: bytes) -> None:
        """Somebody was told that this record is committed."""
        known = self.known[place].setdefault(offset, value)
        assert known == value, f"{place}: {known!r} was committed at {offset}, and now it is {value!r}"

    def answered(self, place: Place, base_offset: int, values: list[bytes]) -> None:
        """A producer was told that its records are committed."""
        for offset, value in enumerate(values, base_offset):
            self.committed(place, offset, value)
        self.acknowledged[place] += values

    def read(self, place: Place, records: list[tuple[int, bytes]], *, committed_only: bool) -> None:
        """A consumer was given these records."""
        for offset, value in records:
            self.committed(place, offset, value)
            assert not (committed_only and value in self.aborted), f"{place}: {value!r} was aborted, and is read"

    def latest_offset(self, place: Place, isolation: int, offset: int) -> None:
        """ListOffsets said where the partition ends."""
        before = self.latest.get((place, isolation), 0)
        assert offset >= before, f"{place}: the latest offset went back from {before} to {offset}"
        self.latest[place, isolation] = offset

    def final(self, place: Place, values: list[bytes]) -> None:
        """Everything that is in a partition when all is over."""
        assert len(set(values)) == len(values), f"{place}: records were duplicated"
        self.survived(place, values)
        by_producer: dict[bytes, int] = {}
        for value in values:
            producer, _, number = value.partition(b":")
            assert by_producer.get(producer, -1) < int(number), f"{place}: {value!r} comes out of order"
            by_producer[producer] = int(number)

    def survived(self, place: Place, values: list[bytes]) -> None:
        """These are all that are there: nothing is missing that was acknowledged."""
        there = set(values)
        for value in self.acknowledged[place]:
            assert value in there, f"{place}: {value!r} was acknowledged and is lost"

    # What the nodes say

    def look(self, world: World) -> None:
        """All running nodes as they are now."""
        running = [each for each in world.nodes.values() if each.node is not None and each.node._cluster is not None]
        newest: dict[Place, tuple[Any, Partition]] = {}
        for each in running:
            node: Node = each.node
            cluster = node._cluster
            self._follow_images(each, node)
            raft = cluster.raft
            if raft.is_leader:
                first = self._controllers.setdefault(raft.leader_epoch, each.id)
                assert first == each.id, f"nodes {first} and {each.id} lead the quorum in epoch {raft.leader_epoch}"
            for partition in _partitions_of(node):
                place = Place(partition.topic, partition.index)
                if each.in_service:
                    self._up_to_date(each.id, place, partition, cluster.image)
                if partition.is_leader:
                    self._leader(each.id, each.lives, place, partition)
                    if place not in newest or newest[place][1].leader_epoch < partition.leader_epoch:
                        newest[place] = (each, partition)
        for place, (leader, partition) in newest.items():
            self._in_sync(world, place, leader, partition)

    def _follow_images(self, simulated: SimulatedNode, node: Node) -> None:
        if (simulated.id, simulated.lives) not in self._followed:
            self._followed.add((simulated.id, simulated.lives))
            node._cluster.on_change(lambda _, image: self._image(image) if simulated.node is node else None)

    def _image(self, image: ClusterImage) -> None:
        known = self._images.setdefault(image.offset, image)
        assert known is image or known == image, f"the metadata as of {image.offset} differs"

    def _leader(self, node_id: int, life: int, place: Place, partition: Partition) -> None:
        epoch = partition.leader_epoch
        first = self._leaders.setdefault((place, epoch), node_id)
        assert first == node_id, f"{place}: nodes {first} and {node_id} lead in epoch {epoch}"
        if partition._log is None:
            return
        high_watermark = partition.high_watermark
        assert high_watermark <= partition.log.log_end_offset, f"{place}: the high watermark is beyond the log"
        before = self._watermarks.get((place, epoch, life), 0)
        assert high_watermark >= before, f"{place}: the high watermark went back in epoch {epoch}"
        self._watermarks[place, epoch, life] = high_watermark

    @staticmethod
    def _up_to_date(node_id: int, place: Place, partition: Partition, image: ClusterImage) -> None:
        """A node in service follows its metadata."""
        known = image.partition(partition.topic_id, place.index)
        if known is not None and node_id in known.replicas:
            assert partition.leader_epoch >= known.leader_epoch, (
                f"{place}: node {node_id} believes in epoch {partition.leader_epoch}, and knows of {known.leader_epoch}"
            )

    def _in_sync(self, world: World, place: Place, leader: Any, partition: Partition) -> None:
        known = max((_image(each).offset, each.id, _image(each)) for each in world.nodes.values())[2]
        committed = known.partition(partition.topic_id, place.index)
        if partition._log is None or committed is None or committed.partition_epoch != partition.partition_epoch:
            return  # a leader that does not know yet who is in sync
        high_watermark = partition.high_watermark
        for member in committed.isr:
            node = world.nodes[member]
            if member == leader.id or not node.in_service:
                continue
            theirs = node.node._broker.replicas._partitions.get(place)
            if theirs is None or theirs._log is None or theirs.leader_epoch != partition.leader_epoch:
                continue
            end = theirs.log.log_end_offset
            assert end >= high_watermark, (
                f"{place}: node {member} is in sync with {end} records, the high watermark is {high_watermark}"
            )


def _image(node: SimulatedNode) -> ClusterImage:
    cluster = node.node._cluster if node.node is not None else None
    return EMPTY if cluster is None else cluster.image


def _partitions_of(node: Node) -> list[Partition]:
    return [] if node._broker is None else list(node._broker.replicas._partitions.values())
