"""One connection: requests read, carried out and answered in order, by one task.

Produce requests that have come together are all carried out before any of them is waited for, so that followers fetch
their records together; then they are answered one by one. (Apache Kafka's broker carries out one at a time.) Any other
request waits until all before it are answered.

While a request waits (a long poll, a join, an acks=all append) for more than a moment, the connection is read on into
the same bounded buffer, to see the peer leave; that ends with the wait. The end of the stream ends the wait and nothing
else: what has arrived before is still carried out, for acks=0 producers that send and close rely on it.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import trio

from kpybroker.handlers.context import Client, CloseConnection
from kpybroker.server.dispatch import Dispatcher, LateReply, NotServed
from kpybroker.server.transport import PeerGone
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.region import FileRegion
from kpybroker.wire.errors import WireError
from kpybroker.wire.frames import FrameReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpybroker.handlers.context import Answer
    from kpybroker.seldom import SeldomLog
    from kpybroker.server.dispatch import Reply
    from kpybroker.server.idle import IdleConnections
    from kpybroker.server.transport import Transport
    from kpybroker.wire.api_keys import Api

log = logging.getLogger("kpybroker.server")

READ_AHEAD_BYTES = 64 * 1024
"""Received while a request waits; a peer that pipelines more is not read until its turn comes."""

AHEAD_MAX = 16
"""Produce requests of a peer that wait for replicas together; most clients have five on the way."""

TURN_REQUESTS = 8
"""Requests that a peer has sent ahead are carried out so many at a time, then others have their turn."""

UNWATCHED_S = 0.01
"""Most waits are over that soon (acks=all, a follower's Fetch). To watch the peer too costs four times as much."""

PRODUCE = b"\x00\x00"
"""How the frame of a Produce begins."""


class Connection:
    """A connected peer. `run` is the life of the connection."""

    def __init__(
        self,
        transport: Transport,
        client: Client,
        dispatcher: Dispatcher,
        reader: FrameReader,
        idle: IdleConnections,
        say: SeldomLog,
    ) -> None:
        self._transport = transport
        transport.moved = self._moved
        self._client = client
        self._dispatcher = dispatcher
        self._reader = reader
        self._idle = idle
        self._say = say
        self._at_end = False
        self._mute_s = 0.0
        self._in_a_row = 0
        self._ended: list[Callable[[], None]] = []
        self._unsent: Reply = []
        """Answers that wait for those of Produce requests that are here already: one system call sends them all."""
        self._late: deque[tuple[LateReply | Reply, float]] = deque()
        """Replies that are not there yet, with their deadlines, and those that come after them."""
        self.scope = trio.CancelScope()
        self._busy = False

    def __str__(self) -> str:
        client = self._client
        return f"{client.host}:{client.port} on {client.listener}"

    @property
    def answering(self) -> bool:
        """Whether a request is being carried out: then the peer is not idle, however long it takes."""
        return self._busy or bool(self._late)

    @property
    def listener(self) -> str:
        """By which listener it came."""
        return self._client.listener

    def _moved(self) -> None:
        """The peer takes what it is sent, however slowly: it is not idle."""
        if not self.scope.cancel_called:
            self._idle.active(self)

    async def run(self) -> None:
        """Serve the peer until it leaves, is idle too long, or sends what is not a request."""
        self._idle.active(self)
        try:
            with self.scope:
                await self._answer_all()
            if self.scope.cancelled_caught:
                log.debug("connection from %s closed: idle", self)
        except (NotServed, WireError) as reason:
            kind = (type(reason), self._client.host)
            self._say(logging.WARNING, kind, "connection from %s closed: %s", self, reason)
        except StorageFailed as failure:  # in the middle of an answer, which can only be broken off, as by Kafka
            self._say(logging.ERROR, failure.error.errno, "connection from %s closed: %s", self, failure)
        except (PeerGone, CloseConnection) as reason:
            log.debug("connection from %s closed: %s", self, reason or type(reason).__name__)
        finally:
            self._release(self._unsent)
            self._idle.forget(self)
            for call in self._ended:
                call()
            await self._transport.aclose()

    async def _answer_all(self) -> None:
        """Carry out requests until the peer leaves. Raises: PeerGone, and what ends a connection from this side."""
        try:
            while (frame := await self._next_frame()) is not None:
                self._busy = True
                reply = await self._dispatcher.answer(frame, self._client, self)
                if isinstance(reply, LateReply):
                    self._late.append((reply, trio.current_time() + reply.later.limit_s))
                elif self._late and reply is not None:
                    self._late.append((reply, 0.0))
                elif reply is not None:
                    self._unsent += reply
                self._busy = False
                self._idle.active(self)
                if self._mute_s:
                    await self._pause()
        except (NotServed, WireError, CloseConnection):
            await self.send_answers()  # what came before is answered
            raise

    async def _next_frame(self) -> memoryview | None:
        """The next request, None after the last one; before anything is waited for, answers are sent.

        Only Produce is carried out before earlier answers are on their way: it has them sent before it waits.
        Raises: WireError, PeerGone, CloseConnection.
        """
        self._in_a_row += 1
        if self._in_a_row > TURN_REQUESTS:  # it sent more than it was answered: the others are next
            self._in_a_row = 0
            await self._send()
            await trio.lowlevel.checkpoint()
        while (frame := self._reader.next_frame()) is None:
            if self._late and self._transport.receive_now(self._reader):
                continue
            await self._finish_late()
            if self._at_end or not await self._transport.receive(self._reader):
                return None
            self._idle.active(self)
        if frame[:2] != PRODUCE:
            await self._finish_late()
        elif len(self._late) >= AHEAD_MAX:
            await self._finish_late(AHEAD_MAX - 1)
        return frame

    async def _finish_late(self, left: int = 0) -> None:
        """Send until no more than so many replies are late; who has left gets what there is.

        Raises: PeerGone, CloseConnection.
        """
        while True:
            await self._send()
            if len(self._late) <= left:
                return
            first, deadline_s = self._late[0]
            assert isinstance(first, LateReply), "what stands first is late, or would have been sent"
            happened = trio.Event()
            first.later.wake = happened.set
            if not await self._wait(happened, deadline_s - trio.current_time()):
                self._late[0] = first, 0.0

    def _take_late(self) -> None:
        """What is not late any more is to be sent, in order. Raises: CloseConnection."""
        now_s = trio.current_time() if self._late else 0.0
        while self._late:
            first, deadline_s = self._late[0]
            if isinstance(first, LateReply):
                if first.later.awaited and now_s < deadline_s:
                    return
                try:
                    reply = first.parts()
                except CloseConnection:
                    self._late.clear()  # after a gap in the answers no other would be understood
                    raise
            else:
                reply = first
            self._late.popleft()
            if reply is not None:
                self._unsent += reply

    async def _send(self) -> None:
        """Send the answers that are there and were not sent yet. Raises: PeerGone, CloseConnection."""
        self._take_late()
        if self._unsent:
            replies, self._unsent = self._unsent, []
            try:
                await self._transport.send(replies)
            finally:
                self._release(replies)

    async def send_answers(self) -> None:
        """Send all answers to earlier requests, so that they do not wait for what this one waits for."""
        try:
            await self._finish_late()
        except PeerGone:  # the handler that waits goes on, and nobody hears of it
            self._at_end = True

    def _release(self, reply: Reply) -> None:
        for part in reply:
            if isinstance(part, FileRegion):
                part.release()

    def mute(self, throttle_ms: int) -> None:
        """Read nothing from the peer for that long, once the request at hand is answered (KIP-219).

        What it sends meanwhile waits in the kernel; what had been read already waits here. Others are not concerned.
        """
        self._mute_s = throttle_ms / 1000

    async def _pause(self) -> None:
        pause_s, self._mute_s = self._mute_s, 0.0
        await self._finish_late()
        await trio.sleep(pause_s)

    def advertised(self) -> list[tuple[Api, int, int]]:
        """The APIs served on this connection's listener, each with its least and greatest version."""
        return self._dispatcher.advertised()

    def at_end(self, call: Callable[[], None]) -> None:
        """Have `call` called when the connection ends."""
        self._ended.append(call)

    async def wait(self, event: trio.Event, limit_s: float) -> bool:
        """Wait for `event`, at most `limit_s` seconds and no longer than the peer stays; whether it happened."""
        if event.is_set() or limit_s <= 0:
            return event.is_set()
        await self.send_answers()
        return await self._wait(event, limit_s)

    async def _wait(self, event: trio.Event, limit_s: float) -> bool:
        if self._at_end or limit_s <= 0:
            return event.is_set()
        with trio.move_on_after(min(limit_s, UNWATCHED_S)):
            await event.wait()
        if not event.is_set() and limit_s > UNWATCHED_S:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_on, nursery.cancel_scope)
                with trio.move_on_after(limit_s - UNWATCHED_S):
                    await event.wait()
                nursery.cancel_scope.cancel()
        return event.is_set()

    async def wait_answer(self, answer: Answer) -> None:
        """Return when `answer` has come. Raises: CloseConnection when the peer leaves first.

        Members of large groups wait all at once, so here is no second task: this one reads on, and the answer stops it.
        """
        await self.send_answers()
        with trio.CancelScope() as scope:
            answer.wake = scope.cancel
            while not answer.answered:
                if self._reader.buffered_bytes >= READ_AHEAD_BYTES:
                    await trio.sleep_forever()
                if self._at_end or not await self._transport.receive(self._reader):
                    self._at_end = True
                    break
        if not answer.answered:
            raise CloseConnection("the peer left while its request waited")

    async def _read_on(self, waiting: trio.CancelScope) -> None:
        """Receive ahead, within bounds, until the wait is over; the end of the stream ends the wait."""
        while self._reader.buffered_bytes < READ_AHEAD_BYTES:
            if self._at_end or not await self._transport.receive(self._reader):
                self._at_end = True
                waiting.cancel()
                return
