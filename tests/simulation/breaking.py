"""Rules of the product broken on purpose: whether simulation notices, and how soon.

A rule is a piece of a function's source; broken, the function runs with another piece in its place.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

from kpybroker.cluster.raft_node import RaftNode
from kpybroker.replication.machines.leader import Leader
from kpybroker.replication.replica_log import ReplicaLog
from kpybroker.storage.producer_state import ProducerStates


class Broken(NamedTuple):
    """A function, what stands in it, and what is put in its place."""

    function: Callable[..., Any]
    rule: str
    instead: str


RULES = {
    "every replica of the ISR counts for the high watermark": Broken(
        Leader._advance, "replica in self.maximal_isr\n", "False\n"
    ),
    "a producer's answer waits for the high watermark": Broken(
        ReplicaLog.replicated, "if self.high_watermark >= offset:", "if True:"
    ),
    "a batch that is sent again is not written again": Broken(
        ProducerStates.find_duplicate, "if seen.last_sequence == last", "if False"
    ),
    "nothing of a transaction is shown before it has ended": Broken(
        ReplicaLog.last_stable_offset.fget,
        "high_watermark if first_unstable is None else min(first_unstable, high_watermark)",
        "high_watermark",
    ),
    "the metadata log is synced before it counts": Broken(RaftNode._sync, "await self._in_worker(flush.run)", "pass"),
}


def code_of(broken: Broken) -> Any:
    """The function's code with the rule broken: to be put in the place of its own."""
    function = inspect.unwrap(broken.function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(broken.rule) == 1, f"{broken.rule!r} is not (once) in {function.__qualname__}"
    source = "\n".join(line for line in source.replace(broken.rule, broken.instead).splitlines() if line != "@property")
    space = dict(function.__globals__)
    exec(compile(f"from __future__ import annotations\n{source}", function.__code__.co_filename, "exec"), space)
    made = space[function.__name__]
    assert isinstance(made, FunctionType)
    return made.__code__
