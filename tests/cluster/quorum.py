"""Several nodes of one metadata quorum in a process: raft nodes and controllers, joined by streams in memory."""

from contextlib import asynccontextmanager

import trio
import trio.testing

from kpybroker.clock import Clock
from kpybroker.cluster.raft_answers import Listener, must_answer
from kpybroker.cluster.service import Cluster
from kpybroker.ids import Ids
from kpybroker.storage.data_dir import DataDir
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.storage.meta_properties import MetaProperties
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import decode, decode_prefix, encode
from kpybroker.wire.frames import FrameReader, frame_header
from kpybroker.wire.headers import RequestHeader, ResponseHeader
from kpybroker.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    SupportedFeatureKey,
)
from kpybroker.wire.messages.begin_quorum_epoch import BeginQuorumEpochRequest
from kpybroker.wire.messages.end_quorum_epoch import EndQuorumEpochRequest
from kpybroker.wire.messages.fetch import FetchRequest
from kpybroker.wire.messages.fetch_snapshot import FetchSnapshotRequest
from kpybroker.wire.messages.vote import VoteRequest
from kpybroker.wire.primitives import uuid_text

from .running import NOW, FaultyFiles, config, inline

REQUESTS = {
    ApiKey.API_VERSIONS: ApiVersionsRequest,
    ApiKey.VOTE: VoteRequest,
    ApiKey.BEGIN_QUORUM_EPOCH: BeginQuorumEpochRequest,
    ApiKey.END_QUORUM_EPOCH: EndQuorumEpochRequest,
    ApiKey.FETCH: FetchRequest,
    ApiKey.FETCH_SNAPSHOT: FetchSnapshotRequest,
}
PORT = 9093
CLUSTER_ID = "vPeOCWypqUOSepEvx0cbog"


class Network:
    """Which nodes listen, and who can't reach whom."""

    def __init__(self):
        self.nodes = {}
        self.cut = set()
        """(from, to): nothing of what `from` sends arrives."""

    def connector(self, sender):
        async def connect(host, port):
            await trio.lowlevel.checkpoint()
            to = int(host.removeprefix("node"))
            if (sender, to) in self.cut or (to, sender) in self.cut:
                await trio.sleep_forever()
            if to not in self.nodes:
                raise ConnectionRefusedError(111, "Connection refused")
            ours, theirs = trio.testing.memory_stream_pair()
            self.nodes[to].nursery.start_soon(self.nodes[to].serve, theirs, sender)
            return ours

        return connect


class QuorumNode:
    """One node: its cluster's raft node and controller, and the listener."""

    def __init__(self, network, node_id, disk, settings, seed):
        self.network, self.id, self.disk = network, node_id, disk
        self.hold = None
        """An event before which nothing is written that may block."""
        self.dirs = DataDirs.open(["/data"], "/data", disk)
        self.cluster = Cluster.open(
            self.dirs,
            config=settings,
            adopt=False,
            clock=Clock(),
            ids=Ids(seed),
            files=disk,
            now_ms=NOW,
            cluster_id=CLUSTER_ID,
            in_worker=self.in_worker,
        )
        self.raft = self.cluster.raft
        self.raft.connector = network.connector(node_id)
        self.nursery = None

    async def in_worker(self, call):
        if self.hold is not None:
            await self.hold.wait()
        await inline(call)

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            await nursery.start(self.cluster.run)
            self.network.nodes[self.id] = self
            task_status.started(self)

    def kill(self):
        """As kill -9 and a power cut: what was not synced may be gone. Returns the disk."""
        self.network.nodes.pop(self.id, None)
        self.nursery.cancel_scope.cancel()
        return self.disk.killed()

    async def serve(self, stream, sender):
        reader = FrameReader(1 << 30)
        try:
            while True:
                frame = reader.next_frame()
                if frame is None:
                    data = await stream.receive_some(65536)
                    if not data:
                        return
                    reader.feed(data)
                    continue
                await self.answer(stream, frame, sender)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            stream.close() if hasattr(stream, "close") else None
            stream.send_stream.close()
            stream.receive_stream.close()

    async def answer(self, stream, frame, sender):
        key, version = int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:4], "big")
        api = APIS[ApiKey(key)]
        header, at = decode_prefix(RequestHeader, api.request_header_version(version), frame)
        request = decode(REQUESTS[ApiKey(key)], version, frame[at:])
        response = await self.carry_out(request, version)
        if {(sender, self.id), (self.id, sender)} & self.network.cut:
            await trio.sleep_forever()
        head = encode(ResponseHeader(correlation_id=header.correlation_id), api.response_header_version(version))
        body = encode(response, version)
        await stream.send_all(frame_header(len(head) + len(body)) + head + body)

    async def carry_out(self, request, version):
        listener = Listener(self.raft, "CONTROLLER")
        match request:
            case ApiVersionsRequest():
                keys = [
                    ApiVersion(api_key=key, min_version=APIS[key].schema[0], max_version=APIS[key].schema[1])
                    for key in REQUESTS
                ]
                kraft = SupportedFeatureKey(name="kraft.version", min_version=0, max_version=1)
                return ApiVersionsResponse(error_code=0, api_keys=keys, throttle_time_ms=0, supported_features=[kraft])
            case VoteRequest():
                return await listener.vote(request)
            case BeginQuorumEpochRequest():
                return await listener.begin(request)
            case EndQuorumEpochRequest():
                return await listener.end(request)
            case FetchSnapshotRequest():
                return await listener.fetch_snapshot(request)
            case FetchRequest():
                response = await listener.fetch(request, version)
                with trio.move_on_after(request.max_wait_ms / 1000):
                    while not must_answer(request, response):
                        await self.raft.news.wait()
                        response = await listener.fetch(request, version)
                return response


