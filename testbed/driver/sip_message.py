"""SIP messages as a peer reads and writes them (RFC 3261), made from the RFC alone.

It shares nothing with the product: a mistake in its parser cannot hide here.
"""

import re

COMPACT = {
    "v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length",
    "c": "content-type", "o": "event", "s": "subject", "k": "supported", "e": "content-encoding",
}


class SipMessage:
    """One request or response: start line, headers in order, body."""

    def __init__(self, start, headers=(), body=b""):
        self.start = start
        self.headers = list(headers)
        self.body = body

    @classmethod
    def parse(cls, head, body):
        """From the bytes before the empty line, and those after it."""
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "surrogateescape")).split("\r\n")
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"a header line without a colon: {line!r}")
            headers.append((name.strip(), value.strip()))
        return cls(lines[0], headers, body)

    @property
    def code(self):
        """The status; nothing for a request."""
        return int(self.start.split(" ", 2)[1]) if self.start.startswith("SIP/2.0 ") else None

    @property
    def reason(self):
        """The words of a status line."""
        return (self.start.split(" ", 2) + [""])[2]

    @property
    def method(self):
        """Of the request, or of what is answered."""
        if self.code is not None:
            return self.one("cseq").split()[1]
        return self.start.split(" ", 1)[0]

    @property
    def uri(self):
        """The Request-URI."""
        return self.start.split(" ")[1]

    @property
    def number(self):
        """The number in CSeq."""
        return int(self.one("cseq").split()[0])

    def all(self, name):
        """The lines of one header."""
        return [v for n, v in self.headers if COMPACT.get(n.lower(), n.lower()) == name]

    def one(self, name, default=""):
        """The first line of one header."""
        return next(iter(self.all(name)), default)

    def values(self, name):
        """The values of one header, over all lines; commas in quotes and brackets do not part."""
        return [one for line in self.all(name) for one in split_list(line)]

    def to_bytes(self):
        """As it goes out; Content-Length stands where it was put, else last."""
        lines = [self.start]
        headers = list(self.headers)
        if not self.all("content-length"):
            headers.append(("Content-Length", ""))
        for name, value in headers:
            if name.lower() == "content-length" and not value:
                value = str(len(self.body))
            lines.append(f"{name}: {value}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("utf-8", "surrogateescape") + self.body

    def answer(self, code, reason, tag=None, headers=(), body=b""):
        """A response to this request: Vias and the rest as they came."""
        kept = [("Via", via) for via in self.all("via")]
        kept.append(("From", self.one("from")))
        to = self.one("to")
        kept.append(("To", f"{to};tag={tag}" if tag and not param(to, "tag") else to))
        kept += [("Call-ID", self.one("call-id")), ("CSeq", self.one("cseq"))]
        return SipMessage(f"SIP/2.0 {code} {reason}", kept + list(headers), body)


class Framer:
    """Cuts a stream into messages."""

    def __init__(self):
        self._data = b""

    def feed(self, data):
        """Gives messages, and `b"ping"` or `b"pong"` for keepalives between them."""
        self._data += data
        while True:
            if self._data.startswith(b"\r\n\r\n"):
                self._data = self._data[4:]
                yield b"ping"
                continue
            if self._data.startswith(b"\r\n") and self._data[2:3] not in (b"", b"\r"):
                self._data = self._data[2:]
                yield b"pong"
                continue
            if self._data == b"\r\n":
                self._data = b""
                yield b"pong"
                return
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            lengths = SipMessage.parse(head, b"").all("content-length")
            if len(lengths) != 1 or not lengths[0].isdigit():
                raise ValueError(f"Content-Length must stand there once: {lengths}")
            length = int(lengths[0])
            if len(rest) < length:
                return
            self._data = rest[length:]
            yield SipMessage.parse(head, rest[:length])


def split_list(line):
    """Parts a list at its commas."""
    return [one.strip() for one in re.findall(r'(?:"(?:\\.|[^"\\])*"|<[^>]*>|[^,"<])+', line)]


def address(value):
    """The URI in a From, To, Contact or Route."""
    bracketed = re.search(r"<([^>]*)>", value)
    return bracketed.group(1) if bracketed else value.split(";")[0].strip()


def aor(value):
    """`user@domain` of it, without scheme and parameters."""
    uri = address(value)
    return uri.split(":", 1)[-1].split(";")[0].split("?")[0]


def domain(value):
    """The domain of it."""
    return aor(value).rsplit("@", 1)[-1].split(":")[0].lower()


def param(value, name):
    """A parameter behind the address."""
    behind = value.rsplit(">", 1)[-1] if ">" in value else value.partition(";")[2]
    for one in behind.split(";"):
        key, _, text = one.strip().partition("=")
        if key.lower() == name:
            return text
    return None
