"""Drives XMPP clients and hand-made servers for one scenario.

One JSON object a line comes in and one goes out: `{"do": ..., "actor": ...}` is answered by
`{"ok": true}` or `{"ok": false, "why": ...}`. Commands run one after the other; whatever the
servers send meanwhile waits in the inbox of its actor.
"""

import asyncio
import json
import logging
import resource
import sys
from xml.etree import ElementTree as ET

from client import Client
from crowd import Crowd
from link import Link
from modern import Modern
from pattern import Pattern, Unmet
from raw import RawPeer
from sip_partner import SipPartner
from sip_user import SipUser


# How long one looks for duplicates after the last stanza that was missing has come.
LATE = 0.5


class Driver:
    """The actors of the scenario, by name."""

    def __init__(self):
        self.actors = {}
        # What was left in the inboxes of those who went.
        self.past = {}
        # Who still writes: a task that nobody holds may be forgotten.
        self.paced = []

    async def connect(self, request):
        """Logs a client in; `refused` turns the meaning round."""
        await self._leave(request["actor"])
        actor = Modern(request) if request["one_round_trip"] else Client(request)
        self.actors[request["actor"]] = actor
        failure = await actor.log_in(request["within"])
        if request.get("refused"):
            if failure is None:
                raise Unmet("was let in")
            if request["refused"] not in failure:
                raise Unmet(f"was refused for another reason: {failure}")
        elif failure is not None:
            raise Unmet(f"cannot log in: {failure}")

    async def open(self, request):
        """Opens a stream as a hand-made peer."""
        await self._leave(request["actor"])
        actor = RawPeer(request)
        self.actors[request["actor"]] = actor
        await asyncio.wait_for(actor.open(), request["within"])

    async def sip_partner(self, request):
        """Starts a partner that speaks SIP; it stays until the end."""
        actor = SipPartner(request)
        await actor.open()
        self.actors[request["actor"]] = actor

    async def sip_user(self, request):
        """A user of such a partner signs in."""
        await self._leave(request["actor"])
        actor = SipUser(self.actors[request["partner"]], request["address"])
        await asyncio.wait_for(actor.log_in(), request["within"])
        self.actors[request["actor"]] = actor

    async def crowd(self, request):
        """Opens many connections, or one that drips."""
        await self._leave(request["actor"])
        actor = Crowd(request)
        self.actors[request["actor"]] = actor
        await asyncio.wait_for(actor.open(), request["within"])

    async def refused(self, request):
        """Waits until so many of a crowd have been closed."""
        crowd = self._actor(request)
        deadline = asyncio.get_running_loop().time() + request["within"]
        while crowd.refused() < request["count"]:
            if asyncio.get_running_loop().time() > deadline:
                raise Unmet(f"only {crowd.refused()} were refused")
            await asyncio.sleep(0.1)

    async def join(self, request):
        """Makes a link between two addresses."""
        link = Link(request)
        await link.heal()
        self.actors[request["actor"]] = link

    async def cut(self, request):
        """Cuts a link."""
        await self._actor(request).cut()

    async def heal(self, request):
        """Heals a link."""
        await self._actor(request).heal()

    async def lose(self, request):
        """A client's connection breaks, without a word."""
        self._actor(request).break_off()

    async def back(self, request):
        """A client whose connection broke takes its session up again, or must not be able to."""
        came = await self._actor(request).come_back(request["within"])
        wanted = "resumed" if request["resumes"] else "anew"
        if came != wanted:
            raise Unmet(f"came back: {came}")

    async def acknowledged(self, request):
        """A client asks until it was told that all it sent has arrived."""
        await self._actor(request).wait_acknowledged(request["within"])

    async def again(self, request):
        """A client sends again what it was not told to have arrived."""
        self._actor(request).send_again()

    async def attention(self, request):
        """A client tells whether somebody looks at it."""
        self._actor(request).look(request["active"])

    async def deaf(self, request):
        """Reads nothing more, and keeps the connection."""
        self._actor(request).stop_reading()

    async def wait(self, request):
        """Lets time pass."""
        await asyncio.sleep(request["seconds"])

    async def account(self, request):
        """Waits until each pattern has been met once, by whichever actor, and none twice but `twice_max`
        of them in a row. If they are `ordered`, they must have come to each actor in the order of the
        patterns.
        """
        deadline = asyncio.get_running_loop().time() + request["within"]
        first = self.actors.get(request["actors"][0])
        namespace = getattr(first, "namespace", "jabber:client")
        wanted = Pattern.parse_all(request["xml"], namespace)
        while True:
            found = {name: self._met(name, wanted) for name in request["actors"]}
            met = sorted(index for indexes in found.values() for index in indexes)
            missing = sorted(set(range(len(wanted))) - set(met))
            if not missing or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(LATE)
        found = {name: self._met(name, wanted) for name in request["actors"]}
        logging.info("account: %s of %d", {name: len(indexes) for name, indexes in found.items()}, len(wanted))
        met = sorted(index for indexes in found.values() for index in indexes)
        counts = ", ".join(f"{name} got {len(indexes)}" for name, indexes in found.items())
        if missing:
            some = ", ".join(str(wanted[index]) for index in missing[:5])
            raise Unmet(f"{len(missing)} of {len(wanted)} are lost ({counts}), such as {some}")
        twice = [a for a, b in zip(met, met[1:]) if a == b]
        if len(twice) > request["twice_max"]:
            raise Unmet(f"{len(twice)} came twice ({counts}), such as {wanted[twice[0]]}")
        if twice and twice != list(range(twice[0], twice[0] + len(twice))):
            raise Unmet(f"others than the last before a break came twice: {twice} ({counts})")
        if not request["ordered"]:
            return
        for name, indexes in found.items():
            # What came again is in order where it came again; the first time was before that.
            first = list(dict.fromkeys(indexes))
            last = list(dict.fromkeys(reversed(indexes)))[::-1]
            for order in (first, last):
                for one, next_one in zip(order, order[1:]):
                    if one > next_one:
                        raise Unmet(f"{name} got {wanted[one]} before {wanted[next_one]} ({counts})")

    def _met(self, name, wanted):
        """The indexes of the patterns that the stanzas of one actor match, as they came."""
        stanzas = list(self.past.get(name, []))
        if name in self.actors:
            stanzas += self.actors[name].inbox.all()
        by_mark = {}
        for index, pattern in enumerate(wanted):
            by_mark.setdefault(_mark(pattern.element), []).append(index)
        return [
            index
            for stanza in stanzas
            for mark in {_mark(stanza), _text(stanza)}
            for index in by_mark.get(mark, [])
            if wanted[index].matches(stanza)
        ]

    async def disconnect(self, request):
        """Leaves politely."""
        await self._leave(request["actor"])

    async def send(self, request):
        """Writes the text as it is."""
        self._actor(request).write(request["xml"])

    async def pace(self, request):
        """Writes one text after the other, with a pause between, while the play goes on."""
        actor = self._actor(request)

        async def write():
            for text in request["xml"]:
                actor.write(text)
                await asyncio.sleep(request["pause"])

        self.paced.append(asyncio.create_task(write()))

    async def receive(self, request):
        """Waits for stanzas that match, in this order; takes them out of the inbox."""
        actor = self._actor(request)
        wanted = Pattern.parse_all(request["xml"], actor.namespace)
        await actor.inbox.take(wanted, request["within"])

    async def absent(self, request):
        """Makes sure that nothing matches for a while."""
        actor = self._actor(request)
        unwanted = Pattern.parse_all(request["xml"], actor.namespace)
        await actor.inbox.lack(unwanted, request["within"])

    async def roster(self, request):
        """Asks for the roster until every item matches."""
        actor = self._actor(request)
        wanted = Pattern.parse_all(request["xml"], "jabber:iq:roster")
        deadline = asyncio.get_running_loop().time() + request["within"]
        while True:
            query = await actor.fetch_roster()
            missing = [one for one in wanted if not any(one.matches(item) for item in query)]
            if not missing:
                return
            if asyncio.get_running_loop().time() > deadline:
                shown = ET.tostring(query, encoding="unicode")
                raise Unmet(f"the roster lacks {missing[0]}; it is {shown}")
            await asyncio.sleep(0.1)

    async def ended(self, request):
        """Waits until the other side has closed the connection."""
        await self._actor(request).wait_ended(request["within"])

    def _actor(self, request):
        if request["actor"] not in self.actors:
            raise Unmet(f"{request['actor']} has not connected")
        return self.actors[request["actor"]]

    async def _leave(self, name):
        if name in self.actors:
            actor = self.actors.pop(name)
            await actor.leave()
            if hasattr(actor, "inbox"):
                self.past.setdefault(name, []).extend(actor.inbox.all())


def _mark(stanza):
    """What tells one stanza of many from the others: its id, or what it says."""
    return stanza.get("id") or _text(stanza)


def _text(stanza):
    body = next((child for child in stanza if child.tag.endswith("}body")), stanza)
    return (body.text or "").strip()


async def answer(driver, request):
    """Runs one command and puts its outcome into words."""
    try:
        await getattr(driver, request["do"])(request)
        return {"ok": True}
    except Unmet as unmet:
        return {"ok": False, "why": str(unmet)}
    except asyncio.TimeoutError:
        return {"ok": False, "why": f"not done within {request['within']} s"}
    except Exception as error:  # the scenario fails, the driver lives on to tell why
        logging.exception("%s", request)
        return {"ok": False, "why": f"{type(error).__name__}: {error}"}


async def main():
    """Reads commands until standard input ends."""
    lines = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    driver = Driver()
    while line := await lines.readline():
        print(json.dumps(await answer(driver, json.loads(line))), flush=True)


# A crowd needs more files than a process is given at first.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
logging.basicConfig(
    level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
)
asyncio.run(main())