def prepare(disk, node_id):
    """Format the folder of a node that is no voter yet."""
    data_dir = DataDir("/data", disk)
    data_dir.write_meta(
        MetaProperties(cluster_id=CLUSTER_ID, node_id=node_id, directory_id=uuid_text(bytes([node_id]) * 16))
    )
    data_dir.close()


def settings_of(node_id, voters, kraft_version=0, **overrides):
    return config(
        **{
            "node.id": node_id,
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://node{node_id}:9092,CONTROLLER://node{node_id}:{PORT}",
            "advertised.listeners": f"PLAINTEXT://node{node_id}:9092,CONTROLLER://node{node_id}:{PORT}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": ",".join(f"node{id_}:{PORT}" for id_ in voters),
            "controller.quorum.voters": "" if kraft_version else ",".join(f"{id_}@node{id_}:{PORT}" for id_ in voters),
            **overrides,
        }
    )


class Quorum:
    """Nodes 1 to n."""

    def __init__(self, nursery, count=3, voters=None, kraft_version=0, **overrides):
        self.nursery, self.network, self.overrides = nursery, Network(), overrides
        self.ids = list(range(1, count + 1))
        self.voters, self.kraft_version = voters or self.ids, kraft_version
        self.disks = {id_: FaultyFiles() for id_ in (*self.ids, *range(count + 1, count + 3))}
        self.starts = 0

    async def start(self, *ids):
        for id_ in ids or self.ids:
            self.starts += 1
            settings = settings_of(id_, self.voters, self.kraft_version, **self.overrides)
            if self.kraft_version and id_ not in self.voters and not self.disks[id_].exists("/data/meta.properties"):
                prepare(self.disks[id_], id_)
            node = QuorumNode(self.network, id_, self.disks[id_], settings, seed=1000 * id_ + self.starts)
            await self.nursery.start(node.run)

    def kill(self, id_):
        self.disks[id_] = self.network.nodes[id_].kill()

    @property
    def nodes(self):
        return self.network.nodes

    @property
    def leaders(self):
        return [node for node in self.nodes.values() if node.raft.is_leader]

    async def leader(self, within_s=20, other_than=None):
        with trio.fail_after(within_s):
            while True:
                found = [node for node in self.leaders if node.id != other_than]
                if found and found[0].raft.log.raft.leadership.high_watermark is not None:
                    return found[0]
                await trio.sleep(0.01)

    async def until(self, condition, within_s=20):
        with trio.fail_after(within_s):
            while not condition():
                await trio.sleep(0.01)


@asynccontextmanager
async def quorum(count=3, **overrides):
    async with trio.open_nursery() as nursery:
        yield Quorum(nursery, count, **overrides)
        nursery.cancel_scope.cancel()
