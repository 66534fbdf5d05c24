"""A link between two processes that can be cut and healed: a relay of TCP connections."""

import asyncio


class Link:
    """Listens at the near end and connects to the far end for everybody who comes."""

    def __init__(self, request):
        self._near = (request["host"], request["port"])
        self._far = (request["to_host"], request["to_port"])
        self._server = None
        self._writers = set()

    async def heal(self):
        """Lets connections through."""
        if self._server is None:
            self._server = await asyncio.start_server(self._join, *self._near)

    async def cut(self):
        """Breaks every connection, with whatever is on its way, and refuses new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def leave(self):
        """Ends with the scenario."""
        await self.cut()

    async def _join(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._far)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        ways = [_carry(reader, far_writer), _carry(far_reader, writer)]
        try:
            await asyncio.gather(*ways)
        except OSError:
            pass  # one end broke: so does the other
        finally:
            self._writers -= pair
            for one in pair:
                one.transport.abort()


async def _carry(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
