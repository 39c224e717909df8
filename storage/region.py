"""Pieces of segment files that a reply sends without copying them, and the counting that keeps the files open.

A segment's file is held by its segment and by every region of it that is still to be sent. Retention and truncation
let go of the file at once; its descriptor is closed when the last region is released. Truncation also makes the
regions of that file stale: bytes that a region was promised may be replaced by others, so it must not be sent.
"""

import os

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import OpenFile

_PROBE = 1
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)  # Linux only; without it a probe reads, which warms
_WARM_BYTES = 1 << 20


class SharedFile:
    """An open file with its holders: the segment and the regions. Belongs to the event loop."""

    __slots__ = ("_holders", "epoch", "file")

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.epoch = 0  # grows with each truncation; a region made before one is stale
        self._holders = 1

    def retain(self) -> None:
        """One holder more."""
        assert self._holders > 0, "the file is already closed"
        self._holders += 1

    def release(self) -> None:
        """One holder less; the last one closes the file."""
        self._holders -= 1
        assert self._holders >= 0, "released more often than retained"
        if self._holders == 0:
            self.file.close()

    def truncated(self) -> None:
        """Bytes of this file may change from now on: its regions are stale."""
        self.epoch += 1


class FileRegion:
    """`length` bytes of a segment file from `position` on, to be sent with sendfile or read.

    Whoever gets one releases it when it is sent or dropped (dropping the last reference does so too).
    """

    __slots__ = ("_epoch", "_shared", "length", "position")

    def __init__(self, shared: SharedFile, position: int, length: int) -> None:
        shared._holders += 1  # as retain(), without the call: this is the fetch path
        self._shared: SharedFile | None = shared
        self._epoch = shared.epoch
        self.position = position
        self.length = length

    def __len__(self) -> int:
        return self.length

    def fileno(self) -> int:
        """The descriptor to send from. Raises: OSError on a simulated disk; ValueError after release."""
        shared = self._shared
        return (self._held() if shared is None else shared).file.fileno()

    @property
    def stale(self) -> bool:
        """Whether the log was truncated since: such a region is not sent, and a reply begun closes its connection."""
        shared = self._shared
        return shared is None or shared.epoch != self._epoch

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Its bytes from `start` on, `length` of them (all), for streams that can't sendfile. Blocking.

        Raises: StorageFailed; ValueError after release.
        """
        most = self.length - start
        length = most if length is None else min(length, most)
        return self._held().file.read_at(self.position + start, length)

    def read_warm(self) -> memoryview | None:
        """Its bytes if they are all in the page cache, as far as the system tells; else None."""
        data = bytearray(self.length)
        try:
            got = os.preadv(self.fileno(), [data], self.position, _NOWAIT) if _NOWAIT else 0
        except OSError:  # cold; or whoever sends it finds what is wrong
            return None
        return memoryview(data) if got == self.length else None

    def is_warm(self) -> bool:
        """Whether its first and last page are in the page cache, as far as the system tells (about 4 µs).

        A cold region is warmed in a worker thread first, or it would stall the loop while the disk seeks.
        """
        fd = self.fileno()
        probe = [bytearray(_PROBE)]
        try:
            os.preadv(fd, probe, self.position, _NOWAIT)
            os.preadv(fd, probe, self.position + self.length - 1, _NOWAIT)
        except BlockingIOError:
            return False
        except OSError:  # a file system without RWF_NOWAIT: nothing can be said, so nothing is waited for
            return True
        return True

    def warm(self) -> None:
        """Bring the bytes into the page cache; for a worker thread. Raises: StorageFailed."""
        fd = self.fileno()
        scratch = bytearray(min(self.length, _WARM_BYTES))
        done = 0
        while done < self.length:
            try:
                got = os.preadv(fd, [memoryview(scratch)[: self.length - done]], self.position + done)
            except OSError as error:
                raise self.failed(error) from error
            if got == 0:
                return
            done += got

    def failed(self, error: OSError) -> StorageFailed:
        """The failure of its file that `error` is, met by whoever read from `fileno`."""
        return StorageFailed(self._held().file.path, error)

    def release(self) -> None:
        """Let go of the file; calling it again is harmless."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.release()

    def _held(self) -> SharedFile:
        if self._shared is None:
            raise ValueError("the region was released")
        return self._shared

    def __del__(self) -> None:
        self.release()
