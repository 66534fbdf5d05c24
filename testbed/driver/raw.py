"""A hand-made peer: opens a stream as far as it is told, then says whatever the script says.

It is the attacker and the odd one out: it does not verify anybody, and it sends text as it is.
"""

import asyncio
import base64
import ssl
from xml.etree import ElementTree as ET

from inbox import Inbox
from pattern import Pattern, Unmet

TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
STEP_WITHIN = 10


class RawPeer(asyncio.Protocol):
    """One connection, ours to misuse."""

    def __init__(self, request):
        self.namespace = request["namespace"]
        self.inbox = Inbox()
        self._request = request
        self._transport = None
        self._ended = asyncio.Event()
        self._restart()

    async def open(self):
        """Goes as far as `until` says: `features`, `tls`, or `authenticated`."""
        loop = asyncio.get_running_loop()
        host, port, until = (self._request[key] for key in ("host", "port", "until"))
        context = self._context()
        if self._request["tls"] == "direct":
            await loop.create_connection(
                lambda: self, host, port, ssl=context, server_hostname=self._request["to"]
            )
        else:
            await loop.create_connection(lambda: self, host, port)
        await self._hello()
        if until == "features":
            return
        if self._request["tls"] == "starttls":
            await self._exchange(f'<starttls xmlns="{TLS}"/>', f'<proceed xmlns="{TLS}"/>')
            plain = self._transport
            self._restart()
            self._transport = await loop.start_tls(
                plain, self, context, server_hostname=self._request["to"]
            )
            await self._hello()
        if until == "tls":
            return
        name = base64.b64encode(self._request["from"].encode()).decode()
        await self._exchange(
            f'<auth xmlns="{SASL}" mechanism="EXTERNAL">{name}</auth>',
            f'<success xmlns="{SASL}"/>',
        )
        self._restart()
        await self._hello()

    def write(self, text):
        """Sends text as it is."""
        if self._transport is None or self._transport.is_closing():
            raise Unmet("the connection is closed")
        self._transport.write(text.encode())

    def stop_reading(self):
        """Leaves what the other side sends in the socket."""
        self._transport.pause_reading()

    async def wait_ended(self, within):
        """Waits for the other side to close the connection."""
        try:
            await asyncio.wait_for(self._ended.wait(), within)
        except asyncio.TimeoutError:
            raise Unmet("is still connected") from None

    async def leave(self):
        """Drops the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._parser.feed(data)
        for event, element in self._parser.read_events():
            if event == "start":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 1:
                    self.inbox.put(element)

    def connection_lost(self, exc):
        self._ended.set()

    def _restart(self):
        self._depth = 0
        self._parser = ET.XMLPullParser(("start", "end"))

    def _context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self._request["tls"] == "direct":
            context.set_alpn_protocols([self._request["alpn"]])
        if self._request.get("certificate"):
            context.load_cert_chain(self._request["certificate"], self._request["key"])
        return context

    async def _hello(self):
        sender = f' from="{self._request["from"]}"' if self._request["from"] else ""
        self.write(
            f'<?xml version="1.0"?><stream:stream xmlns="{self.namespace}"'
            f' xmlns:stream="http://etherx.jabber.org/streams"'
            f' xmlns:db="jabber:server:dialback"'
            f'{sender} to="{self._request["to"]}" version="1.0">'
        )
        if self._request["until"] != "features":
            await self._await("<stream:features/>")

    async def _exchange(self, said, wanted):
        self.write(said)
        await self._await(wanted)

    async def _await(self, wanted):
        patterns = Pattern.parse_all(wanted, self.namespace)
        await self.inbox.take(patterns, STEP_WITHIN)
