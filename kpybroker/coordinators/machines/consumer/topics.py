"""The topics of the cluster as consumer groups see them, and the hash by which they notice that one has changed.

KIP-1101: a group keeps one hash over the topics it subscribes to. It is XXH3 over what follows, as Kafka computes it,
so that a group which changes hands between the two brokers is not assigned anew for nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from kpybroker.cluster.image import ClusterImage, TopicImage

_MAGIC = b"\0"
NO_TOPICS_HASH = 0


class Topics:
    """The topics of one image of the cluster. Replaced, never changed."""

    def __init__(self, image: ClusterImage | None = None, before: Topics | None = None) -> None:
        """`before`: what this takes the place of; hashes of topics that are the same are taken from it."""
        self._image = ClusterImage() if image is None else image
        self.version = self._image.offset
        self.racks: Mapping[int, str] = {
            broker.id: broker.rack for broker in self._image.brokers.values() if broker.rack is not None
        }
        same_racks = before is not None and before.racks == self.racks
        self._hashes: dict[bytes, tuple[TopicImage, int]] = before._hashes if before and same_racks else {}
        by_id = self._image.topics.by_id
        if len(self._hashes) > 2 * len(by_id):  # most are of topics that are gone
            self._hashes = {each: known for each, known in self._hashes.items() if by_id.get(each) is known[0]}

    def id_of(self, name: str) -> bytes | None:
        """A topic's id; None if there is no such topic."""
        topic = self._image.topics.by_name.get(name)
        return None if topic is None else topic.id

    def name_of(self, topic_id: bytes) -> str | None:
        """A topic's name; None if there is no such topic."""
        topic = self._image.topics.by_id.get(topic_id)
        return None if topic is None else topic.name

    def partitions_of(self, topic_id: bytes) -> int:
        """How many partitions a topic has that is known to be there."""
        return len(self._image.topics.by_id[topic_id].partitions)

    def names(self) -> Iterable[str]:
        """All topics."""
        return self._image.topics.by_name

    def hash_of(self, names: Iterable[str]) -> int:
        """The hash over those of these topics that exist; 0 if none does."""
        by_name = self._image.topics.by_name
        known = [by_name[name] for name in sorted(names) if name in by_name]
        if not known:
            return NO_TOPICS_HASH
        return _signed_xxh3(b"".join(struct.pack("<q", self._topic_hash(topic)) for topic in known))

    def _topic_hash(self, topic: TopicImage) -> int:
        kept = self._hashes.get(topic.id)
        if kept is not None and kept[0] is topic:
            return kept[1]
        found = _signed_xxh3(self._described(topic))
        self._hashes[topic.id] = (topic, found)
        return found

    def _described(self, topic: TopicImage) -> bytes:
        """What is hashed of a topic: its id, its name, and of each partition the racks that have it."""
        high, low = struct.unpack(">qq", topic.id)
        parts = [_MAGIC, struct.pack("<qq", high, low), _text(topic.name), struct.pack("<i", len(topic.partitions))]
        for index in range(len(topic.partitions)):
            parts.append(struct.pack("<i", index))
            racks = (self.racks.get(replica) for replica in topic.partitions[index].replicas)
            for rack in sorted(rack for rack in racks if rack is not None):
                parts += [struct.pack("<i", _units(rack)), _text(rack)]
        return b"".join(parts)


def _text(text: str) -> bytes:
    """A text as hash4j takes it: its UTF-16 units, then how many there are."""
    return text.encode("utf-16-le") + struct.pack("<i", _units(text))


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _signed_xxh3(data: bytes) -> int:
    from xxhash import xxh3_64_intdigest  # only where there are consumer groups

    number = xxh3_64_intdigest(data)
    return number - (1 << 64) if number >> 63 else number
