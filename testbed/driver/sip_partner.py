"""The server of a SIP partner: Lync's Access Edge as it looks from outside, or a phone's transport.

Written from what is seen on the wire: mutual TLS, the check of the other side by SRV record and
certificate with a bare 504, an opaque Record-Route with a parameter behind it, a second Via without
branch, header names of its own.
"""

import asyncio
import logging
import os
import re
import ssl

from inbox import Inbox
from pattern import Unmet
from sip_dns import Names
from sip_link import SipLink
from sip_message import SipMessage, address, aor, domain, param
from xml.etree import ElementTree as ET

log = logging.getLogger("sip")
ANSWER_WITHIN = 32
NAMESPACE = "sip"


def element(name, text="", **attributes):
    """What happened, as an actor's inbox has it."""
    made = ET.Element(f"{{{NAMESPACE}}}{name}", {k: str(v) for k, v in attributes.items()})
    made.text = str(text)
    return made


def token(length=16):
    """Random hexadecimal digits."""
    return os.urandom(length // 2).hex()


class SipPartner:
    """One partner: its listener, its connections, its users."""

    namespace = NAMESPACE

    def __init__(self, request):
        self.inbox = Inbox()
        self.name = request["actor"]
        self.domain = request["domain"]
        self.host = request["host"]
        self.port = request["port"]
        # The host that its SRV record and its certificate name.
        self.server = request["server"]
        self.lync = request["flavour"] == "lync"
        # A phone sends everything to its own server.
        self.proxy = request.get("proxy")
        self.users = {}
        self.grant = 7446
        self._certificate = (request.get("certificate"), request.get("key"))
        self._trust = request.get("trust")
        self._names = Names(request["dns_host"], request["dns_port"])
        self._checks = request.get("checks", True)
        self._record = open(request["record"], "ab")
        self._listener = None
        self._out = {}
        self._dialling = asyncio.Lock()
        self._links = set()
        self._awaited = {}
        self._tasks = set()

    async def open(self):
        """Listens."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER) if self.lync else None
        self._listener = await asyncio.start_server(
            self._accept, self.host, self.port, ssl=context, reuse_address=True
        )

    async def leave(self):
        """Ends with the scenario."""
        self._close()

    def write(self, text):
        """Orders to the server."""
        for order in ET.fromstring(f"<all>{text}</all>"):
            if order.tag == "restart":
                self.spawn(self._restart(float(order.get("after", "0"))))
            elif order.tag == "grant":
                self.grant = int(order.get("expires"))
            elif order.tag == "hang-up":
                # The connections break, the dialogs stay.
                for link in list(self._links):
                    link.abort()
            else:
                raise Unmet(f"a SIP partner knows no order `{order.tag}`")

    async def wait_ended(self, within):
        """Waits until no connection is left."""
        deadline = asyncio.get_running_loop().time() + within
        while self._links:
            if asyncio.get_running_loop().time() > deadline:
                raise Unmet("is still connected")
            await asyncio.sleep(0.1)

    def spawn(self, work):
        """Starts a task and holds it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def keep(self, data):
        """Everything that ever came, for the search for what must not have come."""
        self._record.write(data)
        self._record.flush()

    def fault(self, what):
        """Something that no partner should ever see."""
        log.error("%s: %s", self.name, what)
        self.inbox.put(element("fault", what))

    def ended(self, link):
        """A connection is gone."""
        self._links.discard(link)

    def contact(self, user):
        """What a dialog's requests are to be sent to."""
        if self.lync:
            device = "hYnsEUpJhlGc0T-xd_I7vAAA"
            return f"<sip:{user.aor};opaque=user:epid:{device};gruu>"
        return f"<sip:{user.aor.split('@')[0]}@{self.host}:{self.port};transport=tcp>"

    def via(self):
        """Via lines of a new request, and the branch by which its answers are known."""
        branch = "z9hG4bK" + token().upper()
        if not self.lync:
            return [("Via", f"SIP/2.0/TCP {self.host}:{self.port};branch={branch}")], branch
        return [
            (
                "Via",
                f"SIP/2.0/TLS {self.server}:{self.port};branch={branch};branched=FALSE"
                ';ms-internal-info="dbizzcAAAwAA"',
            ),
            ("Max-Forwards", "69"),
            ("Content-Length", ""),
            (
                "Via",
                "SIP/2.0/TLS 198.51.100.57:37737;ms-received-port=37737;ms-received-cid=3E8A00",
            ),
        ], branch

    def record_route(self):
        """What the Access Edge adds, so that all that follows comes by it."""
        if not self.lync:
            return []
        uri = f"sip:{self.server}:{self.port};transport=tls;opaque=state:T:F:Ci.R3f0c00;lr"
        return [("Record-Route", f"<{uri};ms-route-sig=dafMv6AAA>;tag={token(32).upper()}")]

    def is_own_route(self, value):
        """Whether a route is the one of `record_route`, with every parameter."""
        uri = address(value)
        return uri.startswith(f"sip:{self.server}:{self.port};") and all(
            f";{one}" in uri
            for one in ("transport=tls", "opaque=state:T:F:Ci.R3f0c00", "lr", "ms-route-sig=dafMv6AAA")
        )

    async def ask(self, message, on_provisional=None):
        """Sends a request; gives its final answer, or nothing if none came in time."""
        return await (await self.begin(message, on_provisional))

    async def begin(self, message, on_provisional=None):
        """Sends a request; gives what will be its final answer."""
        try:
            link = await self._link(domain(message.one("to")))
        except (OSError, ssl.SSLError, asyncio.TimeoutError) as error:
            self.inbox.put(element("unreachable", error))
            log.info("%s cannot connect: %s", self.name, error)
            return _nothing()
        branch = param(message.one("via"), "branch")
        future = asyncio.get_running_loop().create_future()
        self._awaited[branch] = (future, message, on_provisional)
        link.send(message)
        return self._final(branch, future)

    async def _final(self, branch, future):
        try:
            return await asyncio.wait_for(future, ANSWER_WITHIN)
        except asyncio.TimeoutError:
            return None
        finally:
            self._awaited.pop(branch, None)

    async def tell(self, message):
        """Sends an ACK, or a request that is never answered."""
        link = await self._link(domain(message.one("to")))
        link.send(message)

    def arrived(self, link, message):
        """One message."""
        log.debug("%s gets:\n%s", self.name, message.to_bytes().decode("utf-8", "replace"))
        if message.code is not None:
            self._answered(message)
        else:
            link.requests.put_nowait(message)

    async def serve(self, link):
        """Takes the requests of one connection, one after the other."""
        while True:
            await self._request(link, await link.requests.get())

    def _answered(self, message):
        branch = param(message.one("via"), "branch")
        if branch not in self._awaited:
            if message.code < 300 and message.method == "INVITE":
                self.fault("a 2xx to an INVITE that nobody waits for")
            return
        future, request, on_provisional = self._awaited[branch]
        # Where it came from is written into the first, and only that (RFC 3261 section 18.2.1).
        vias = [re.sub(r";received=[0-9.]+", "", via) for via in message.all("via")]
        if vias != request.all("via"):
            self.fault(f"Vias came back changed: {message.all('via')}")
        if message.code < 200:
            if on_provisional:
                on_provisional(message)
        elif not future.done():
            future.set_result(message)

    async def _request(self, link, request):
        if request.method == "ACK":
            return
        if self.lync and self._checks and not await self._is_believed(link, request):
            # No word of the reason leaves a Lync.
            link.send(request.answer(504, "Server time-out", tag=token()))
            return
        if request.method == "OPTIONS":
            link.send(request.answer(200, "OK", tag=token()))
            return
        user = self._user_of(request)
        if user is None:
            link.send(request.answer(404, "Not Found", tag=token()))
        else:
            user.request(link, request)

    def _user_of(self, request):
        for value in (f"<{request.uri}>", request.one("to")):
            user = self.users.get(aor(value)) or self.users.get(
                f"{aor(value).split('@')[0]}@{self.domain}"
            )
            if user:
                return user
        return None

    async def _is_believed(self, link, request):
        """SRV of the From domain, directly in that domain, and in the certificate."""
        sender = domain(request.one("from"))
        if sender in link.believed:
            return True
        found = await self._names.federation(sender)
        believed = (
            found is not None
            and found[0].partition(".")[2] == sender
            and found[0] in link.names()
        )
        if believed:
            link.believed.add(sender)
        else:
            log.warning("%s: %s is not proved: %s, %s", self.name, sender, found, link.names())
            self.inbox.put(element("disbelieved", domain=sender))
        return believed

    async def _link(self, remote):
        # One at a time, first come first served: what is sent keeps its order.
        async with self._dialling:
            return await self._dial(remote)

    async def _dial(self, remote):
        link = self._out.get(remote)
        if link is not None and not link.gone:
            return link
        if self.proxy:
            link = await SipLink.dial(self, *self.proxy)
        else:
            found = await self._names.federation(remote)
            if found is None:
                raise OSError(f"{remote} has no _sipfederationtls record")
            host, port = found
            context = self._context(ssl.PROTOCOL_TLS_CLIENT)
            at = await self._names.address(host)
            link = await SipLink.dial(self, at, port, context, host)
        self._links.add(link)
        self._out[remote] = link
        return link

    async def _accept(self, reader, writer):
        self._links.add(SipLink(self, reader, writer))

    def _context(self, protocol):
        context = ssl.SSLContext(protocol)
        if self._certificate[0]:
            context.load_cert_chain(*self._certificate)
        if self._checks:
            context.load_verify_locations(self._trust)
            context.verify_mode = ssl.CERT_REQUIRED
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def _restart(self, after):
        self._close()
        for user in self.users.values():
            user.forget()
        await asyncio.sleep(after)
        await self.open()
        self.inbox.put(element("restarted"))

    def _close(self):
        if self._listener:
            self._listener.close()
        for link in list(self._links):
            link.abort()
        self._out.clear()

    def _done(self, task):
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("%s", self.name, exc_info=task.exception())
            self.inbox.put(element("fault", repr(task.exception())))


async def _nothing():
    return None


def request_to(method, uri, headers, body=b""):
    """A request; `headers` in order."""
    return SipMessage(f"{method} {uri} SIP/2.0", headers, body)
