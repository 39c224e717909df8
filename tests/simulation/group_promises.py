"""What a consumer group is promised: who owns what, what was committed, and that each record was handed out."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .promises import Place


class GroupPromises:
    """What members of one group were told. Raises AssertionError for what is broken.

    A member that resumes in a generation may be told of it by a coordinator that is none any more; what was committed
    in later generations is none of its business then, and what it commits will be refused.
    """

    def __init__(self) -> None:
        self.values: dict[Place, set[bytes]] = defaultdict(set)
        """What was handed to some member."""
        self.commits = 0
        self.generations = 0
        self._owners: dict[tuple[int, Place], str] = {}
        self._sent: dict[Place, set[int]] = defaultdict(set)
        self._committed: dict[Place, dict[int, int]] = defaultdict(dict)
        """The last offset that was acknowledged, by generation."""

    def assigned(self, generation: int, member_id: str, places: list[Place]) -> None:
        """A member was given these places."""
        self.generations = max(self.generations, generation)
        for place in places:
            owner = self._owners.setdefault((generation, place), member_id)
            assert owner == member_id, f"{place}: {owner} and {member_id} own it in generation {generation}"

    def handed(self, place: Place, records: list[tuple[int, bytes]]) -> None:
        """A member was given these records."""
        self.values[place] |= {value for _, value in records}

    def sent(self, positions: dict[Place, int]) -> None:
        """These offsets are about to be committed."""
        for place, offset in positions.items():
            self._sent[place].add(offset)

    def committed(self, generation: int, positions: dict[Place, int]) -> None:
        """They were, as the coordinator says."""
        self.commits += 1
        for place, offset in positions.items():
            self._committed[place][generation] = offset

    def resumed(self, generation: int, place: Place, offset: int) -> None:
        """A member of that generation was told that this was committed."""
        assert offset in (-1, *self._sent[place]), f"{place}: nobody has committed {offset}"
        for of_generation, before in self._committed[place].items():
            assert of_generation > generation or offset >= before, (
                f"{place}: {before} was committed in generation {of_generation}, and is {offset} in {generation}"
            )

    def final(self, place: Place, offset: int) -> None:
        """What is committed when all is over."""
        self.resumed(max(self._committed[place], default=0), place, offset)

    def has_had(self, place: Place, values: list[bytes]) -> bool:
        """Whether all of these were handed to somebody."""
        return self.values[place] >= set(values)
