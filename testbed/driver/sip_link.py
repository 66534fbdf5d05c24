"""Connections of a SIP partner, and what is under way on them."""

import asyncio
import logging

from sip_message import Framer

log = logging.getLogger("sip")
CONNECT_WITHIN = 5


class SipLink:
    """One connection, TLS or not. What arrives is handed to `owner`, and kept byte by byte."""

    def __init__(self, owner, reader, writer):
        self._owner = owner
        self._reader = reader
        self._writer = writer
        self.requests = asyncio.Queue()
        # Domains for which the other side has been found to speak.
        self.believed = set()
        self._server = owner.spawn(owner.serve(self))
        self.task = asyncio.create_task(self._read())

    @classmethod
    async def dial(cls, owner, host, port, context=None, name=None):
        """Connects; `name` is what the certificate must say."""
        opening = asyncio.open_connection(host, port, ssl=context, server_hostname=name)
        return cls(owner, *await asyncio.wait_for(opening, CONNECT_WITHIN))

    @property
    def gone(self):
        """Whether it has ended."""
        return self.task.done() or self._writer.is_closing()

    def names(self):
        """The dNSNames in the other side's certificate."""
        certificate = self._writer.get_extra_info("peercert") or {}
        kinds = certificate.get("subjectAltName", ())
        return {name.lower() for kind, name in kinds if kind == "DNS"}

    def send(self, message):
        """Writes one message."""
        data = message.to_bytes()
        log.debug("%s sends:\n%s", self._owner.name, data.decode("utf-8", "replace"))
        self._writer.write(data)

    def abort(self):
        """Breaks it."""
        self._writer.transport.abort()

    async def _read(self):
        framer = Framer()
        try:
            while data := await self._reader.read(1 << 16):
                self._owner.keep(data)
                for message in framer.feed(data):
                    if message == b"ping":
                        self._writer.write(b"\r\n")
                    elif message != b"pong":
                        self._owner.arrived(self, message)
        except (OSError, asyncio.CancelledError):
            pass  # a reset is an end, too
        except ValueError as error:
            self._owner.fault(f"what came is not SIP: {error}")
        finally:
            self._writer.transport.abort()
            self._server.cancel()
            self._owner.ended(self)
