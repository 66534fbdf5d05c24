"""A person's client: slixmpp, verifying the server as a careful client does."""

import asyncio
import copy
import ssl
from xml.etree import ElementTree as ET

import slixmpp

from inbox import Inbox
from pattern import Unmet

LEAVE_WITHIN = 2


class Client(slixmpp.ClientXMPP):
    """One session. Subscriptions are left to the script, everything received is kept."""

    namespace = "jabber:client"

    def __init__(self, request):
        super().__init__(request["jid"], request["password"], sasl_mech=request.get("mechanism"))
        self.inbox = Inbox()
        self.auto_authorize = None
        self.auto_subscribe = False
        self.enable_direct_tls = request["tls"] == "direct"
        self.enable_starttls = not self.enable_direct_tls
        self._address = (request["host"], request["port"])
        self._presence = request["presence"]
        self._priority = request.get("priority")
        self._interest = request.get("interest")
        self._outcome = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._trust(request.get("trust"))
        for plugin in ("xep_0030", "xep_0092", "xep_0199", "xep_0352"):
            self.register_plugin(plugin)
        if self._interest:
            self.register_plugin("xep_0115")
        self.plugin["xep_0092"].software_name = "testbed"
        self.plugin["xep_0092"].version = "1"
        self._unacknowledged = []
        self._resumption = request.get("resumption")
        if self._resumption is not None:
            self.register_plugin("xep_0198")
            self.add_filter("out", self._limit)
        self.add_filter("in", self._keep)
        self.add_event_handler("session_start", lambda _: self._settle(None))
        self.add_event_handler("session_resumed", lambda _: self._settle("resumed"))
        self.add_event_handler("failed_all_auth", lambda _: self._settle("not authorized"))
        self.add_event_handler("ssl_invalid_chain", lambda e: self._settle(f"certificate: {e}"))
        self.add_event_handler("stream_error", lambda e: self._settle(f"stream: {e['condition']}"))
        self.add_event_handler("disconnected", self._gone)

    async def log_in(self, within):
        """Returns why it failed, or None once the server has seen us come online."""
        self.connect(*self._address)
        try:
            failure = await asyncio.wait_for(self._outcome, within)
        except asyncio.TimeoutError:
            failure = f"no session within {within} s"
        if failure is not None:
            await self.leave()
            return failure
        if self._presence:
            await self.get_roster(timeout=within)
            if self._interest:
                # Its presence says what it can do, and what it wants to hear of.
                self.plugin["xep_0030"].add_feature(self._interest + "+notify")
                await self.plugin["xep_0115"].update_caps(broadcast=False)
            self.send_presence(ppriority=self._priority)
            # Stanzas keep their order: once this is answered, the presence has been seen too.
            await self.fetch_roster()
        return None

    def write(self, text):
        """Sends text as it is; a client that counts sends stanzas, so that it can count them."""
        if self._resumption is None:
            self.send_raw(text)
            return
        for element in ET.fromstring(f"<all xmlns='{self.namespace}'>{text}</all>"):
            self.send(self._build_stanza(element, self.namespace))

    def break_off(self):
        """Loses the connection, without a word."""
        self.transport.abort()

    async def come_back(self, within):
        """Connects again; whether the session of before was `resumed`, or one begun `anew`."""
        await asyncio.wait_for(self._ended.wait(), within)
        self._ended.clear()
        self._outcome = asyncio.get_running_loop().create_future()
        self.connect(*self._address)
        return await asyncio.wait_for(self._outcome, within) or "anew"

    async def wait_acknowledged(self, within):
        """Asks once, and waits until the server has said that it has all that we sent."""
        plugin = self.plugin["xep_0198"]
        plugin.request_ack()
        deadline = asyncio.get_running_loop().time() + within
        while plugin.unacked_queue:
            if asyncio.get_running_loop().time() > deadline:
                raise Unmet(f"was not told of {len(plugin.unacked_queue)} stanzas")
            await asyncio.sleep(0.02)

    def send_again(self):
        """Sends what the server had not acknowledged when the connection of before broke."""
        if not self._unacknowledged:
            raise Unmet("was told that all it sent had arrived")
        for stanza in self._unacknowledged:
            self.send(stanza)
        self._unacknowledged = []

    async def fetch_roster(self):
        """The roster as the server keeps it, as XML."""
        request = self.make_iq_get(queryxmlns="jabber:iq:roster", ito=self.boundjid.bare)
        answer = await request.send(timeout=10)
        query = answer.xml.find("{jabber:iq:roster}query")
        if query is None:
            raise Unmet("the server's answer holds no roster")
        return query

    def look(self, active):
        """Tells the server whether somebody looks at the client."""
        plugin = self.plugin["xep_0352"]
        if not plugin.enabled:
            raise Unmet("was not offered to tell whether it is looked at")
        plugin.send_active() if active else plugin.send_inactive()

    def stop_reading(self):
        """Leaves what the server sends in the socket."""
        self.transport.pause_reading()

    async def wait_ended(self, within):
        """Waits for the server to close the connection."""
        try:
            await asyncio.wait_for(self._ended.wait(), within)
        except asyncio.TimeoutError:
            raise Unmet("is still connected") from None

    async def leave(self):
        """Closes the stream; does not wait long for an answer."""
        self.cancel_connection_attempt()
        if self.transport is not None:
            self.disconnect(wait=0.5)
            try:
                await asyncio.wait_for(self._ended.wait(), LEAVE_WITHIN)
            except asyncio.TimeoutError:
                self.abort()

    def _trust(self, authorities):
        if authorities is not None:
            self.ca_certs = authorities
        else:  # scenarios in which the server's certificate is bad on purpose
            self.ssl_context.check_hostname = False
            self.ssl_context.verify_mode = ssl.CERT_NONE

    def _keep(self, stanza):
        self.inbox.put(copy.deepcopy(stanza.xml))
        return stanza

    def _limit(self, stanza):
        if stanza.xml.tag == "{urn:xmpp:sm:3}enable":
            stanza.xml.set("max", str(self._resumption))
        return stanza

    def _settle(self, failure):
        if not self._outcome.done():
            self._outcome.set_result(failure)

    def _gone(self, reason):
        if self._resumption is not None:
            # The library forgets it when the session is not there any more.
            sent = [stanza for _, stanza in self.plugin["xep_0198"].unacked_queue]
            self._unacknowledged = [stanza for stanza in sent if stanza.name == "message"]
        self._settle(f"disconnected: {reason}")
        self._ended.set()
