use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_identity::AuthenticatedPeer;

use super::script::{self, Step};
use super::watch::{Manners, Watch};
use super::world::{Shown, domain, limits, message, moment};
use crate::framing::{ContentNamespace, Frame};
use crate::sm::{Session, Window};
use crate::trunk::{Continuity, Pace, TrunkConfig, TrunkEnd, TrunkEvent};
use crate::{Seed, Stanza};

fn phrase(name: u8) -> &'static str {
    match name {
        b'h' => {
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
             xmlns:stream='http://etherx.jabber.org/streams' from='them.example' \
             to='us.example' version='1.0'>"
        }
        b'f' => {
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
             <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
        }
        b'a' => "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
        b's' => "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        b'g' => "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
        b'G' => {
            "<stream:features><sm xmlns='urn:xmpp:sm:3'/>\
             <trunk xmlns='urn:gatehouse:trunk:0'/></stream:features>"
        }
        b'n' => "<announce xmlns='urn:gatehouse:trunk:0'><domain>z.example</domain></announce>",
        b'b' => "<beyond xmlns='urn:gatehouse:trunk:0' number='1' len='1'/>",
        b'k' => "<skip xmlns='urn:gatehouse:trunk:0' len='2'/>",
        b'u' => "<refused xmlns='urn:gatehouse:trunk:0' number='2'/>",
        b'e' => "<enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>",
        b'E' => "<enabled xmlns='urn:xmpp:sm:3' id='s2' resume='true' max='60'/>",
        b'r' => "<resume xmlns='urn:xmpp:sm:3' previd='s1' h='0'/>",
        b'R' => "<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='1'/>",
        b'F' => {
            "<failed xmlns='urn:xmpp:sm:3' h='1'>\
             <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
        }
        b'q' => "<r xmlns='urn:xmpp:sm:3'/>",
        b'0' => "<a xmlns='urn:xmpp:sm:3' h='0'/>",
        b'1' => "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        b'2' => "<a xmlns='urn:xmpp:sm:3' h='2'/>",
        b'm' => "<message from='a@x.example/y' to='b@z.example'><body>hi</body></message>",
        b'j' => "<message from='a@@' to='b@z.example'/>",
        b'x' => "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        b'.' => "</stream:stream>",
        _ => "",
    }
}

/// What the owner sends: numbered.
#[derive(Clone, Debug, PartialEq)]
struct Item(usize, Stanza);

impl AsRef<Stanza> for Item {
    fn as_ref(&self) -> &Stanza {
        &self.1
    }
}

fn item(number: usize) -> Item {
    Item(number, message("a@ours.example", "b@theirs.example", number))
}

/// What is left of a connection that broke: three stanzas under way.
fn parked(id: Option<&str>) -> Session<Item> {
    let mut session = Session { id: id.map(str::to_owned), ..Session::default() };
    for number in 0..PARKED {
        session.outbound.push(item(number), 100);
    }
    session
}

const PARKED: usize = 3;

/// What the owner knows.
struct Truth {
    shown: Shown,
    is_dialler: bool,
    /// The peer waits for the owner's word.
    asked: Option<Wish>,
    /// The owner said yes.
    admitted: bool,
    open: bool,
    /// The number that the next stanza of the peer has, once one is known.
    next: Option<u64>,
    /// The numbers of the items that were acknowledged or refused.
    settled: BTreeSet<usize>,
    sent: usize,
}

/// What the peer asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    New,
    Old,
}

impl Truth {
    fn check_peer(&self, peer: &AuthenticatedPeer) {
        assert!(!self.is_dialler && !self.open);
        assert_eq!(self.shown, Shown::Them, "no certificate proves it");
        assert_eq!(peer.domain().0.as_str(), "them.example");
    }

    fn settle(&mut self, item: &Item) {
        assert!(item.0 < self.sent, "acknowledged and never sent");
        assert!(self.settled.insert(item.0), "acknowledged twice");
    }

    fn take(&mut self, event: TrunkEvent<Item>) {
        match event {
            TrunkEvent::Enable(peer) => {
                self.asked = Some(Wish::New);
                self.check_peer(&peer);
            }
            TrunkEvent::Resume { peer, .. } => {
                self.asked = Some(Wish::Old);
                self.check_peer(&peer);
            }
            TrunkEvent::Opened { session, resent } => {
                assert_eq!(self.shown, Shown::Them, "no certificate proves it");
                assert!(!self.open, "open already");
                assert!(self.is_dialler || self.admitted, "nobody let it in");
                assert!(resent <= self.sent);
                self.open = true;
                if session == Continuity::New {
                    self.next = None;
                }
            }
            TrunkEvent::Stanza { number, .. } => {
                assert!(self.open, "not open");
                // What is skipped leaves a gap.
                assert!(self.next.is_none_or(|next| next <= number), "a number comes again");
                self.next = Some(number + 1);
            }
            TrunkEvent::Acknowledged(items) => {
                assert!(items.is_sorted_by_key(|item| item.0), "acknowledged out of order");
                for item in items {
                    self.settle(&item);
                }
            }
            TrunkEvent::Refused(item) => self.settle(&item),
            TrunkEvent::Announced(_) => assert!(self.open && !self.is_dialler),
            TrunkEvent::Discarded(_) => {
                assert!(self.open, "not open");
                self.next = self.next.map(|next| next + 1);
            }
            TrunkEvent::Closed(_) => (self.open, self.asked) = (false, None),
        }
    }
}

