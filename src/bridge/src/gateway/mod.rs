//! The one machine: who gets what, and what all parts share.

mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use gatehouse_sip::{Message, Seed, Status};
use gatehouse_types::{Domain, Jid};
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};

use crate::count::{Count, CountLimits};
use crate::effect::{Effect, Failure, OutgoingId, Receipt, RequestKey, Scarce, Whose};
use crate::local::Pair;
use crate::loops::OwnCalls;
use crate::presence::{Fetch, Person, Watch};
use crate::profile::Profile;
use crate::session::{Resting, Session};
use crate::timers::Timers;
use crate::weights::{WeightLimits, Weights};
use crate::{GatewayConfig, RecordKey, sip};

/// All IM sessions and presence subscriptions with SIP partners.
///
/// Call a `handle_*`, then drain [`poll_effect`](Self::poll_effect). `now` never runs backwards.
/// The owner has checked before that the partner may speak for the domain in From, and that policy
/// allows the two to talk.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) seed: Seed,
    calls: OwnCalls,
    effects: VecDeque<Effect>,
    pub(crate) timers: Timers<TimerKey>,
    outgoing: HashMap<OutgoingId, Purpose>,
    last_outgoing: u64,
    /// Who owns a dialog of ours, by our tag in it.
    pub(crate) tags: HashMap<String, Owner>,
    /// What was seen of partners that the administrator says nothing about.
    seen: HashMap<Domain, Profile>,
    pub(crate) sessions: HashMap<Pair, Session>,
    pub(crate) session_count: Count,
    /// Of the messages that wait in sessions.
    weights: Weights,
    /// Messages of partners that the local router has not taken yet.
    pub(crate) arriving: HashMap<RequestKey, Arriving>,
    pub(crate) arriving_count: Count,
    pub(crate) watches: HashMap<Pair, Watch>,
    pub(crate) people: HashMap<Pair, Person>,
    pub(crate) watched: usize,
    pub(crate) subscription_count: Count,
    pub(crate) fetches: HashMap<String, Fetch>,
    pub(crate) fetch_count: Count,
    pub(crate) resting: Resting,
    /// Nothing new is sent any more.
    pub(crate) stopping: bool,
}

/// How much the gateway holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GatewayStatus {
    /// IM sessions.
    pub sessions: usize,
    /// Contacts that local users watch.
    pub watching: usize,
    /// Subscriptions of partners to local users.
    pub watched: usize,
    /// Messages of local users without an answer yet.
    pub queued: usize,
}

/// What a moment is for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum TimerKey {
    Session(Pair),
    Watch(Pair),
    Person(Pair),
    Fetch(String),
    /// The next session with messages of before the start.
    Recovery,
}

/// What a request of ours was for.
#[derive(Debug)]
pub(crate) enum Purpose {
    Invite(Pair),
    /// An INVITE that nobody waits for any more: a 2xx is acknowledged and ended.
    Abandoned(Box<Message>),
    Message(Pair),
    /// With our tag of the dialog.
    Typing(Pair, String),
    /// BYE, and whatever else has no use for its answer.
    Farewell,
    Subscribe(Pair),
    Fetch(String),
    /// With our tag of the dialog.
    Notify(Pair, String),
}

/// Who owns a dialog.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    Session(Pair),
    Watch(Pair),
    Person(Pair),
    Fetch,
}

/// A message of a partner on its way to the local router.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) request: Message,
    pub(crate) tag: String,
    pub(crate) stanza_id: String,
    pub(crate) pair: Pair,
}

/// Partners whose profile is remembered; the rest are taken for the default one.
const SEEN_MAX: usize = 10_000;

impl Gateway {
    /// Without any session yet.
    pub fn new(config: GatewayConfig, mut seed: Seed) -> Self {
        Self {
            config,
            calls: OwnCalls::new(&mut seed),
            seed,
            effects: VecDeque::new(),
            timers: Timers::new(),
            outgoing: HashMap::new(),
            last_outgoing: 0,
            tags: HashMap::new(),
            seen: HashMap::new(),
            sessions: HashMap::new(),
            session_count: Count::default(),
            weights: Weights::default(),
            arriving: HashMap::new(),
            arriving_count: Count::default(),
            watches: HashMap::new(),
            people: HashMap::new(),
            watched: 0,
            subscription_count: Count::default(),
            fetches: HashMap::new(),
            fetch_count: Count::default(),
            resting: Resting::default(),
            stopping: false,
        }
    }

    /// The settings were changed. What is under way keeps the old ones.
    pub fn reconfigure(&mut self, config: GatewayConfig) {
        self.config = config;
    }

