"""What a session of tests has written, so that later tests can look for it after a kill, and in another broker."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from harness import text


@dataclass(kw_only=True)
class WrittenTopic:
    """A topic that holds the text, and what was added to it later."""

    topic: str
    client: str
    codec: str
    group_id: str
    extra: list[bytes] = field(default_factory=list)


class Written:
    """The topics written so far, each with the text in it."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.topics: list[WrittenTopic] = []

    def new_topic(self, client: str, codec: str) -> WrittenTopic:
        """A name for a topic and its group; it counts as written once it is in `topics`."""
        unique = uuid.uuid4().hex[:8]
        name = f"text-{client}-{codec}-{unique}"
        return WrittenTopic(topic=name, client=client, codec=codec, group_id=f"group-{name}")

    def count(self, topic: WrittenTopic) -> int:
        return len(self.lines) + len(topic.extra)

    def difference(self, topic: WrittenTopic, values: list[bytes]) -> str:
        """Empty when these values are what the topic must hold; otherwise what is missing and what is too much."""
        return difference([*self.lines, *topic.extra], values)


def difference(expected: list[bytes], found: list[bytes]) -> str:
    """Empty when the sorted lines hash the same; otherwise how they differ."""
    if text.digest(expected) == text.digest(found):
        return ""
    counts: dict[bytes, int] = {}
    for line in expected:
        counts[line] = counts.get(line, 0) + 1
    for line in found:
        counts[line] = counts.get(line, 0) - 1
    missing = sum(count for count in counts.values() if count > 0)
    surplus = -sum(count for count in counts.values() if count < 0)
    samples = [line for line, count in counts.items() if count][:3]
    return f"{len(expected)} expected, {len(found)} found, {missing} missing, {surplus} too many, as {samples}"
