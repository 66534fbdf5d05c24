"""A person's client that logs in in one round trip: xmpp.js (XEP-0388, XEP-0386, XEP-0484)."""

import asyncio
import json
import logging
import os
import sys
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

from inbox import Inbox
from pattern import Unmet

LEAVE_WITHIN = 4
# What a client on the user's device keeps from one run to the next.
INSTALLATIONS = {}
TOKEN_MECHANISM = "HT-SHA-256-"
# What `client.js` says of a log-in by RFC 6120.
OF_OLD = " of old"


class Modern:
    """One session, in a process of its own."""

    namespace = "jabber:client"

    def __init__(self, request):
        self.inbox = Inbox()
        self._request = request
        self._process = None
        self._reader = None
        self._mechanisms = []
        self._outcome = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._kept = INSTALLATIONS.setdefault(request["jid"], {"agent": str(uuid.uuid4())})

    async def log_in(self, within):
        """Returns why it failed, or None once the server has seen us come online."""
        request, here = self._request, Path(__file__).parent / "xmppjs"
        by_token = request["by_token"]
        if by_token and not self._kept.get("token"):
            return "it has no token"
        address, _, resource = request["jid"].partition("/")
        username, _, domain = address.partition("@")
        environment = dict(os.environ)
        if request.get("trust"):
            environment["NODE_EXTRA_CA_CERTS"] = request["trust"]
        self._process = await asyncio.create_subprocess_exec(
            Path(sys.prefix) / "bin" / "node",
            here / "client.js",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            limit=1 << 24,
        )
        self._reader = asyncio.create_task(self._read())
        self._order(
            start={
                "service": f"xmpp://{request['host']}:{request['port']}",
                "domain": domain,
                "username": username,
                # Who logs in by a token need not know the password.
                "password": "forgotten" if by_token else request["password"],
                "resource": resource,
                "token": self._kept.get("token") if by_token else None,
                "agent": self._kept["agent"],
            }
        )
        try:
            failure = await asyncio.wait_for(self._outcome, within)
        except asyncio.TimeoutError:
            failure = f"no session within {within} s"
        if failure is None and not self._as_wanted(by_token):
            failure = f"logged in by {self._mechanisms}"
        if failure is not None:
            await self.leave()
            return failure
        if request["presence"]:
            self.write("<presence/>")
            # Stanzas keep their order: once this is answered, the presence has been seen too.
            await self.ask("<query xmlns='jabber:iq:roster'/>", within)
        return None

    def write(self, text):
        """Sends stanzas."""
        self._order(send=text)

    async def ask(self, query, within):
        """The answer to an IQ."""
        mark = str(uuid.uuid4())
        self.write(f"<iq type='get' id='{mark}'>{query}</iq>")
        deadline = asyncio.get_running_loop().time() + within
        while asyncio.get_running_loop().time() < deadline:
            for stanza in self.inbox.all():
                if stanza.get("id") == mark:
                    return stanza
            await asyncio.sleep(0.02)
        raise Unmet("the server does not answer")

    def break_off(self):
        """Loses the connection, without a word; the library comes back by itself."""
        self._outcome = asyncio.get_running_loop().create_future()
        self._mechanisms.clear()
        self._order(**{"break": True})

    async def come_back(self, within):
        """Whether the session of before was `resumed`, or one begun `anew`."""
        return await asyncio.wait_for(self._outcome, within) or "anew"

    async def fetch_roster(self):
        """The roster as the server keeps it, as XML."""
        answer = await self.ask("<query xmlns='jabber:iq:roster'/>", 10)
        return answer.find("{jabber:iq:roster}query")

    async def wait_ended(self, within):
        """Waits for the server to close the connection."""
        try:
            await asyncio.wait_for(self._ended.wait(), within)
        except asyncio.TimeoutError:
            raise Unmet("is still connected") from None

    async def leave(self):
        """Closes the stream; does not wait long for an answer."""
        if self._process is None or self._process.returncode is not None:
            return
        self._order(stop=True)
        try:
            await asyncio.wait_for(self._process.wait(), LEAVE_WITHIN)
        except asyncio.TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _as_wanted(self, by_token):
        """Whether one try was enough, in the new way and by what was asked for."""
        [only] = self._mechanisms if len(self._mechanisms) == 1 else [""]
        return only.startswith(TOKEN_MECHANISM) == by_token and only and not only.endswith(OF_OLD)

    def _order(self, **order):
        logging.info("%s: %s", self._request["actor"], order)
        self._process.stdin.write((json.dumps(order) + "\n").encode())

    async def _read(self):
        while line := await self._process.stdout.readline():
            logging.info("%s got %s", self._request["actor"], line.decode().rstrip())
            self._heard(json.loads(line))

    def _heard(self, said):
        if "stanza" in said:
            wrapped = f"<all xmlns='{self.namespace}'>{said['stanza']}</all>"
            self.inbox.put(ET.fromstring(wrapped)[0])
        elif "token" in said:
            self._kept["token"] = said["token"]
        elif "mechanism" in said:
            self._mechanisms.append(said["mechanism"])
        elif "online" in said:
            self._ended.clear()
            self._settle(None)
        elif "resumed" in said:
            self._ended.clear()
            self._settle("resumed")
        elif "error" in said:
            self._settle(said["error"])
        elif "gone" in said:
            self._ended.set()

    def _settle(self, outcome):
        if not self._outcome.done():
            self._outcome.set_result(outcome)
