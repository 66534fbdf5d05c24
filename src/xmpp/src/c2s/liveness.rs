use std::time::{Duration, Instant};

use gatehouse_types::StreamId;
use minidom::Element;
use rxml::xml_ncname;

use crate::{Stanza, StanzaKind, ns};

/// How long a client may take to answer a ping with anything at all.
const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a client is still there.
pub(super) struct Liveness {
    idle_timeout: Duration,
    phase: Phase,
    /// What the ids of our pings start with.
    prefix: String,
    pings: u64,
}

enum Phase {
    /// The client was heard at this time.
    Heard(Instant),
    /// It was silent, so we asked at this time.
    Asked(Instant),
}

/// What to do when the deadline has passed.
pub(super) enum Overdue {
    /// Nothing: it has not.
    NotYet,
    /// Ping (XEP-0199), with this id.
    Ping(String),
    /// Give up.
    GiveUp,
}

impl Liveness {
    pub(super) fn new(idle_timeout: Duration, stream_id: &StreamId, now: Instant) -> Self {
        let prefix = format!("ping-{stream_id}-");
        Self { idle_timeout, phase: Phase::Heard(now), prefix, pings: 0 }
    }

    /// Bytes came, of whatever kind.
    pub(super) fn hear(&mut self, now: Instant) {
        self.phase = Phase::Heard(now);
    }

    /// Something was asked that the client must answer; silence since then counts.
    pub(super) fn ask(&mut self, now: Instant) {
        if let Phase::Heard(_) = self.phase {
            self.phase = Phase::Asked(now);
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Heard(at) => at + self.idle_timeout,
            Phase::Asked(at) => at + PING_TIMEOUT,
        }
    }

    pub(super) fn overdue(&mut self, now: Instant) -> Overdue {
        if now < self.deadline() {
            return Overdue::NotYet;
        }
        match self.phase {
            Phase::Heard(_) => {
                self.phase = Phase::Asked(now);
                self.pings += 1;
                Overdue::Ping(format!("{}{}", self.prefix, self.pings))
            }
            Phase::Asked(_) => Overdue::GiveUp,
        }
    }

    /// True for an answer to one of our pings, which is nobody else's business.
    pub(super) fn is_pong(&self, stanza: &Stanza) -> bool {
        stanza.kind() == StanzaKind::Iq
            && matches!(stanza.type_(), Some("result" | "error"))
            && stanza.id().is_some_and(|id| id.starts_with(&self.prefix))
    }
}

/// The ping itself.
pub(super) fn ping(id: &str, from: &str, to: &str) -> Element {
    Element::builder("iq", ns::CLIENT)
        .attr(xml_ncname!("from").to_owned(), from)
        .attr(xml_ncname!("id").to_owned(), id)
        .attr(xml_ncname!("to").to_owned(), to)
        .attr(xml_ncname!("type").to_owned(), "get")
        .append(Element::bare("ping", ns::PING))
        .build()
}
