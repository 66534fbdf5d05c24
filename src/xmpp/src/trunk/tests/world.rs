use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use gatehouse_identity::{Presented, TlsFacts, TlsVersion, VerifiedLeaf};
use gatehouse_testkit::TestCa;
use gatehouse_types::{Domain, Machine as _, StreamLimits};

use crate::sm::{Session, Window};
use crate::trunk::{Continuity, Pace, TrunkConfig, TrunkEnd, TrunkEvent};
use crate::{Seed, Stanza};

static CERTIFICATES: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let ca = TestCa::new();
    ["core.example", "edge.example", "other.example"].map(|name| ca.issue().dns(name).make().der)
});

/// What a peer shows whose certificate is for one of three names and comes from our authority.
#[expect(clippy::disallowed_methods, reason = "no handshake here; it stands for one")]
pub(super) fn facts(name: &str) -> TlsFacts {
    let [core, edge, other] = &*CERTIFICATES;
    let der = match name {
        "core.example" => core,
        "edge.example" => edge,
        _ => other,
    };
    TlsFacts {
        presented: Presented::Verified(VerifiedLeaf::assertion(der.clone())),
        exporter: None,
        version: TlsVersion::Tls13,
    }
}

pub(super) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "any moment will do")]
pub(super) fn moment() -> Instant {
    Instant::now()
}

pub(super) fn config(own: &str, peers: &[&str]) -> Arc<TrunkConfig> {
    Arc::new(TrunkConfig {
        own: domain(own),
        peers: peers.iter().map(|name| domain(name)).collect(),
        limits: StreamLimits::default(),
        window: Window { len_max: 8, ..Window::default() },
        resume_timeout: Duration::from_secs(60),
        pace: Pace { ack_every: 3, request_every: 4, ..Pace::default() },
    })
}

/// What a test sends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item(pub(super) Stanza);

impl AsRef<Stanza> for Item {
    fn as_ref(&self) -> &Stanza {
        &self.0
    }
}

pub(super) fn item(id: usize) -> Item {
    let text = format!(
        "<message xmlns='jabber:client' from='a@ours.example/x' to='b@them.example' id='{id}'>\
         <body>number {id} &lt;&#xe4;&gt;</body></message>"
    );
    Item(Stanza::from_element(text.parse().unwrap()).unwrap())
}

/// What is left of an end's owner while connections come and go.
#[derive(Default)]
pub(super) struct Owner {
    /// Not sent yet.
    pub(super) queue: VecDeque<Item>,
    pub(super) sent: usize,
    pub(super) acknowledged: usize,
    /// Ids as they came.
    pub(super) got: Vec<usize>,
    /// Came and not done with: number within the session, id.
    pub(super) open: Vec<(u64, usize)>,
    /// Ids that were done with.
    pub(super) safe: Vec<usize>,
    /// The session that the last connection left.
    parked: Session<Item>,
    pub(super) resumed: usize,
    /// It is the dialler, and says what it serves.
    announces: bool,
}

impl Owner {
    pub(super) fn submit(&mut self) {
        self.queue.push_back(item(self.sent));
        self.sent += 1;
    }

    /// Is done with one of those that are open.
    pub(super) fn finish(&mut self, end: &mut TrunkEnd<Item>, which: usize, now: Instant) {
        if self.open.is_empty() {
            return;
        }
        let (number, id) = self.open.swap_remove(which % self.open.len());
        self.safe.push(id);
        if self.parked.id.is_some() {
            self.parked.inbound.handled(number);
        } else {
            end.handled(number, now);
        }
    }

    /// Does what an owner does: takes events, fills the window.
    fn attend(&mut self, end: &mut TrunkEnd<Item>, now: Instant) {
        loop {
            while let Some(event) = end.poll_event() {
                self.take(end, event, now);
            }
            if !end.has_room() || self.queue.is_empty() {
                return;
            }
            end.send(self.queue.pop_front().unwrap(), now).unwrap();
        }
    }

    fn take(&mut self, end: &mut TrunkEnd<Item>, event: TrunkEvent<Item>, now: Instant) {
        match event {
            TrunkEvent::Enable(_) => end.admit(std::mem::take(&mut self.parked), now).unwrap(),
            TrunkEvent::Resume { id, .. } if self.parked.id.as_deref() == Some(&*id) => {
                end.resume(std::mem::take(&mut self.parked), now).unwrap();
            }
            TrunkEvent::Resume { .. } => end.refuse_resume(now),
            TrunkEvent::Opened { session, .. } => {
                match session {
                    Continuity::New => self.open.clear(),
                    Continuity::Resumed => self.resumed += 1,
                }
                // The acceptor has nothing to say here, and keeps silent.
                if self.announces {
                    end.announce(&[domain("ours.example")]);
                }
            }
            TrunkEvent::Announced(domains) => assert_eq!(domains, [domain("ours.example")]),
            TrunkEvent::Refused(item) => panic!("refused: {item:?}"),
            TrunkEvent::Stanza { stanza, number } => {
                let id = stanza.id().unwrap().parse().unwrap();
                assert_eq!(stanza, item(id).0);
                self.got.push(id);
                self.open.push((number, id));
            }
            TrunkEvent::Acknowledged(items) => self.acknowledged += items.len(),
            TrunkEvent::Discarded(why) => panic!("discarded: {why}"),
            TrunkEvent::Closed(reason) => panic!("closed: {reason:?}"),
        }
    }
}

