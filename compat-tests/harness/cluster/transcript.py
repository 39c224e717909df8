"""What Kafka's tools print of a cluster, as text that is the same for every cluster in the same situation.

A transcript is a command line, what the tool wrote to stdout and stderr, and its exit code if that is not 0; then the
next. What differs from run to run is replaced: addresses, ids, offsets, epochs, times.
"""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.cluster.cluster import Cluster
from harness.java_tools import CLUSTER, ToolHost

NAMES: Final = {
    "TopicCommand": "kafka-topics",
    "FeatureCommand": "kafka-features",
    "ClusterTool": "kafka-cluster",
    "MetadataQuorumCommand": "kafka-metadata-quorum",
    "LeaderElectionCommand": "kafka-leader-election",
    "ReassignPartitionsCommand": "kafka-reassign-partitions",
    "ConfigCommand": "kafka-configs",
}
BROKERS, CONTROLLERS = "--bootstrap-server", "--bootstrap-controller"
ASKING: Final = {"describe", "--describe", "--list", "list-endpoints"}
SETTLED_LIMIT_S: Final = 10.0
MASKS: Final = (
    (r"(TopicId: )\S+", r"\1ID"),
    (r'("directoryId": )"[^"]+"', r"\1ID"),
    (r"(?m)^((?:Leader|Max|High)\w+:\s+)\d+$", r"\1N"),
    (r"(Epoch: )\d+", r"\1N"),
    (r"\d+ ms ago", "N ms ago"),
    (r"(set of voters) \[[^]]*\]", r"\1 [VOTERS]"),
    (r"(Local controller) \d+", r"\1 N"),
    (r"(?m)^\tat .*\n|^\t\.\.\. \d+ more\n", ""),
    (r"(?m)^(the tool has ended|ToolHost\$Ended: the tool has ended)\n", ""),
    (r"(?m)^\[.*?\] (WARN|ERROR|INFO) .*\n", ""),
    (r"  +", "  "),
    (r"(?m)[ \t]+$", ""),
    (r"\n\n+", "\n"),
)
"""Regular expression -> what stands for it.

Widths of columns follow the ports; logs and stack traces are the tool's own; kafka-topics tells also of how
java/ToolHost.java ends it.
"""


class Transcript:
    """What the tools said in one chapter, and at `path` what Apache Kafka's cluster had them say."""

    def __init__(self, tools: ToolHost, cluster: Cluster, path: Path, rewrite: bool) -> None:
        self._tools = tools
        self._cluster = cluster
        self._path = path
        self._expected = None if rewrite else path.read_text()
        self.text = ""

    def check(self) -> None:
        """That it is the same; or take it down, if it is to be rewritten. Raises: AssertionError."""
        if self._expected is None:
            assert {node.kind for node in self._cluster.nodes} == {"kafka"}, "the answers are Apache Kafka's"
            self._path.write_text(self.text)
            return
        lines = (self._expected.splitlines(), self.text.splitlines())
        diff = difflib.unified_diff(*lines, "Apache Kafka's", "these", lineterm="", n=4)
        assert self.text == self._expected, "\n".join(diff)

    def run(
        self,
        main: str,
        *arguments: str,
        of: str = BROKERS,
        masked: Callable[[str], str] = str,
        shown: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Run a tool on the cluster. `masked` is done to what it says beside MASKS; `shown`: what stands for what.

        A broker may answer before it knows what has happened, Kafka's too: a tool that only asks is run again, for
        some seconds, where it does not say what it should.
        """
        deadline_s = time.monotonic() + SETTLED_LIMIT_S
        entry = self._entry(main, arguments, of, masked, shown)
        while ASKING & set(arguments) and self._may_settle(entry) and time.monotonic() < deadline_s:
            entry = self._entry(main, arguments, of, masked, shown)
        self.text += entry

    def _may_settle(self, entry: str) -> bool:
        expected = self._expected
        return expected is not None and expected.startswith(self.text) and not expected.startswith(self.text + entry)

    def _entry(
        self,
        main: str,
        arguments: tuple[str, ...],
        of: str,
        masked: Callable[[str], str],
        shown: tuple[tuple[str, str], ...],
    ) -> str:
        where = self._cluster.address if of == BROKERS else self._cluster.controller_address
        given = (*arguments, of, where) if main == CLUSTER else (of, where, *arguments)
        result = self._tools.run(main, *given, limit_s=120)
        name = NAMES[main.rpartition(".")[2]]
        line = " ".join((name, *arguments, *((of,) if of == CONTROLLERS else ())))
        said = masked(self._masked(result.out + result.err).strip("\n")).rstrip("\n")
        entry = "".join(f"{each}\n" for each in (f"$ {line}", said) if each)
        for old, new in shown:
            entry = entry.replace(old, new)
        return entry if result.code == 0 else f"{entry}[{result.code}]\n"

    def note(self, words: str) -> None:
        """What happens to the cluster in between."""
        self.text += f"\n# {words}\n"

    def _masked(self, text: str) -> str:
        text = text.replace(self._cluster.cluster_id, "CLUSTER").replace(str(self._cluster.folder), "FOLDER")
        for node in self._cluster.nodes:
            for port, role in ((node.place.port, "broker"), (node.place.controller_port, "controller")):
                text = re.sub(rf"\b{port}\b", f"{role.upper()}-{node.node_id}", text)
        for pattern, stands in MASKS:
            text = re.sub(pattern, stands, text)
        return text


def plan(path: Path, rows: dict[tuple[str, int], list[int]]) -> Path:
    """A file for kafka-reassign-partitions: each partition's replicas."""
    partitions = [{"topic": topic, "partition": index, "replicas": each} for (topic, index), each in rows.items()]
    path.write_text(json.dumps({"version": 1, "partitions": partitions}))
    return path