/// The trunk opens only to a peer that proves its name and that its owner admits; nothing comes
/// through before; numbers have no gaps; what is acknowledged was sent, once, in that order, and
/// what was not is still there at the end.
pub fn check_trunk_end(data: &[u8]) {
    play(data);
}

fn play(data: &[u8]) -> Truth {
    let (world, steps) = script::read(data, phrase);
    let (mut truth, mut watch) = start(world);
    for step in steps {
        let events = match step {
            Step::Peer(phrase, rest) => watch.hear(phrase, rest),
            Step::Owner(b'a', _) if truth.asked == Some(Wish::New) => {
                (truth.asked, truth.admitted, truth.sent) = (None, true, PARKED);
                watch.call(|end, now| drop(end.admit(parked(None), now)))
            }
            Step::Owner(b'r', _) if truth.asked == Some(Wish::Old) => {
                (truth.asked, truth.admitted, truth.sent) = (None, true, PARKED);
                watch.call(|end, now| drop(end.resume(parked(Some("s1")), now)))
            }
            Step::Owner(b'f', _) => {
                truth.asked = truth.asked.filter(|wish| *wish == Wish::New);
                watch.call(TrunkEnd::refuse_resume)
            }
            Step::Owner(b'h', number) => watch.call(|end, now| end.handled(u64::from(number), now)),
            Step::Owner(b'g', _) => watch.call(TrunkEnd::forgive_silence),
            Step::Owner(b'm', _) if watch.machine.has_room() => {
                assert!(truth.open, "room on a stream that is not open");
                let item = item(truth.sent);
                truth.sent += 1;
                let events = watch.call(|end, now| assert!(end.send(item.clone(), now).is_ok()));
                let sent = Frame::Element(item.1.into_element());
                assert_eq!(watch.frames.first(), Some(&sent), "sent as it is");
                events
            }
            Step::Owner(act, argument) => watch.act(act, argument).unwrap_or_default(),
        };
        for event in events {
            truth.take(event);
        }
    }
    check_rest(&truth, &mut watch);
    truth
}

fn start(world: u8) -> (Truth, Watch<TrunkEnd<Item>>) {
    let shown = Shown::of(world);
    let (is_dialler, resumes) = (world & 4 != 0, world & 8 != 0);
    let config = Arc::new(TrunkConfig {
        own: domain("us.example"),
        peers: if is_dialler { Vec::new() } else { vec![domain("them.example")] },
        limits: limits(),
        window: Window { len_max: 8, ..Window::default() },
        resume_timeout: Duration::from_secs(60),
        pace: Pace { ack_every: 3, request_every: 4, ..Pace::default() },
    });
    let (facts, seed, now) = (shown.facts(), Seed::new([5; 32]), moment());
    let machine = if is_dialler {
        let session = parked(resumes.then_some("s1"));
        TrunkEnd::dialler(config, domain("them.example"), session, facts, seed, now)
    } else {
        TrunkEnd::acceptor(config, facts, seed, now)
    };
    let is_end = |event: &TrunkEvent<Item>| matches!(event, TrunkEvent::Closed(_));
    let watch =
        Watch::new(machine, now, (ContentNamespace::Server, Manners::Acknowledging), is_end);
    let sent = if is_dialler { PARKED } else { 0 };
    let truth = Truth {
        shown,
        is_dialler,
        asked: None,
        admitted: false,
        open: false,
        next: None,
        settled: BTreeSet::new(),
        sent,
    };
    (truth, watch)
}

/// Nothing was lost: what is not acknowledged waits for the next connection.
fn check_rest(truth: &Truth, watch: &mut Watch<TrunkEnd<Item>>) {
    let session = watch.machine.take_session();
    let rest: Vec<_> = session.outbound.iter().map(|item| item.0).collect();
    let wanted: Vec<_> = (0..truth.sent).filter(|number| !truth.settled.contains(number)).collect();
    assert_eq!(rest, wanted, "not acknowledged, and not there either");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_open_both_ends() {
        for (script, acknowledged) in [
            ("@@h\n@a\n@h\n@e\n!a\n@m\n@2\n", 2),
            ("@@h\n@a\n@h\n@r\n!r\n@1\n", 1),
            ("D@h\n@f\n@s\n@h\n@g\n@E\n@m\n@1\n", 1),
            ("D@h\n@f\n@s\n@h\n@G\n@E\n@m\n@b\n@u\n", 2),
            ("@@h\n@a\n@h\n@e\n!a\n@n\n@m\n@k\n@m\n@b\n@2\n", 2),
            ("L@h\n@f\n@s\n@h\n@g\n@R\n@m\n@2\n", 2),
        ] {
            let truth = play(script.as_bytes());
            assert!(truth.open, "{script}");
            assert_eq!(truth.settled.len(), acknowledged, "{script}");
        }
    }
}