/// Both ends and the wire between them.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) core: Owner,
    pub(super) edge: Owner,
    dialler: TrunkEnd<Item>,
    acceptor: TrunkEnd<Item>,
    to_edge: VecDeque<u8>,
    to_core: VecDeque<u8>,
    seeds: u8,
}

impl World {
    pub(super) fn new() -> Self {
        let now = moment();
        Self {
            now,
            core: Owner { announces: true, ..Owner::default() },
            edge: Owner::default(),
            dialler: dialler(Session::default(), 0, now),
            acceptor: acceptor(1, now),
            to_edge: VecDeque::new(),
            to_core: VecDeque::new(),
            seeds: 2,
        }
    }

    /// Lets both owners work, and puts what they write on the wire.
    pub(super) fn settle(&mut self) {
        self.core.attend(&mut self.dialler, self.now);
        self.edge.attend(&mut self.acceptor, self.now);
        while let Some(bytes) = self.dialler.poll_transmit() {
            self.to_edge.extend(bytes);
        }
        while let Some(bytes) = self.acceptor.poll_transmit() {
            self.to_core.extend(bytes);
        }
    }

    /// Carries so many bytes, or all there are; returns how many.
    pub(super) fn carry_to_edge(&mut self, bytes_max: usize) -> usize {
        let len = bytes_max.min(self.to_edge.len());
        let bytes: Vec<u8> = self.to_edge.drain(..len).collect();
        self.acceptor.handle_data(&bytes, self.now);
        self.settle();
        len
    }

    pub(super) fn carry_to_core(&mut self, bytes_max: usize) -> usize {
        let len = bytes_max.min(self.to_core.len());
        let bytes: Vec<u8> = self.to_core.drain(..len).collect();
        self.dialler.handle_data(&bytes, self.now);
        self.settle();
        len
    }

    pub(super) fn finish_at_core(&mut self, which: usize) {
        self.core.finish(&mut self.dialler, which, self.now);
        self.settle();
    }

    pub(super) fn finish_at_edge(&mut self, which: usize) {
        self.edge.finish(&mut self.acceptor, which, self.now);
        self.settle();
    }

    /// The connection breaks, what was under way is lost, and the core dials again.
    pub(super) fn cut(&mut self) {
        self.break_off();
        // An acceptor that was still negotiating has nothing to park.
        let left = self.acceptor.take_session();
        if left.id.is_some() {
            self.edge.parked = left;
        }
        self.dial_again();
    }

    /// The same, and the edge forgets everything.
    pub(super) fn restart_edge(&mut self) {
        self.break_off();
        let safe = std::mem::take(&mut self.edge.safe);
        let got = std::mem::take(&mut self.edge.got);
        self.edge = Owner { safe, got, ..Owner::default() };
        self.dial_again();
    }

    fn break_off(&mut self) {
        self.to_edge.clear();
        self.to_core.clear();
    }

    fn dial_again(&mut self) {
        let session = self.dialler.take_session();
        self.dialler = dialler(session, self.seeds, self.now);
        self.acceptor = acceptor(self.seeds + 1, self.now);
        self.seeds = self.seeds.wrapping_add(2);
        self.settle();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        for end in [&mut self.dialler, &mut self.acceptor] {
            if end.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
                end.handle_timeout(self.now);
            }
        }
        self.settle();
    }

    /// Carries, finishes and waits until nobody owes anything.
    pub(super) fn run_out(&mut self) {
        for _ in 0..10_000 {
            self.carry_to_edge(usize::MAX);
            self.carry_to_core(usize::MAX);
            self.finish_at_core(0);
            self.finish_at_edge(0);
            let idle = self.core.open.is_empty() && self.edge.open.is_empty();
            let waiting = !self.core.queue.is_empty() || !self.edge.queue.is_empty();
            // What the edge parked goes out only once the core has come back for it.
            let parked = !self.edge.parked.outbound.is_empty();
            if idle && !waiting && !parked && !self.dialler.is_owed() && !self.acceptor.is_owed() {
                return;
            }
            if self.to_core.is_empty() && self.to_edge.is_empty() && idle {
                self.pass(Duration::from_millis(200));
            }
        }
        panic!(
            "they never come to an end: core {:?}/{} owed {}, edge {:?}/{} owed {}",
            self.core.got,
            self.core.sent,
            self.dialler.is_owed(),
            self.edge.got,
            self.edge.sent,
            self.acceptor.is_owed(),
        );
    }
}

fn dialler(session: Session<Item>, seed: u8, now: Instant) -> TrunkEnd<Item> {
    TrunkEnd::dialler(
        config("core.example", &[]),
        domain("edge.example"),
        session,
        facts("edge.example"),
        Seed::new([seed; 32]),
        now,
    )
}

fn acceptor(seed: u8, now: Instant) -> TrunkEnd<Item> {
    let config = config("edge.example", &["core.example"]);
    TrunkEnd::acceptor(config, facts("core.example"), Seed::new([seed; 32]), now)
}
