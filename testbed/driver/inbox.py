"""Stanzas that arrived for one actor and were not asked for yet."""

import asyncio
from xml.etree import ElementTree as ET

from pattern import Unmet

SHOWN_MAX = 8


class Inbox:
    """Keeps what arrives, oldest first."""

    def __init__(self):
        self._waiting = []
        self._arrived = asyncio.Event()

    def put(self, element):
        """Adds a stanza."""
        self._waiting.append(element)
        self._arrived.set()

    def all(self):
        """What is there, oldest first."""
        return list(self._waiting)

    async def take(self, wanted, within):
        """Takes one stanza for each pattern, each later in the inbox than the one before."""
        deadline = asyncio.get_running_loop().time() + within
        position = 0
        for pattern in wanted:
            index = await self._find(pattern, position, deadline)
            if index is None:
                raise Unmet(f"did not get {pattern} within {within} s; {self._rest()}")
            del self._waiting[index]
            position = index

    async def lack(self, unwanted, within):
        """Watches for a while that no stanza matches any of the patterns."""
        deadline = asyncio.get_running_loop().time() + within
        while True:
            for pattern in unwanted:
                for element in self._waiting:
                    if pattern.matches(element):
                        raise Unmet(f"got {ET.tostring(element, encoding='unicode')}")
            if not await self._more(deadline):
                return

    async def _find(self, pattern, start, deadline):
        while True:
            for index in range(start, len(self._waiting)):
                if pattern.matches(self._waiting[index]):
                    return index
            if not await self._more(deadline):
                return None

    async def _more(self, deadline):
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return False
        self._arrived.clear()
        try:
            await asyncio.wait_for(self._arrived.wait(), left)
        except asyncio.TimeoutError:
            return False
        return True

    def _rest(self):
        if not self._waiting:
            return "nothing arrived"
        shown = [ET.tostring(one, encoding="unicode") for one in self._waiting[-SHOWN_MAX:]]
        return "what arrived: " + "\n    ".join(shown)
