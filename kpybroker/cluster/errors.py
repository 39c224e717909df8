"""What can be wrong with a node's cluster metadata. A MetadataError ends the node: going on would be guessing."""

from __future__ import annotations


class MetadataError(Exception):
    """Base of everything below; the text is one line that an operator can act on."""


class UnsupportedFeature(MetadataError):
    """The cluster has finalized a feature level whose formats this version does not know."""

    def __init__(self, name: str, level: int, supported: tuple[int, int] | None) -> None:
        known = f"levels {supported[0]} to {supported[1]}" if supported else "no such feature"
        super().__init__(f"the cluster has finalized {name} at level {level}; this version of kpybroker knows {known}")
        self.name = name
        self.level = level


class UnreplayableRecord(MetadataError):
    """A record of the metadata log contradicts the records before it, or can't be read."""

    def __init__(self, offset: int, record: str, why: str) -> None:
        super().__init__(f"{record} at offset {offset} of the metadata log can't be applied: {why}")
        self.offset = offset


class IncompleteSnapshot(MetadataError):
    """A snapshot file has no footer, or bytes that are not a snapshot's: its writer died, or the disk lost it."""


class NotAlone(MetadataError):
    """The data folder belongs to a quorum whose voters are not this node alone."""


class WrongDataFolder(MetadataError):
    """The data folder belongs to another node or cluster, or lacks what a formatted folder has."""


class FolderUntold(MetadataError):
    """A data folder has failed, and the controller could not be told within log.dir.failure.timeout.ms."""


class BatchTooLarge(Exception):
    """Records that are to be one batch are more bytes than a batch may have; nothing was written."""
