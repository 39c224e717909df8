"""A cluster on a simulated disk: started, asked, stopped or killed."""

from contextlib import asynccontextmanager

import trio

from kpybroker.clock import Clock
from kpybroker.cluster.metadata_log import MetadataLogConfig
from kpybroker.cluster.service import Cluster
from kpybroker.config import BrokerConfig
from kpybroker.ids import Ids
from kpybroker.storage.data_dir import DataDir
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from kpybroker.wire.messages.create_topics import CreateTopicsRequest
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest
from kpybroker.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest
from kpybroker.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.storage.faulty_files import FaultyFiles

from .making import CALLER, LISTENER, wanted

__all__ = ["FaultyFiles"]

PATH = "/data"
NOW = 1_700_000_000_000
LOG_CONFIG = MetadataLogConfig(segment_bytes=1 << 30, segment_ms=10**9, retention_bytes=100 << 20, retention_ms=-1)


def config(**overrides) -> BrokerConfig:
    return BrokerConfig.load(None, {name.replace("_", "."): str(value) for name, value in overrides.items()}, None)


EMBEDDED = config()


async def inline(call):
    """Instead of a worker thread, which under a MockClock counts as idle: timers would overtake it."""
    await trio.lowlevel.checkpoint()
    call()


def open_cluster(
    disk, *, of=EMBEDDED, adopt=True, seed=None, in_worker=trio.to_thread.run_sync
) -> tuple[DataDir, Cluster]:
    dirs = DataDirs.open([PATH], PATH, disk)
    try:
        cluster = Cluster.open(
            dirs,
            config=of,
            adopt=adopt,
            clock=Clock(),
            ids=Ids(seed),
            files=disk,
            now_ms=NOW,
            in_worker=in_worker,
        )
    except BaseException:
        dirs.close()
        raise
    return dirs.metadata, cluster


@asynccontextmanager
async def running(disk, *, of=EMBEDDED, adopt=True, seed=None, stop=True, in_worker=trio.to_thread.run_sync):
    """A cluster that leads, with its broker in service; stopped cleanly at the end, or left as it is."""
    data_dir, cluster = open_cluster(disk, of=of, adopt=adopt, seed=seed, in_worker=in_worker)
    left = data_dir.take_clean_stop()
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.run)
        await cluster.broker.join([LISTENER], rack=None, previous_epoch=-1 if left is None else left.broker_epoch)
        yield cluster
        if stop:
            await cluster.broker.shut_down()
        nursery.cancel_scope.cancel()
    if stop:
        cluster.close(clean=True)
        data_dir.write_clean_stop(cluster.broker.epoch)
    data_dir.close()


async def create(cluster, *names, partitions=1, configs=()):
    """Create topics; returns the error codes."""
    topics = [wanted(name, partitions, 1, configs=configs) for name in names]
    response = await cluster.controller.create_topics(CreateTopicsRequest(topics=topics), CALLER)
    return [result.error_code for result in response.topics]


async def delete(cluster, *names):
    request = DeleteTopicsRequest(topic_names=list(names), topics=[], timeout_ms=0)
    response = await cluster.controller.delete_topics(request, CALLER)
    return [result.error_code for result in response.responses]


async def grow(cluster, name, count):
    topic = CreatePartitionsTopic(name=name, count=count, assignments=None)
    request = CreatePartitionsRequest(topics=[topic], timeout_ms=0, validate_only=False)
    (result,) = (await cluster.controller.create_partitions(request, CALLER)).results
    return result.error_code


async def configure(cluster, kind, name, key, value):
    """Set a config, or remove it (value None)."""
    change = AlterableConfig(name=key, config_operation=0 if value is not None else 1, value=value)
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=[change])
    request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
    (result,) = (await cluster.controller.incremental_alter_configs(request, CALLER)).responses
    return result.error_code


async def unregister(cluster, broker_id=1):
    """Forget a broker; returns the error code."""
    response = await cluster.controller.unregister_broker(UnregisterBrokerRequest(broker_id=broker_id))
    return response.error_code


async def update(cluster, **levels):
    """Set feature levels, upwards; returns the error code."""
    updates = [
        FeatureUpdateKey(feature=name.replace("_", "."), max_version_level=level) for name, level in levels.items()
    ]
    response = await cluster.controller.update_features(UpdateFeaturesRequest(feature_updates=updates), CALLER)
    return response.error_code
