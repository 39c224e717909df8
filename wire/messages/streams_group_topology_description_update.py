"""StreamsGroupTopologyDescriptionUpdate (API 93): a member describes its topology (KIP-1071)."""

from kpybroker.wire.schema import Int8, Int16, Int32, Message, Struct, message


class TopologyDescriptionNode(Struct):
    name: str
    node_type: Int8
    source_topics: list[str]
    sink_topic: str | None = None
    stores: list[str]
    successors: list[str]


class TopologyDescriptionSubtopology(Struct):
    subtopology_id: str
    nodes: list[TopologyDescriptionNode]


class TopologyDescriptionGlobalStore(Struct):
    source: TopologyDescriptionNode
    processor: TopologyDescriptionNode


class TopologyDescription(Struct):
    subtopologies: list[TopologyDescriptionSubtopology]
    global_stores: list[TopologyDescriptionGlobalStore]


@message(key=93, versions="0", flexible="0+")
class StreamsGroupTopologyDescriptionUpdateRequest(Message):
    group_id: str
    member_id: str
    topology_epoch: Int32
    topology_description: TopologyDescription


@message(key=93, versions="0", flexible="0+")
class StreamsGroupTopologyDescriptionUpdateResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None = None
