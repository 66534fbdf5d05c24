//! The gateway between a scripted router and a scripted partner.

mod im;
mod memory;
mod never_lost;
mod presence;
mod recovery;
mod shares;

use std::time::{Duration, Instant};

use gatehouse_sip::{HeaderName, Message, Method, NameAddr, Seed, Status};
use gatehouse_xmpp::{Element, Stanza};

use crate::effect::{Effect, OutgoingId, Receipt, RequestKey};
use crate::{Gateway, GatewayConfig};

pub(super) const SDP: &str = "v=0\r\no=- 0 0 IN IP4 198.51.100.57\r\ns=session\r\n\
    c=IN IP4 198.51.100.57\r\nt=0 0\r\nm=message 5060 sip null\r\n\
    a=accept-types:text/plain application/im-iscomposing+xml\r\n";

/// What one effect was, in a line; details are asked for where they count.
pub(super) fn line(effect: &Effect) -> String {
    match effect {
        Effect::Request { request, .. } => format!("> {}", request.method().unwrap()),
        Effect::Ack { .. } => "> ACK".to_owned(),
        Effect::Cancel { .. } => "> CANCEL".to_owned(),
        Effect::Respond { response, .. } => {
            format!("< {} {}", response.status().unwrap(), response.method().unwrap())
        }
        Effect::Ignore { .. } => "ignore".to_owned(),
        Effect::Stanza(stanza) => format!("stanza {}", show(stanza)),
        Effect::Deliver { stanza, .. } => format!("deliver {}", show(stanza)),
        Effect::Release { receipt } => format!("ok {}", receipt.0),
        Effect::Bounce { receipt, .. } => format!("bounced {}", receipt.0),
        Effect::Keep { receipt, .. } => format!("keep {}", receipt.0),
        Effect::Store { .. } => "store".to_owned(),
        Effect::Forget(_) => "forget".to_owned(),
        Effect::Full { what, whose, domain } => {
            format!("{} of {} {domain}", what.as_str(), whose.as_str())
        }
        Effect::ShortLived { domain, seconds } => format!("{domain} grants {seconds} s"),
    }
}

fn show(stanza: &Stanza) -> String {
    let element = stanza.element();
    let mut words = vec![element.name().to_owned()];
    words.extend(stanza.type_().map(str::to_owned));
    for child in element.children() {
        match (child.name(), child.text()) {
            ("thread" | "active", _) if element.has_child("body", gatehouse_xmpp::ns::CLIENT) => {}
            ("thread", _) => {}
            ("error", _) => {
                words.extend(child.children().next().map(|it| it.name().to_owned()));
                words.extend(child.children().nth(1).map(Element::text));
            }
            (name, text) if text.is_empty() => words.push(name.to_owned()),
            (name, text) => words.push(format!("{name}={text}")),
        }
    }
    words.extend(stanza.from().and_then(|from| from.resource()).map(|it| format!("/{it}")));
    words.join(" ")
}

pub(super) struct World {
    pub(super) gateway: Gateway,
    pub(super) now: Instant,
    pub(super) effects: Vec<Effect>,
    keys: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    pub(super) fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let mut config = GatewayConfig {
            contact: "core1.inside.example:5061".to_owned(),
            public_host: "sip.ours.example".to_owned(),
            ..GatewayConfig::default()
        };
        change(&mut config);
        let gateway = Gateway::new(config, Seed::new([7; 32]));
        Self { gateway, now: Instant::now(), effects: Vec::new(), keys: 0 }
    }

    /// What the gateway did since the last call, one line each.
    pub(super) fn did(&mut self) -> Vec<String> {
        self.effects.clear();
        while let Some(effect) = self.gateway.poll_effect() {
            self.effects.push(effect);
        }
        let mut lines = Vec::new();
        for effect in &self.effects {
            if let Effect::Bounce { error: Some(error), .. } = effect {
                lines.push(format!("stanza {}", show(error)));
            }
            if !matches!(effect, Effect::Full { .. }) {
                lines.push(line(effect));
            }
        }
        lines
    }

    /// The last request of ours with this method.
    pub(super) fn sent(&self, method: &str) -> (OutgoingId, Message) {
        self.effects
            .iter()
            .rev()
            .find_map(|effect| match effect {
                Effect::Request { id, request } if request.method().unwrap().as_str() == method => {
                    Some((*id, request.clone()))
                }
                _ => None,
            })
            .unwrap()
    }

    pub(super) fn answered(&self) -> Message {
        self.effects
            .iter()
            .rev()
            .find_map(|effect| match effect {
                Effect::Respond { response, .. } => Some(response.clone()),
                _ => None,
            })
            .unwrap()
    }

    pub(super) fn stanza(&mut self, text: &str, receipt: u64) -> Vec<String> {
        let text = text.replacen(' ', " xmlns='jabber:client' ", 1);
        let element: Element = text.parse().unwrap();
        let stanza = Stanza::from_element(element).unwrap();
        self.gateway.handle_stanza(stanza, Receipt(receipt), self.now);
        self.did()
    }

    pub(super) fn say(&mut self, text: &str, receipt: u64) -> Vec<String> {
        let stanza = format!(
            "<message from='alice@ours.example/desk' to='bob@partner.example' type='chat' \
             id='m{receipt}'><body>{text}</body></message>"
        );
        self.stanza(&stanza, receipt)
    }

    pub(super) fn request(&mut self, request: Message) -> Vec<String> {
        self.keys += 1;
        self.gateway.handle_request(RequestKey(self.keys), request, self.now);
        self.did()
    }

    pub(super) fn key(&self) -> RequestKey {
        RequestKey(self.keys)
    }

    pub(super) fn answer(&mut self, to: &(OutgoingId, Message), response: Message) -> Vec<String> {
        self.gateway.handle_response(to.0, response, self.now);
        self.did()
    }

    pub(super) fn answer_with(&mut self, method: &str, code: u16) -> Vec<String> {
        let to = self.sent(method);
        let response = reply(&to.1, code);
        self.answer(&to, response)
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut lines = Vec::new();
        let mut all = Vec::new();
        while let Some(at) = self.gateway.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.gateway.handle_timeout(self.now);
            lines.extend(self.did());
            all.append(&mut self.effects);
        }
        self.now = end;
        self.effects = all;
        lines
    }
}