    /// Policy was changed, or subscriptions were revived: what `may_talk` (local, remote) forbids is
    /// over at once. Watchers are dropped without a word, what waits is bounced; the wishes of local
    /// users rest until they are allowed again.
    pub fn enforce(&mut self, may_talk: impl Fn(&Jid, &Jid) -> bool, now: Instant) {
        let forbidden = |pair: &&Pair| !may_talk(&pair.local, &pair.remote);
        let sessions: Vec<Pair> = self.sessions.keys().filter(forbidden).cloned().collect();
        let people: Vec<Pair> = self.people.keys().filter(forbidden).cloned().collect();
        let watches: Vec<(Pair, bool)> = self
            .watches
            .keys()
            .map(|pair| (pair.clone(), may_talk(&pair.local, &pair.remote)))
            .collect();
        for pair in sessions {
            self.forbid_session(&pair);
        }
        for pair in people {
            self.drop_watchers(&pair);
        }
        for (pair, may) in watches {
            if may {
                self.resume_watch(&pair, now);
            } else {
                self.pause_watch(&pair);
            }
        }
    }

    /// Ends all IM sessions with BYE and gives back what waits ([`Effect::Keep`]), but for messages that
    /// are under way: their answers may come. Called again, it gives back these, too. Subscriptions
    /// stay, for the next start.
    pub fn handle_shutdown(&mut self, now: Instant) {
        let again = std::mem::replace(&mut self.stopping, true);
        let pairs: Vec<Pair> = self.sessions.keys().cloned().collect();
        for pair in pairs {
            self.shut_session(&pair, again, now);
        }
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.timers.pop_due(now) {
            match key {
                TimerKey::Session(pair) => self.session_due(&pair, now),
                TimerKey::Watch(pair) => self.watch_due(&pair, now),
                TimerKey::Person(pair) => self.person_due(&pair, now),
                TimerKey::Fetch(tag) => self.end_fetch(&tag),
                TimerKey::Recovery => self.recovery_due(now),
            }
        }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The domains that watch our users or are watched by them; one may come more than once.
    pub fn partners(&self) -> impl Iterator<Item = Domain> + '_ {
        self.watches.keys().chain(self.people.keys()).map(|pair| pair.remote.domain().clone())
    }

    /// How much there is. Walks all sessions.
    pub fn status(&self) -> GatewayStatus {
        GatewayStatus {
            sessions: self.sessions.len(),
            watching: self.watches.len(),
            watched: self.watched,
            queued: self.sessions.values().map(Session::queued).sum(),
        }
    }

    /// Takes an answer to a request of ours.
    pub fn handle_response(&mut self, id: OutgoingId, response: Message, now: Instant) {
        let Some(status) = response.status() else { return };
        // Of an INVITE, each 2xx is acknowledged; of anything else the first final answer counts.
        let Some(purpose) = self.outgoing.remove(&id) else { return };
        let stays =
            !status.is_final() || (status.is_success() && matches!(purpose, Purpose::Invite(_)));
        match &purpose {
            Purpose::Invite(pair) => {
                let pair = pair.clone();
                if stays {
                    self.outgoing.insert(id, purpose);
                }
                self.learn(&pair.remote, &response);
                self.invite_answered(&pair, id, &response, now);
                return;
            }
            _ if stays => {
                self.outgoing.insert(id, purpose);
                return;
            }
            _ => {}
        }
        match purpose {
            Purpose::Invite(_) | Purpose::Farewell => {}
            Purpose::Abandoned(invite) => {
                if status.is_success() {
                    self.decline(&invite, &response);
                }
            }
            Purpose::Message(pair) => {
                self.learn(&pair.remote, &response);
                self.message_answered(&pair, id, &response, now);
            }
            Purpose::Typing(pair, tag) => self.typing_answered(&pair, &tag, status),
            Purpose::Subscribe(pair) => self.subscribe_answered(&pair, id, &response, now),
            Purpose::Fetch(tag) => {
                if !status.is_success() {
                    self.end_fetch(&tag);
                }
            }
            Purpose::Notify(pair, tag) => self.notify_answered(&pair, &tag, &response, now),
        }
    }

    /// There will be no answer to a request of ours.
    pub fn handle_failure(&mut self, id: OutgoingId, failure: Failure, now: Instant) {
        let code = match failure {
            Failure::TimedOut => 408,
            Failure::Unreachable => 503,
        };
        self.handle_response(id, made_up(Status::of(code)), now);
    }

