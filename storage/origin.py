"""Who hands batches to a log: it decides what is checked."""

import enum


class Origin(enum.Enum):
    """Where an append comes from, as in Kafka's AppendOrigin."""

    CLIENT = "client"
    """A Produce request: everything is checked, duplicates are found."""
    COORDINATOR = "coordinator"
    """A group, transaction or share coordinator of this node, transaction markers included."""
    CONTROLLER = "controller"
    """The metadata log's leader: batches come with their leader epoch set, no limit on their size."""
    REPLICATION = "replication"
    """The leader of the partition: offsets and epochs are taken as they are."""
