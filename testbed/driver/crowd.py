"""Connections that cost their maker nothing: many that say nothing, or one that says too little."""

import asyncio
import ssl

from pattern import Unmet

HEADER = '<?xml version="1.0"?><stream:stream xmlns="jabber:server" xmlns:stream="x' + "x" * 4096


class Crowd:
    """Any number of TCP connections to one port."""

    def __init__(self, request):
        self._address = (request["host"], request["port"])
        # Not from where the others come: a crowd must be known by its address.
        self._sources = request["sources"]
        self._count = request["count"]
        self._pause = request.get("pause")
        self._hello = request.get("hello")
        self._open = []
        self._tasks = []

    async def open(self):
        """Connects, and from then on says nothing, or one character per `pause` seconds."""
        hello = self._half_hello() if self._hello else None
        for number in range(self._count):
            source = (self._sources[number % len(self._sources)], 0)
            pair = await asyncio.open_connection(*self._address, local_addr=source)
            self._open.append(pair)
            if hello:
                pair[1].write(hello)
        for reader, writer in self._open:
            self._tasks.append(asyncio.create_task(self._live(reader, writer)))

    def refused(self):
        """How many connections were closed at once."""
        return sum(1 for task in self._tasks if task.done())

    @staticmethod
    def _half_hello():
        """The first half of a client's first words in TLS."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x.example")
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        return hello[: len(hello) // 2]

    async def wait_ended(self, within):
        """Waits for the other side to close every connection."""
        _, pending = await asyncio.wait(self._tasks, timeout=within)
        if pending:
            raise Unmet(f"{len(pending)} of {self._count} are still connected")

    async def leave(self):
        """Drops all."""
        for _, writer in self._open:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def _live(self, reader, writer):
        dripping = asyncio.create_task(self._drip(writer)) if self._pause else None
        try:
            while await reader.read(1 << 16):
                pass
        except OSError:
            pass  # a reset is an end, too
        finally:
            if dripping:
                dripping.cancel()

    async def _drip(self, writer):
        for character in HEADER:
            writer.write(character.encode())
            await asyncio.sleep(self._pause)
