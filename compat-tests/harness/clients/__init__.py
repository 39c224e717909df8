"""The clients that carry the text, each behind the same few calls: write, and a group of three that reads."""

from __future__ import annotations

from typing import Final

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS: Final = 6
MEMBERS: Final = 3
JOIN_LIMIT_S: Final = 90.0
