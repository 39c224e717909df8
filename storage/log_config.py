"""What a log must know of its topic's configuration. Filled by `kpybroker.config`, which owns names and defaults."""

from typing import Literal

import msgspec

CodecSetting = Literal["producer", "none", "gzip", "snappy", "lz4", "zstd"]


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Kafka's topic settings as far as they reach the log; no defaults here. Sizes in bytes, times in milliseconds."""

    segment_bytes: int
    """segment.bytes: a segment never grows beyond it, except for a single larger follower append."""
    segment_ms: int
    """segment.ms: a segment is rolled once its first batch is older than this."""
    segment_jitter_ms: int
    """segment.jitter.ms: at most so much is taken off `segment_ms`, another amount for each segment."""
    index_bytes_max: int
    """segment.index.bytes: a segment is rolled when its offset or time index would grow beyond it."""
    index_interval_bytes: int
    """index.interval.bytes: about so many bytes of log between two index entries."""
    retention_bytes: int
    """retention.bytes: -1 is without limit."""
    retention_ms: int
    """retention.ms: -1 is without limit."""
    file_delete_delay_ms: int
    """file.delete.delay.ms: how long a `.deleted` file stays."""
    flush_messages: int
    """flush.messages: when so many records are unflushed, the log owes a flush before the last of them counts."""
    flush_ms: int
    """flush.ms: unflushed records are due to be synced after this time."""
    message_bytes_max: int
    """max.message.bytes: the largest batch, compressed, that a producer may append."""
    compacted: bool
    """cleanup.policy contains compact: a null key is refused, and retention by time or size needs `deletes` too."""
    deletes: bool
    """cleanup.policy contains delete."""
    cleanable_ratio_min: float
    """min.cleanable.dirty.ratio: a compacted log is compacted again when more than this part of it is new."""
    compaction_lag_ms_min: int
    """min.compaction.lag.ms: a segment with a younger record is not compacted."""
    compaction_lag_ms_max: int
    """max.compaction.lag.ms: a log with an older record that was not compacted yet is compacted at once."""
    delete_retention_ms: int
    """delete.retention.ms: how long compaction keeps tombstones and transaction markers after it first met them."""
    codec: CodecSetting
    """compression.type: "producer" leaves batches as they came ("none" is Kafka's "uncompressed")."""
    codec_level: int | None
    """compression.<codec>.level of `codec`; None: the codec's own default."""
    timestamp_type: Literal["CreateTime", "LogAppendTime"]
    """message.timestamp.type."""
    timestamp_before_max_ms: int
    """message.timestamp.before.max.ms: how far behind the broker's clock a record's timestamp may be."""
    timestamp_after_max_ms: int
    """message.timestamp.after.max.ms: how far ahead of the broker's clock a record's timestamp may be."""
    preallocate: bool
    """preallocate: a new segment file gets its full size at once and is trimmed when it is rolled or closed."""
    producer_id_expiration_ms: int
    """producer.id.expiration.ms (a broker setting): a producer without an open transaction is forgotten after it."""
