"""A user of a SIP partner: does what the play orders, and tells what happens, as XML elements.

The orders and the elements are described in the testbed's README.
"""

import asyncio
import base64
import logging
from xml.etree import ElementTree as ET

from inbox import Inbox
from pattern import Unmet
from sip_dialog import SipDialog
from sip_message import aor, param
from sip_partner import element, request_to, token

log = logging.getLogger("sip")

PIDF = "urn:ietf:params:xml:ns:pidf"
STATUS = "urn:ietf:params:xml:ns:pidf:status:rpid-status"
# What a Lync shows of its states to other organisations.
STATES = {
    "available": ("open", ""), "inactive": ("open", "away"), "busy": ("open", "busy"),
    "dnd": ("open", "busy"), "brb": ("open", "away"), "away": ("open", "away"),
    "offline": ("closed", ""),
}
LYNC_ACCEPT = (
    "application/msrtc-event-categories+xml, text/xml+msrtc.pidf, application/xpidf+xml, "
    "application/pidf+xml, application/rlmi+xml, multipart/related"
)
LYNC_TYPES = (
    "text/plain multipart/alternative image/gif text/rtf text/html application/x-ms-ink "
    "application/ms-imdn+xml text/x-msmsgsinvite"
)
ALLOW = "INVITE, BYE, ACK, CANCEL, INFO, MESSAGE, UPDATE, REFER, NOTIFY, BENOTIFY"
# No phone knows the requests of Lync.
PHONE_ALLOW = "INVITE, BYE, ACK, CANCEL, MESSAGE, NOTIFY"