/// The partner's answer, as Lync makes it.
pub(super) fn reply(request: &Message, code: u16) -> Message {
    let tag = if code == 100 { None } else { Some("partner") };
    let mut response = Message::response_to(request, Status::of(code), tag);
    if (200..300).contains(&code) {
        let contact = "<sip:bob@partner.example;opaque=user:epid:hYns-x;gruu>";
        response.headers.push(HeaderName::Contact, contact).unwrap();
        if request.method() == Some(Method::Invite) {
            response.headers.push(HeaderName::Allow, "INVITE, BYE, INFO, MESSAGE").unwrap();
            let agent = "UCCAPI/16.0.4417.1000 OC/16.0.4417.1000 (Skype for Business)";
            response.headers.push(HeaderName::UserAgent, agent).unwrap();
            response.set_body("application/sdp", SDP);
        }
    }
    response
}

/// A request of the partner outside any dialog.
pub(super) fn fresh(method: &str, call_id: &str) -> Message {
    let uri = |text: &str| gatehouse_sip::Uri::parse(text).unwrap();
    let method = Method::parse(method).unwrap();
    let mut request = Message::request(method.clone(), uri("sip:alice@ours.example"));
    let mut put = |name, value: &str| request.headers.push(name, value).unwrap();
    put(HeaderName::Via, "SIP/2.0/TLS sip.partner.example:5061;branch=z9hG4bK1");
    put(HeaderName::MaxForwards, "69");
    put(HeaderName::From, "\"bob\"<sip:bob@partner.example>;tag=9d5c2a38ba;epid=b84a59c035");
    put(HeaderName::To, "<sip:alice@ours.example>;epid=46c4b2d3ac");
    put(HeaderName::CallId, call_id);
    put(HeaderName::CSeq, &format!("1 {method}"));
    put(HeaderName::Contact, "<sip:bob@partner.example;opaque=user:epid:hYns-x;gruu>");
    request
}

pub(super) fn invitation(call_id: &str) -> Message {
    let mut request = fresh("INVITE", call_id);
    request.set_body("application/sdp", SDP);
    request
}

/// A request of the partner in a dialog that `response` of ours began.
pub(super) fn inside(response: &Message, method: &str, number: u32) -> Message {
    let call_id = response.call_id().unwrap();
    let mut request = fresh(method, &call_id);
    let to = response.headers.get(&HeaderName::To).unwrap().into_owned();
    request.headers.set(HeaderName::To, to).unwrap();
    let from = response.headers.get(&HeaderName::From).unwrap().into_owned();
    request.headers.set(HeaderName::From, from).unwrap();
    request.headers.set(HeaderName::CSeq, format!("{number} {method}")).unwrap();
    request
}

/// A request of the partner in a dialog that `request` of ours began.
pub(super) fn back(request: &Message, method: &str, number: u32) -> Message {
    let call_id = request.call_id().unwrap();
    let mut new = fresh(method, &call_id);
    let to = request.from().unwrap();
    new.headers.set(HeaderName::To, to.to_string()).unwrap();
    let from = NameAddr::new(request.to().unwrap().uri).with_tag("partner");
    new.headers.set(HeaderName::From, from.to_string()).unwrap();
    new.headers.set(HeaderName::CSeq, format!("{number} {method}")).unwrap();
    new
}
