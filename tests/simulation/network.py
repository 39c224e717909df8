"""A network in memory and in simulated time: machines, listeners, connections.

A connection delivers in order, each direction with delays of its own. What may happen to it: it is reset; a direction
is cut for a time (what was sent then arrives when it is mended, as TCP sends again); its machine loses power (whoever
waits at the other end hears nothing, until the machine is up again and does not know the connection).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from kpybroker.handlers.context import Client
from kpybroker.security.principal import ANONYMOUS
from kpybroker.server.connection import Connection
from kpybroker.server.network import Network as NodeNetwork
from kpybroker.server.transport import StreamTransport
from kpybroker.wire.frames import FrameReader

Line = tuple[str, str]
"""From one machine to another."""


class SimulatedNetwork:
    """All machines and what is between them. Random choices come from `rng`, and `trace` hears what happens."""

    def __init__(self, rng: random.Random, trace: Callable[..., None]) -> None:
        self._rng = rng
        self.trace = trace
        self.cut: set[Line] = set()
        self.delay_s = (0.0002, 0.002)
        self.slow: dict[Line, float] = {}
        """What is added to the delay of a line."""
        self.machines: dict[str, Machine] = {}
        self.streams: list[SimulatedStream] = []
        self.changed = trio.Event()

    def machine(self, name: str) -> Machine:
        """A machine by its name; a new one is up."""
        if name not in self.machines:
            self.machines[name] = Machine(self, name, f"10.0.0.{len(self.machines) + 1}")
        return self.machines[name]

    def delay(self, line: Line) -> float:
        return self._rng.uniform(*self.delay_s) + self._rng.random() * self.slow.get(line, 0.0)

    def cut_off(self, lines: set[Line]) -> None:
        """These lines carry nothing from now on, all others do."""
        self.cut = set(lines)
        self.change()

    def change(self) -> None:
        """Something is other than it was: whoever waits for that looks again."""
        self.changed.set()
        self.changed = trio.Event()

    def reset_some(self, fraction: float) -> int:
        """Reset some connections, at both ends; returns how many."""
        streams = [stream for stream in self.streams if self._rng.random() < fraction]
        for stream in streams:
            stream.reset()
        return len(streams)

    def connected(self, ours: SimulatedStream, theirs: SimulatedStream) -> None:
        self.streams = [each for each in self.streams if not each.dead]
        self.streams += [ours, theirs]


class Machine:
    """A machine with an address: what listens there, and whether it has power."""

    def __init__(self, network: SimulatedNetwork, name: str, address: str) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.up = True
        self._listening: dict[int, SimulatedListener | None] = {}
        self._port = 40_000

    def of_node(self) -> NodeNetwork:
        """What a node on this machine is given."""
        return NodeNetwork(connector=self.connect, bind=self._bind, listener=self._listener)

    def _bind(self, host: str, port: int, _backlog: int) -> list[Any]:
        assert host == self.name
        self._listening[port] = None
        return [SimulatedSocket(self, port)]

    def _listener(self, *arguments: Any) -> SimulatedListener:
        listener = SimulatedListener(*arguments)
        (sock,) = listener.sockets
        self._listening[sock.port] = listener
        return listener

    def unbind(self, port: int) -> None:
        self._listening.pop(port, None)

    def fail(self, *, power: bool) -> None:
        """Its process is dead: connections are reset; `power`: the machine is, and nobody hears a thing."""
        self._listening.clear()
        self.up = not power
        for stream in self.network.streams:
            if self.name in stream.line:
                if power:
                    stream.silence()
                else:
                    stream.reset()
        self.network.change()

    def restart(self) -> None:
        """It has power again, and knows nothing of connections that it had."""
        self.up = True
        for stream in self.network.streams:
            if self.name in stream.line:
                stream.reset()
        self.network.change()

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """A connection to a listener on another machine. Raises: OSError."""
        network, line, back = self.network, (self.name, host), (host, self.name)
        await trio.sleep(network.delay(line))
        while not network.machines[host].up or {line, back} & network.cut:
            await network.changed.wait()
        await trio.sleep(network.delay(back))
        if port not in network.machines[host]._listening:
            raise ConnectionRefusedError(111, "Connection refused")
        self._port += 1
        ours, theirs = SimulatedStream(network, line), SimulatedStream(network, back)
        ours.peer, theirs.peer = theirs, ours
        network.connected(ours, theirs)
        while (listener := network.machines[host]._listening.get(port)) is None:  # in the backlog of a node that comes
            if ours.dead:
                raise ConnectionResetError(104, "Connection reset by peer")
            await network.changed.wait()
        listener.accept(theirs, self.address, self._port)
        return ours


class SimulatedSocket:
    """What stands for a listening socket."""

    def __init__(self, machine: Machine, port: int) -> None:
        self.machine = machine
        self.port = port

    def getsockname(self) -> tuple[str, int]:
        return self.machine.name, self.port

    def close(self) -> None:
        self.machine.unbind(self.port)


class SimulatedListener:
    """A Listener whose connections come from the simulated network."""

    def __init__(
        self,
        name: str,
        sockets: list[SimulatedSocket],
        dispatcher: Any,
        idle: Any,
        frame_bytes_max: int,
        staging: bytearray,
        _gate: Any,
        say: Any,
    ) -> None:
        self.name = name
        self.sockets = sockets
        self._make = lambda stream, client: Connection(
            StreamTransport(stream), client, dispatcher, FrameReader(frame_bytes_max, staging), idle, say
        )
        self._came: deque[tuple[SimulatedStream, str, int]] = deque()
        self._news = trio.Event()

    def accept(self, stream: SimulatedStream, host: str, port: int) -> None:
        self._came.append((stream, host, port))
        self._news.set()

    async def run(self, connections: trio.Nursery) -> None:
        """As Listener.run."""
        self.sockets[0].machine.network.change()
        try:
            while True:
                while self._came:
                    stream, host, port = self._came.popleft()
                    client = Client(listener=self.name, host=host, port=port, principal=ANONYMOUS)
                    connections.start_soon(self._make(stream, client).run)
                self._news = trio.Event()
                await self._news.wait()
        finally:
            for sock in self.sockets:
                sock.close()
            for stream, _, _ in self._came:
                stream.reset()


class SimulatedStream(trio.abc.Stream):
    """One end of a connection."""

    peer: SimulatedStream

    def __init__(self, network: SimulatedNetwork, line: Line) -> None:
        self.line = line
        """From this end to the other."""
        self._network = network
        self._inbox: deque[tuple[float, bytes]] = deque()
        """What was sent to this end, with when it arrives; empty bytes: the end."""
        self._last_arrival = 0.0
        self._news = trio.Event()
        self._closed = False
        self._reset = False
        self._silent = False

    @property
    def dead(self) -> bool:
        return self._closed or self._reset

    def reset(self) -> None:
        """Whoever uses either end hears that the connection is gone."""
        for end in (self, self.peer):
            end._reset = True
            end._inbox.clear()
            end._news.set()

    def silence(self) -> None:
        """Nothing is sent or received any more, and nobody is told."""
        for end in (self, self.peer):
            end._silent = True
            end._inbox.clear()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        if self.peer._closed:
            raise trio.BrokenResourceError("Broken pipe")
        sent = bytes(data)
        self._network.trace(self.line, sent)
        self.peer._arrive(sent, self._network.delay(self.line))

    def _arrive(self, data: bytes, delay_s: float) -> None:
        if self._silent or self._reset:
            return
        self._last_arrival = max(trio.current_time() + delay_s, self._last_arrival)
        self._inbox.append((self._last_arrival, data))
        self._news.set()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if not self._inbox:
                self._news = trio.Event()
                await self._news.wait()
                continue
            due, data = self._inbox[0]
            if trio.current_time() < due:
                await trio.sleep_until(due)
            elif self.peer.line in self._network.cut:
                changed = self._network.changed
                with trio.move_on_after(1.0):  # a reset is heard of in time
                    await changed.wait()
            elif not data:
                return b""
            else:
                self._inbox.popleft()
                size = len(data) if max_bytes is None else max_bytes
                if len(data) > size:
                    self._inbox.appendleft((due, data[size:]))
                return data[:size]

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._reset:
            raise trio.BrokenResourceError("Connection reset by peer")

    def close(self) -> None:
        """Close this end; the other hears of it in time."""
        if not self._closed:
            self._closed = True
            self._news.set()
            self.peer._arrive(b"", self._network.delay(self.line))

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()
