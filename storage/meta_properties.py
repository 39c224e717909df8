"""meta.properties: which cluster and which node a data directory belongs to. Java's properties format, version 1."""

import re

import msgspec

from kpybroker.storage.errors import MetaRefused

_PAIR = re.compile(r"(?P<key>(?:[^\s:=\\]|\\.)+)(?:\s*[:=]\s*|\s+)?(?P<value>.*)")
_ESCAPED = re.compile(r"\\(.)")


class MetaProperties(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says. The ids are in their 22-character form (a cluster id may be any text)."""

    cluster_id: str
    node_id: int
    directory_id: str | None = None
    """None in directories from before Kafka 3.7; a JVM then never becomes a voter, so a new one is given at start."""


def write_meta_properties(meta: MetaProperties) -> bytes:
    """The file's text, without the date that the JVM puts first."""
    lines = [f"cluster.id={_escape(meta.cluster_id)}"]
    if meta.directory_id is not None:
        lines.append(f"directory.id={_escape(meta.directory_id)}")
    lines += [f"node.id={meta.node_id}", "version=1", ""]
    return "\n".join(lines).encode()


def read_meta_properties(data: bytes, path: str) -> MetaProperties:
    """What the file at `path` says. Raises: MetaRefused where Kafka, too, refuses to start."""
    pairs = {}
    for line in data.decode("latin-1").splitlines():
        text = line.lstrip()
        if not text or text[0] in "#!":
            continue
        matched = _PAIR.match(text)
        if matched is not None:
            pairs[_unescape(matched["key"])] = _unescape(matched["value"])
    version = pairs.get("version", "0")
    if version != "1":
        raise MetaRefused(f"{path} has version {version}, only 1 is supported")
    for name in ("cluster.id", "node.id"):
        if name not in pairs:
            raise MetaRefused(f"{path}: {name} was not found")
    node_id = pairs["node.id"].strip()
    if not node_id.isascii() or not node_id.isdigit():
        raise MetaRefused(f"{path}: node.id is {node_id!r}, which is no number")
    return MetaProperties(cluster_id=pairs["cluster.id"], node_id=int(node_id), directory_id=pairs.get("directory.id"))


def _escape(text: str) -> str:
    return re.sub(r"([\\=:#!])", r"\\\1", text)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
