"""The topics as consumer groups see them."""

from __future__ import annotations

from kpybroker.cluster.image import ClusterImage, TopicImage, TopicsImage
from kpybroker.coordinators.machines.consumer.topics import Topics


def test_topics_that_are_gone_take_no_room() -> None:
    topics = Topics()
    stays = TopicImage(name="stays", id=bytes(16), partitions={})
    for number in range(1, 1000):
        comes = TopicImage(name=str(number), id=number.to_bytes(16), partitions={})
        images = TopicsImage(
            by_name={each.name: each for each in (stays, comes)}, by_id={each.id: each for each in (stays, comes)}
        )
        topics = Topics(ClusterImage(topics=images, offset=number), topics)
        assert topics.hash_of(["stays"]) == Topics(ClusterImage(topics=images)).hash_of(["stays"])
        assert topics.hash_of([str(number)]) != 0
    assert len(topics._hashes) < 10
