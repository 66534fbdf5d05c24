"""Dialogs as both ends of SIP keep them (RFC 3261 section 12)."""

from sip_message import address, param


class SipDialog:
    """One dialog of a partner's user."""

    def __init__(self, call_id, local, remote, target, routes, number):
        self.call_id = call_id
        # From and To of what we send, with their tags.
        self.local = local
        self.remote = remote
        self.target = target
        self.routes = routes
        self._number = number
        self.expires = 0

    @classmethod
    def asked(cls, request, answer, partner):
        """We asked, and they took it."""
        routes = [
            one
            for one in reversed(answer.values("record-route"))
            if not partner.lync or not partner.is_own_route(one)
        ]
        return cls(
            request.one("call-id"), request.one("from"), answer.one("to"),
            address(answer.one("contact")), routes, request.number,
        )

    @classmethod
    def taken(cls, request, answer, partner):
        """They asked, and we took it."""
        routes = [
            one for one in request.values("record-route")
            if not partner.lync or not partner.is_own_route(one)
        ]
        return cls(
            request.one("call-id"), answer.one("to"), request.one("from"),
            address(request.one("contact")), routes, 0,
        )

    @property
    def key(self):
        """Call-ID, our tag, their tag."""
        return self.call_id, param(self.local, "tag"), param(self.remote, "tag")

    @staticmethod
    def key_of(request):
        """The dialog that a request of theirs is in."""
        return request.one("call-id"), param(request.one("to"), "tag"), param(
            request.one("from"), "tag"
        )

    def head(self, method):
        """Headers that every request in it has, but for Via."""
        if method != "ACK":
            self._number += 1
        return [
            *[("Route", one) for one in self.routes],
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self._number} {method}"),
        ]
