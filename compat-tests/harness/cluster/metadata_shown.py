"""What Kafka's own readers show of a metadata log or snapshot: metadata-shell's tree, dump-log's records."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

from harness import kafka_jars
from harness.java_tools import DUMP_LOG, METADATA_SHELL, ToolHost

MASKS: Final = (
    (r"\bport=\d+", "port=N"),
    (r"\b(epoch|leader|leaderEpoch|partitionEpoch)=-?\d+", r"\1=N"),
    (r"\b(fenced|inControlledShutdown)=(true|false)", r"\1=..."),
    (r"\b(incarnationId)=[\w-]{22}", r"\1=ID"),
    (r"\b(isr|elr|lastKnownElr)=\[[\d, ]*\]", r"\1=[...]"),
    (r"\bleaderRecoveryState=\w+", "leaderRecoveryState=..."),
    (r"(?<=directories=\[)[^]]*", lambda found: ", ".join("ID" for _ in found[0].split(", "))),
    (r"(?<=replicas=\[)[^]]*", lambda found: ", ".join(sorted(found[0].split(", ")))),
)
"""Regular expression -> what stands for what depends on who was faster: epochs, and who was in sync at the end."""


def shell_tree(path: Path) -> set[str]:
    """Each line of the shell's tree of this file, with the names that it is under; topics by their names.

    But for the provenance: a snapshot's records have offsets of their own. Now and then the shell shows what it has
    before it has read the whole file.
    """
    command = kafka_jars.java(METADATA_SHELL, "--snapshot", str(path), "tree", "/image")
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for topic_id, topic in re.findall(r"\n +id:\n +(\S+)\n +name:\n +(\S+)\n", text):
        text = text.replace(topic_id, topic)
    found, above = set(), list[str]()
    for line in text.splitlines():
        if "Ignoring control record" in line:
            continue
        name = line.strip()
        above[(len(line) - len(name)) // 2 :] = [name.removesuffix(":")]
        found.add("/".join(above))
    return {each for each in found if not each.startswith("provenance/")}


def in_every_cluster(tree: set[str]) -> set[str]:
    """What is the same in every cluster that went through the same."""
    found = set()
    for line in tree:
        for pattern, stands in MASKS:
            line = re.sub(pattern, stands, line)
        found.add(line)
    return found


def record_shapes(tools: ToolHost, paths: list[Path]) -> dict[str, list[str]]:
    """Each kind of record in these files, with its version: the names of its fields."""
    names = ",".join(map(str, paths))
    result = tools.run(DUMP_LOG, "--deep-iteration", "--cluster-metadata-decoder", "--files", names)
    assert result.code == 0, result.err
    shapes: dict[str, set[str]] = {}
    for kind, text in re.findall(r"headerKeys: \[\] (\w+):? (\{.*\})$", result.out, re.MULTILINE):
        record = json.loads(text)
        fields = record["data"] if kind == "payload" else record
        name = record["type"] if kind == "payload" else kind
        shapes.setdefault(f"{name} {record['version']}", set()).update(fields)
    return {kind: sorted(shapes[kind]) for kind in sorted(shapes)}
