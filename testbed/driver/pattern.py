"""What a stanza must look like: a stanza with holes.

Every attribute, child and text of the pattern must be in the stanza; what the pattern leaves out
does not matter. `{any}` stands for any text, `{none}` for an attribute that must be missing.
"""

import re
from xml.etree import ElementTree as ET

PREFIXES = 'xmlns:stream="http://etherx.jabber.org/streams" xmlns:db="jabber:server:dialback"'


class Unmet(Exception):
    """What the scenario wanted did not happen."""


class Pattern:
    """One element with holes."""

    def __init__(self, element):
        self.element = element

    @classmethod
    def parse_all(cls, text, namespace):
        """Reads the elements in `text`; those without a namespace are in `namespace`."""
        try:
            root = ET.fromstring(f'<root xmlns="{namespace}" {PREFIXES}>{text}</root>')
        except ET.ParseError as error:
            raise Unmet(f"the pattern is not XML: {error}") from error
        return [cls(element) for element in root]

    def matches(self, element):
        """True if `element` has all that the pattern asks for."""
        return _matches(self.element, element)

    def __str__(self):
        return ET.tostring(self.element, encoding="unicode")


def _matches(wanted, found):
    if wanted.tag != found.tag:
        return False
    for name, value in wanted.attrib.items():
        if value == "{none}":
            if name in found.attrib:
                return False
        elif name not in found.attrib or not _fits(value, found.attrib[name]):
            return False
    text = (wanted.text or "").strip()
    if text and not _fits(text, (found.text or "").strip()):
        return False
    return all(any(_matches(child, other) for other in found) for child in wanted)


def _fits(wanted, found):
    parts = [re.escape(part) for part in wanted.split("{any}")]
    return re.fullmatch(".*".join(parts), found, re.DOTALL) is not None