class SipUser:
    """One user, one device."""

    namespace = "sip"

    def __init__(self, partner, address):
        self.partner = partner
        self.aor = address
        self.inbox = Inbox()
        self._epid = token(10)
        self._orders = asyncio.Queue()
        self._sessions = {}
        self._watching = {}
        self._watchers = {}
        self._state = "available"
        self._note = ""
        self._lets_watch = "yes"
        self._refusals = {}
        self._published = None
        self._typing = "info" if partner.lync else "iscomposing"
        partner.users[address] = self
        self._worker = partner.spawn(self._work())

    async def log_in(self):
        """A phone says where it is (REGISTER); a Lync user is known already."""
        if self.partner.lync:
            return
        via, _ = self.partner.via()
        where = f"<sip:{self.aor}>"
        request = request_to("REGISTER", f"sip:{self.partner.domain}", [
            *via, ("Max-Forwards", "70"), ("From", f"{where};tag={token()}"), ("To", where),
            ("Call-ID", token()), ("CSeq", "1 REGISTER"),
            ("Contact", self.partner.contact(self)), ("Expires", "600"),
        ])
        answer = await self.partner.ask(request)
        if answer is None or answer.code != 200:
            raise Unmet(f"cannot register: {answer and answer.start}")

    async def leave(self):
        """Is gone, without a word."""
        self._worker.cancel()
        self.partner.users.pop(self.aor, None)

    def write(self, text):
        """Orders, carried out one after the other."""
        for order in ET.fromstring(f"<all>{text}</all>"):
            if not hasattr(self, "_do_" + order.tag.replace("-", "_")):
                raise Unmet(f"a SIP user knows no order `{order.tag}`")
            self._orders.put_nowait(order)

    def forget(self):
        """No dialog is known any more."""
        self._sessions.clear()
        self._watching.clear()
        self._watchers.clear()

    # --- what comes ---

    def request(self, link, request):
        """One request of theirs."""
        def answer(code, reason, headers=(), body=b"", tag=None):
            made = request.answer(code, reason, tag or token(), headers, body)
            link.send(made)
            return made

        if self.partner.lync and param(request.one("to"), "tag"):
            routes = request.values("route")
            if len(routes) != 1 or not self.partner.is_own_route(routes[0]):
                self.partner.fault(f"a route set that is not ours: {routes}")
                headers = [("ms-diagnostics", '1004;reason="Route set is no longer valid"')]
                answer(481, "Call Leg/Transaction Does Not Exist", headers)
                return
        refusal = self._refusals.get(request.method)
        if refusal is not None:
            if refusal.get("code") != "0":
                warning = refusal.get("warning")
                headers = [("Warning", warning)] if warning else []
                answer(int(refusal.get("code")), refusal.get("reason", "Refused"), headers)
            self._put("refused", method=request.method, **{"from": aor(request.one("from"))})
            return
        getattr(self, "_on_" + request.method.lower(), self._on_other)(request, answer)

    def _on_other(self, request, answer):
        answer(405, "Method Not Allowed", [("Allow", ALLOW)])

    def _on_invite(self, request, answer):
        peer, tag = aor(request.one("from")), token()
        if b"m=message" not in request.body and b"m=x-ms-message" not in request.body:
            answer(488, "Not Acceptable Here")
            return
        diagnostics = (
            '13004;reason="Request was proxied to one or more registered endpoints"'
            f';source="{self.partner.server}"'
        )
        if self.partner.lync:
            answer(101, "Progress Report", [("ms-diagnostics", diagnostics)], tag=tag)
        headers = [
            *self._routes(request), ("Contact", self.partner.contact(self)), ("Allow", ALLOW),
            ("Content-Type", "application/sdp"), *self._agent(),
        ]
        sdp = self._sdp(f"sip:{self.aor}")
        made = answer(200, "OK", headers, sdp, tag)
        self._sessions[peer] = SipDialog.taken(request, made, self.partner)
        self._put("invite", **{"from": peer})

    def _on_message(self, request, answer):
        peer = aor(request.one("from"))
        in_dialog = param(request.one("to"), "tag") is not None
        if in_dialog and not self._knows(self._sessions, request):
            answer(481, "Call Leg/Transaction Does Not Exist")
            return
        if not in_dialog and self.partner.lync:
            answer(405, "Method Not Allowed", [("Allow", ALLOW)])
            return
        kind = request.one("content-type").split(";")[0].strip().lower()
        answer(200, "OK")
        if kind == "application/im-iscomposing+xml":
            active = b"<state>active" in request.body
            self._put("typing" if active else "idle", form="iscomposing", **{"from": peer})
            return
        text = request.body.decode("utf-8", "replace")
        mode = "session" if in_dialog else "pager"
        self._put("message", text, type=kind, mode=mode, **{"from": peer})

    def _on_info(self, request, answer):
        if not self._knows(self._sessions, request):
            answer(481, "Call Leg/Transaction Does Not Exist")
            return
        answer(200, "OK")
        status = ET.fromstring(request.body.decode()).find("status").get("status")
        name = "typing" if status == "type" else "idle"
        self._put(name, form="info", **{"from": aor(request.one("from"))})

    def _on_bye(self, request, answer):
        peer = aor(request.one("from"))
        if not self._knows(self._sessions, request):
            answer(481, "Call Leg/Transaction Does Not Exist")
            return
        answer(200, "OK")
        self._sessions.pop(peer, None)
        self._put("bye", **{"from": peer})

    def _on_subscribe(self, request, answer):
        peer = aor(request.one("from"))
        if request.one("event") != "presence":
            answer(489, "Bad Event", [("Allow-Events", "presence")])
            return
        again = param(request.one("to"), "tag") is not None
        if again and not self._knows(self._watchers, request):
            answer(481, "Call Leg/Transaction Does Not Exist")
            return
        if "pidf" not in request.one("accept", "application/pidf+xml"):
            answer(406, "Not Acceptable")
            return
        expires = min(int(request.one("expires", "3600")), self.partner.grant)
        headers = [
            *self._routes(request), ("Contact", self.partner.contact(self)),
            ("Expires", str(expires)), *self._agent(),
        ]
        made = answer(200, "OK", headers)
        if again:
            dialog = self._watchers[peer]
        else:
            dialog = SipDialog.taken(request, made, self.partner)
        dialog.expires = expires
        if expires:
            self._watchers[peer] = dialog
        elif again:
            self._watchers.pop(peer, None)
        self._put("subscribe", again="yes" if again else "no", expires=expires, **{"from": peer})
        self.partner.spawn(self._notify(dialog))

    def _on_notify(self, request, answer):
        peer = aor(request.one("from"))
        known = self._watching.get(peer)
        # It may come before the answer to our SUBSCRIBE.
        if known is None or known[0] != request.one("call-id"):
            answer(481, "Call Leg/Transaction Does Not Exist")
            return
        answer(200, "OK")
        state = request.one("subscription-state")
        facts = {"state": state.split(";")[0].strip(), "reason": param(f";{state}", "reason") or ""}
        facts.update(self._pidf_facts(request))
        self._put("presence", **{"from": peer}, **facts)

    def _pidf_facts(self, request):
        if not request.body:
            return {"basic": ""}
        root = ET.fromstring(request.body)
        first = root.find(f"{{{PIDF}}}tuple/{{{PIDF}}}status")
        if first is None:
            return {"basic": "", "entity": root.get("entity", "")}
        basic = first.findtext(f"{{{PIDF}}}basic", "")
        # As Microsoft's readers do: the activity inside the status, in words.
        activity = first.findtext(f"{{{STATUS}}}activities/{{{STATUS}}}activity", "")
        note = root.findtext(f"{{{PIDF}}}tuple/{{{PIDF}}}note", "") or root.findtext(
            f"{{{PIDF}}}note", ""
        )
        tuples = len(root.findall(f"{{{PIDF}}}tuple"))
        return {
            "basic": basic, "activity": activity, "note": note, "tuples": tuples,
            "entity": root.get("entity", ""),
        }

    # --- what is ordered ---

    async def _work(self):
        while True:
            order = await self._orders.get()
            try:
                await getattr(self, "_do_" + order.tag.replace("-", "_"))(order)
            except Exception as error:  # the play sees it in vain waiting; the log tells why
                log.exception("%s: %s", self.aor, order.tag)
                self._put("fault", f"{order.tag}: {error!r}")

    async def _do_message(self, order):
        peer, text = order.get("to"), order.text or ""
        kind = order.get("type", "text/plain; charset=UTF-8")
        headers = [("Content-Type", kind), *self._agent()]
        if order.get("mode") == "pager" or not self.partner.lync and peer not in self._sessions:
            request = self._first("MESSAGE", peer, headers, text.encode(), order)
            await self._send(request)
            return
        if peer not in self._sessions and not await self._invite(order, text):
            return
        await self._send(self._inside(self._sessions[peer], "MESSAGE", headers, text.encode()), peer)

    async def _do_invite(self, order):
        await self._invite(order, order.text or "")

    async def _invite(self, order, text):
        peer, conversation = order.get("to"), base64.b64encode(token(40).encode()).decode()
        plain = base64.b64encode(text.encode()).decode()
        rich = base64.b64encode(f"<SPAN>{text}</SPAN>".encode()).decode()
        guests = [peer, self.aor] + [
            f"guest{number}@{self.partner.domain}" for number in range(int(order.get("guests", "0")))
        ]
        headers = [
            ("Contact", self.partner.contact(self)),
            *self._agent(),
        ]
        if self.partner.lync:
            headers += [
                ("Supported", "ms-dialog-route-set-update"),
                ("ms-text-format", f"text/plain; charset=UTF-8; ms-body={plain}"),
                ("ms-im-format", f"text/html; charset=UTF-8; ms-body={rich}"),
                ("Supported", "ms-embedded-first-message"),
                ("Supported", "ms-delayed-accept"),
                ("Supported", "ms-renders-mime-alternative"),
                ("Ms-Conversation-ID", conversation),
                ("Supported", "timer"),
                ("Roster-Manager", f"sip:{self.aor}"),
                ("EndPoints", ", ".join(f"<sip:{guest}>" for guest in guests)),
                ("Supported", "com.microsoft.rtc-multiparty"),
                ("ms-keep-alive", "UAC;hop-hop=yes"),
                ("history-info", f"<sip:{peer}>;index=1"),
            ]
        allow = ALLOW if self.partner.lync else PHONE_ALLOW
        headers += [("Allow", allow), ("Content-Type", "application/sdp")]
        body = self._sdp("null", order.get("media", "message"))
        if order.get("media") == "conference":
            headers[-1] = ("Content-Type", "application/ms-conf-invite+xml")
            body = b'<Conferencing version="2.0"><focus-uri>sip:x@them.example</focus-uri></Conferencing>'
        request = self._first("INVITE", peer, headers, body, order)
        answer = await self.partner.ask(request, lambda one: self._put(
            "progress", code=one.code))
        self._tell(request, answer, peer)
        if answer is None or answer.code >= 300:
            if answer is not None:
                await self._acknowledge_refusal(request, answer)
            return False
        dialog = SipDialog.asked(request, answer, self.partner)
        self._sessions[peer] = dialog
        await self.partner.tell(self._inside(dialog, "ACK", self._agent()))
        if any("ms-text-format" in one for one in answer.values("supported")):
            self._put("claimed", text)
            return False
        return True

    async def _acknowledge_refusal(self, request, answer):
        headers = [("Via", request.one("via")), ("Max-Forwards", "69")]
        headers += [("From", request.one("from")), ("To", answer.one("to"))]
        headers += [("Call-ID", request.one("call-id")), ("CSeq", f"{request.number} ACK")]
        await self.partner.tell(request_to("ACK", request.uri, headers))

    async def _do_typing(self, order):
        await self._compose(order.get("to"), True)

    async def _do_idle(self, order):
        await self._compose(order.get("to"), False)

    async def _compose(self, peer, active):
        dialog = self._sessions[peer]
        if self._typing == "info":
            word = "type" if active else "idle"
            body = f'<?xml version="1.0"?><KeyboardActivity> <status status="{word}" /></KeyboardActivity>'
            headers = [("Content-Type", "application/xml")]
            await self._send(self._inside(dialog, "INFO", headers, body.encode()), peer)
            return
        word = "active" if active else "idle"
        body = (
            '<?xml version="1.0"?><isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing">'
            f"<state>{word}</state></isComposing>"
        )
        headers = [("Content-Type", "application/im-iscomposing+xml")]
        await self._send(self._inside(dialog, "MESSAGE", headers, body.encode()), peer)

    async def _do_bye(self, order):
        dialog = self._sessions.pop(order.get("to"))
        await self._send(self._inside(dialog, "BYE", self._agent()), order.get("to"))

    async def _do_benotify(self, order):
        via = self._first("BENOTIFY", order.get("to"), [("Event", "presence")], b"", order)
        await self._send(via)

    async def _do_subscribe(self, order):
        peer = order.get("to")
        headers = [
            ("Contact", self.partner.contact(self)), ("Event", order.get("event", "presence")),
            ("Expires", order.get("expires", "6300")), *self._agent(),
        ]
        if self.partner.lync:
            headers += [
                ("Accept", LYNC_ACCEPT), ("Supported", "ms-piggyback-first-notify"),
                ("Supported", "ms-benotify"), ("Supported", "com.microsoft.autoextend"),
                ("Supported", "eventlist"),
            ]
        else:
            headers.append(("Accept", "application/pidf+xml"))
        if order.get("require"):
            headers.append(("Proxy-Require", order.get("require")))
        request = self._first("SUBSCRIBE", peer, headers, b"", order)
        self._watching[peer] = (request.one("call-id"), None)
        answer = await self.partner.ask(request)
        self._tell(request, answer, peer)
        if answer is not None and answer.code < 300:
            dialog = SipDialog.asked(request, answer, self.partner)
            self._watching[peer] = (dialog.call_id, dialog)

    async def _do_refresh(self, order):
        await self._resubscribe(order.get("to"), order.get("expires", "6300"))

    async def _do_unsubscribe(self, order):
        await self._resubscribe(order.get("to"), "0")

    async def _resubscribe(self, peer, expires):
        dialog = self._watching[peer][1]
        headers = [
            ("Contact", self.partner.contact(self)), ("Event", "presence"), ("Expires", expires),
            ("Accept", "application/pidf+xml"), *self._agent(),
        ]
        request = self._inside(dialog, "SUBSCRIBE", headers)
        self._tell(request, await self.partner.ask(request), peer)

    async def _do_presence(self, order):
        self._state = order.get("state")
        self._note = order.get("note", "")
        await self._notify_all()

    async def _do_publish(self, order):
        """A phone tells its own server how it is (RFC 3903)."""
        headers = [
            ("Event", "presence"), ("Expires", "600"), *self._agent(),
            ("Content-Type", "application/pidf+xml"),
        ]
        if self._published:
            headers.append(("SIP-If-Match", self._published))
        body = self._pidf(order.get("state"))
        request = self._first("PUBLISH", self.aor, headers, body, order)
        answer = await self.partner.ask(request)
        if answer is not None:
            self._published = answer.one("sip-etag") or None
        self._tell(request, answer, self.aor)

    async def _do_let_watch(self, order):
        self._lets_watch = order.get("answer")
        await self._notify_all()

    async def _do_refuse(self, order):
        self._refusals[order.get("method")] = order

    async def _do_accept(self, order):
        self._refusals.pop(order.get("method"), None)

    async def _do_forget(self, _order):
        self.forget()

    async def _do_tamper(self, order):
        """Changes one letter of where the requests of a session go."""
        dialog = self._sessions[order.get("to")]
        scheme, _, rest = dialog.target.partition(":")
        changed = "B" if rest[20] == "A" else "A"
        dialog.target = f"{scheme}:{rest[:20]}{changed}{rest[21:]}"

    async def _notify_all(self):
        for dialog in list(self._watchers.values()):
            await self._notify(dialog)

    async def _notify(self, dialog):
        state, body = f"active;expires={dialog.expires}", self._pidf(self._state)
        if dialog.expires == 0:
            state = "terminated;reason=timeout"
        elif self._lets_watch == "no":
            # Lync's polite way: shown offline, not rejected.
            body = self._pidf("offline")
        elif self._lets_watch == "never":
            state, body = "terminated;reason=rejected", b""
        elif self._lets_watch == "asks":
            state, body = f"pending;expires={dialog.expires}", b""
        headers = [
            ("Contact", self.partner.contact(self)), ("Event", "presence"),
            ("Subscription-State", state), *self._agent(),
        ]
        if body:
            headers.append(("Content-Type", "application/pidf+xml"))
        request = self._inside(dialog, "NOTIFY", headers, body)
        answer = await self.partner.ask(request)
        self._tell(request, answer, aor(dialog.remote))

    # --- how it is said ---

    def _pidf(self, state):
        basic, activity = STATES[state]
        inside = f"<ep:activities><ep:activity>{activity}</ep:activity></ep:activities>" if activity else ""
        note = f"<note>{self._note}</note>" if self._note else ""
        name = self.aor.split("@")[0].capitalize()
        return (
            f'<?xml version="1.0"?><presence xmlns="{PIDF}" xmlns:ep="{STATUS}"'
            ' xmlns:ci="urn:ietf:params:xml:ns:pidf:cipid"'
            f' entity="sip:{self.aor}"><tuple id="0"><status><basic>{basic}</basic>{inside}'
            f"</status>{note}</tuple><ci:display-name>{name}</ci:display-name></presence>"
        ).encode()

    def _sdp(self, path, media="message"):
        line = f"m=message 5060 sip {path}" if media == "message" else "m=audio 51000 RTP/AVP 0"
        types = f"a=accept-types:{LYNC_TYPES}\r\n" if media == "message" else ""
        return (
            "v=0\r\no=- 0 0 IN IP4 198.51.100.57\r\ns=session\r\nc=IN IP4 198.51.100.57\r\n"
            f"t=0 0\r\n{line}\r\n{types}"
        ).encode()

    def _agent(self):
        if not self.partner.lync:
            return [("User-Agent", "desk-phone/1")]
        agent = "UCCAPI/16.0.4417.1000 OC/16.0.4417.1000 (Skype for Business)"
        return [("User-Agent", agent)]

    def _routes(self, request):
        """Record-Route of an answer: as the request had it at our device."""
        kept = [("Record-Route", one) for one in request.all("record-route")]
        return self.partner.record_route() + kept

    def _first(self, method, peer, headers, body, order):
        """A request outside any dialog."""
        sender = order.get("from", self.aor)
        via, _ = self.partner.via()
        head = [*self.partner.record_route()] if method in ("INVITE", "SUBSCRIBE") else []
        head += via
        name = f'"{sender.split("@")[0]}"<sip:{sender}>;tag={token(10)};epid={self._epid}'
        if not self.partner.lync:
            head.append(("Max-Forwards", "70"))
            name = f"<sip:{sender}>;tag={token(10)}"
        head += [
            ("From", name), ("To", f"<sip:{order.get('recipient', peer)}>"),
            ("Call-ID", token(32)), ("CSeq", f"1 {method}"),
        ]
        return request_to(method, f"sip:{peer}", head + headers, body)

    def _inside(self, dialog, method, headers, body=b""):
        via, _ = self.partner.via()
        if not self.partner.lync:
            via.append(("Max-Forwards", "70"))
        return request_to(method, dialog.target, via + dialog.head(method) + list(headers), body)

    async def _send(self, request, peer=None):
        """Sends, and goes on; the answer is told when it comes."""
        begun = await self.partner.begin(request)

        async def hear():
            answer = await begun
            self._tell(request, answer, peer or aor(request.one("to")))
            if answer is not None and answer.code in (408, 480, 481) and request.method == "MESSAGE":
                self._sessions.pop(peer, None)

        self.partner.spawn(hear())

    def _tell(self, request, answer, peer):
        if answer is None:
            self._put("answer", to=request.method, code="408", peer=peer)
            return
        facts = {
            "warning": answer.one("warning"), "expires": answer.one("expires"),
            "unsupported": answer.one("unsupported"), "peer": peer,
            "diagnostics": answer.one("ms-diagnostics-public"), "reason": answer.reason,
        }
        self._put("answer", to=request.method, code=answer.code, **facts)

    def _put(self, name, text="", **facts):
        self.inbox.put(element(name, text, **facts))

    @staticmethod
    def _knows(dialogs, request):
        dialog = dialogs.get(aor(request.one("from")))
        return dialog is not None and dialog.key == SipDialog.key_of(request)
