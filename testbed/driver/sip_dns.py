"""Just enough DNS to find a SIP partner: SRV and A, over UDP (RFC 1035, 2782)."""

import asyncio
import os
import socket
import struct

A, SRV = 1, 33
WITHIN = 3


class Names:
    """The scenario's name server."""

    def __init__(self, host, port):
        self._server = (host, port)

    async def federation(self, domain):
        """Target and port that a domain publishes, as Lync takes it: one record, the others ignored."""
        found = await self._ask(f"_sipfederationtls._tcp.{domain}", SRV)
        if not found:
            return None
        _, _, port, target = min(found, key=lambda one: (one[0], -one[1]))
        return target.lower(), port

    async def address(self, host):
        """The first address of a host."""
        found = await self._ask(host, A)
        return found[0] if found else None

    async def _ask(self, name, kind):
        loop = asyncio.get_running_loop()
        question = os.urandom(2) + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + _encode(name)
        question += struct.pack(">HH", kind, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self._server)
            await loop.sock_sendall(sock, question)
            answer = await asyncio.wait_for(loop.sock_recv(sock, 4096), WITHIN)
        return list(_records(answer, kind))


def _encode(name):
    labels = [label.encode() for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _name(data, at):
    labels = []
    end = None
    while length := data[at]:
        if length & 0xC0:
            end = end or at + 2
            at = struct.unpack_from(">H", data, at)[0] & 0x3FFF
            continue
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), end or at + 1


def _records(data, kind):
    questions, answers = struct.unpack_from(">HH", data, 4)
    at = 12
    for _ in range(questions):
        at = _name(data, at)[1] + 4
    for _ in range(answers):
        at = _name(data, at)[1]
        found, _, _, length = struct.unpack_from(">HHIH", data, at)
        at += 10
        if found == kind == SRV:
            yield (*struct.unpack_from(">HHH", data, at), _name(data, at + 6)[0])
        elif found == kind == A:
            yield socket.inet_ntoa(data[at : at + 4])
        at += length
