"""Metadata logs that Apache Kafka wrote, and how to load them."""

import gzip
import json
import tarfile
from functools import cache
from pathlib import Path

from kpybroker.cluster.batches import ControlBatch, read_batches
from kpybroker.cluster.image import EMPTY, ClusterImage
from kpybroker.cluster.loader import Loader, MetadataBatch

DATA = Path(__file__).parent.parent / "data"
DATADIRS = DATA / "datadirs"
KAFKA = DATA / "kafka-metadata"
METADATA = "__cluster_metadata-0"


@cache
def files_of(name: str) -> dict[str, bytes]:
    """The files of a data directory by their path in it."""
    with tarfile.open(DATADIRS / f"{name}.tar.gz") as archive:
        members = [member for member in archive if member.isfile()]
        return {member.name.removeprefix("./"): archive.extractfile(member).read() for member in members}


def metadata_files(name: str) -> dict[str, bytes]:
    """The files of its metadata log by name."""
    files = files_of(name)
    return {path.rpartition("/")[2]: data for path, data in files.items() if f"{METADATA}/" in path}


@cache
def manifest(name: str) -> dict:
    return json.loads(gzip.decompress((DATADIRS / f"{name}.manifest.json.gz").read_bytes()))


def batches_of(files: dict[str, bytes]) -> list[MetadataBatch]:
    """All batches of a log's segments, control batches without records."""
    found = []
    for name in sorted(files):
        if name.endswith(".log"):
            found += [plain(batch) for batch in read_batches(files[name])]
    return found


def plain(batch: MetadataBatch | ControlBatch) -> MetadataBatch:
    return batch if isinstance(batch, MetadataBatch) else MetadataBatch(*batch[:4], [])


def replayed(batches: list[MetadataBatch], image: ClusterImage = EMPTY) -> ClusterImage:
    loader = Loader(image)
    for batch in batches:
        if batch.base_offset > image.offset:
            loader.load(batch)
    return loader.publish().after