    /// Sends a request in a transaction of its own.
    pub(crate) fn send(&mut self, request: Message, purpose: Purpose) -> OutgoingId {
        self.last_outgoing += 1;
        let id = OutgoingId(self.last_outgoing);
        self.outgoing.insert(id, purpose);
        self.push(Effect::Request { id, request });
        id
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn lose_interest(&mut self, id: OutgoingId) {
        self.outgoing.remove(&id);
    }

    /// Gives an INVITE up.
    pub(crate) fn abandon(&mut self, id: OutgoingId, invite: Box<Message>) {
        if let Some(purpose) = self.outgoing.get_mut(&id) {
            *purpose = Purpose::Abandoned(invite);
            self.push(Effect::Cancel { id });
        }
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        if let Effect::Release { receipt }
        | Effect::Bounce { receipt, .. }
        | Effect::Keep { receipt, .. } = &effect
        {
            self.weights.remove(*receipt);
        }
        self.effects.push_back(effect);
    }

    pub(crate) fn tell(&mut self, stanza: Option<Stanza>) {
        if let Some(stanza) = stanza {
            self.push(Effect::Stanza(stanza));
        }
    }

    /// Answers a request.
    pub(crate) fn respond(
        &mut self,
        key: RequestKey,
        request: &Message,
        code: u16,
        why: Option<&str>,
    ) {
        let tag = self.seed.next_hex();
        let response = sip::answer(request, Status::of(code), &tag, why);
        self.push(Effect::Respond { key, response });
    }

    pub(crate) fn release(&mut self, receipt: Receipt) {
        self.push(Effect::Release { receipt });
    }

    /// Sends a stanza back to its author.
    pub(crate) fn bounce(
        &mut self,
        stanza: &Stanza,
        receipt: Receipt,
        (kind, condition, text): (ErrorKind, StanzaCondition, &str),
    ) {
        let error = stanza.bounce(kind, condition, text);
        self.push(Effect::Bounce { receipt, error });
    }

    pub(crate) fn forget(&mut self, key: String) {
        self.push(Effect::Forget(RecordKey(key)));
    }

    /// What a partner is.
    pub(crate) fn profile_of(&self, remote: &Jid) -> Profile {
        let domain = remote.domain();
        let known = self.config.profiles.get(domain).or_else(|| self.seen.get(domain));
        known.copied().unwrap_or(self.config.default_profile)
    }

    /// Remembers what a message tells of its maker.
    pub(crate) fn learn(&mut self, remote: &Jid, message: &Message) {
        let domain = remote.domain();
        if self.config.profiles.contains_key(domain) {
            return;
        }
        if let Some(profile) = crate::profile::detect(message)
            && (self.seen.len() < SEEN_MAX || self.seen.contains_key(domain))
        {
            self.seen.insert(domain.clone(), profile);
        }
    }

    /// Counts one more of something with this partner, if there is room; else says so.
    pub(crate) fn take_one(&mut self, what: Scarce, pair: &Pair) -> Result<(), Whose> {
        let limits = &self.config.limits;
        let shared = |total| CountLimits::shared(total, limits.partner_share_percent);
        let (count, limits) = match what {
            Scarce::Subscriptions => {
                let limits = CountLimits {
                    per_user: limits.subscriptions_per_user_max,
                    per_contact: limits.subscriptions_per_contact_max,
                    ..shared(limits.subscriptions_max)
                };
                (&mut self.subscription_count, limits)
            }
            Scarce::Sessions => {
                let per_user = limits.sessions_per_user_max;
                let limits = CountLimits { per_user, ..shared(limits.sessions_max) };
                (&mut self.session_count, limits)
            }
            Scarce::Messages => (&mut self.arriving_count, shared(limits.undelivered_max)),
            Scarce::Looks => (&mut self.fetch_count, shared(limits.fetches_max)),
            // By weight, and not by number: `take_weight`.
            Scarce::Bytes => return Ok(()),
        };
        let domain = pair.remote.domain();
        let taken = count.try_add(pair, self.config.named.contains(domain), limits);
        if let Err(whose) = taken {
            let domain = domain.clone();
            self.push(Effect::Full { what, whose, domain });
        }
        taken
    }

    /// Counts what a message of a local user takes until its receipt is settled, if there is room; else
    /// says so.
    pub(crate) fn take_weight(&mut self, pair: &Pair, receipt: Receipt, weight: usize) -> bool {
        let limits = WeightLimits {
            total: self.config.limits.queued_bytes_max,
            per_user: self.config.limits.queued_bytes_per_user_max,
        };
        match self.weights.try_add(receipt, &pair.local, weight, limits) {
            Ok(()) => true,
            Err(whose) => {
                let domain = pair.remote.domain().clone();
                self.push(Effect::Full { what: Scarce::Bytes, whose, domain });
                false
            }
        }
    }

    /// A Call-ID that we know again.
    pub(crate) fn next_call_id(&mut self) -> String {
        self.calls.next(&mut self.seed)
    }

    /// True if a Call-ID is one of ours.
    pub(crate) fn is_own_call(&self, call_id: &str) -> bool {
        self.calls.is_own(call_id)
    }

    /// A number below `below`, or 0.
    pub(crate) fn random(&mut self, below: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.seed.next_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]).checked_rem(below).unwrap_or_default()
    }
}

/// The answer that nobody gave.
fn made_up(status: Status) -> Message {
    Message {
        start: gatehouse_sip::Start::Response { status, reason: status.reason().to_owned() },
        headers: gatehouse_sip::Headers::default(),
        body: bytes::Bytes::new(),
    }
}
