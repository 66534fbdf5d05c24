//! IM sessions: one for each pair of users, whoever began it.
//!
//! Messages of the local user wait in one queue and go out one at a time: the next one leaves when
//! the one before it was answered. So order is kept whatever happens, and after a dead dialog only
//! one message is in doubt.

mod inbound;
mod outbound;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use gatehouse_sip::composing::{Composing, ISCOMPOSING};
use gatehouse_sip::{Dialog, Message, Method};
use gatehouse_types::Jid;
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};

use crate::effect::{OutgoingId, Receipt, Scarce, Way};
use crate::gateway::{Owner, Purpose, TimerKey};
use crate::local::{self, Pair, Said};
use crate::profile::Profile;
use crate::{Gateway, sip};

/// What two users say to each other.
#[derive(Debug)]
pub(crate) struct Session {
    /// How we begin; a partner that begins in another way is followed.
    mode: Mode,
    /// Our INVITE, while it is not answered.
    invite: Option<Invite>,
    /// Where our messages go.
    main: Option<Leg>,
    /// Another dialog between the two (both had called, or the remote user called again from
    /// elsewhere): it is listened to, and used once the main one is over.
    spare: Option<Leg>,
    /// Not answered yet; the first may be under way.
    queue: VecDeque<Outgoing>,
    /// The first of the queue is under way.
    under_way: Option<UnderWay>,
    last_heard: Instant,
    /// Of the local user's last message.
    thread: Option<String>,
    /// The local user was told that the other one is typing.
    told_composing: bool,
    /// What waits is of before the start, and its turn has not come.
    resting: bool,
}

/// How messages are carried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// INVITE first. `Some(true)`: pager mode was refused before.
    Session { pager_refused: bool },
    /// MESSAGE without a dialog (RFC 3428).
    Pager { session_refused: bool },
}

#[derive(Debug)]
struct Invite {
    id: OutgoingId,
    request: Box<Message>,
    until: Instant,
}

/// One dialog.
#[derive(Debug)]
struct Leg {
    dialog: Dialog,
    /// Of the INVITE, if it was ours: for answers that come again.
    invite: Option<(OutgoingId, Box<Message>)>,
    /// Their tags in dialogs that other devices began by answering it, too.
    declined: Vec<String>,
    typing: Typing,
    typing_sent: Composing,
    last_heard: Instant,
}

/// How this peer hears that somebody is typing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Typing {
    Info,
    IsComposing,
    Never,
}

#[derive(Debug)]
struct Outgoing {
    stanza: Stanza,
    receipt: Receipt,
    said: Said,
    /// Later it is not sent any more.
    deliver_by: Instant,
    /// It was sent once into a dialog that was dead.
    retried: bool,
}

#[derive(Debug)]
struct UnderWay {
    id: OutgoingId,
    /// Our tag of the dialog; `None` in pager mode.
    tag: Option<String>,
}

/// Sessions with messages of before the start.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    outside: Rest,
    inside: Rest,
}

/// Those of one way.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// The way is there.
    pub(crate) reachable: bool,
    /// In the order in which they are sent again.
    pairs: VecDeque<Pair>,
}

impl Resting {
    pub(crate) fn of(&mut self, way: Way) -> &mut Rest {
        match way {
            Way::Outside => &mut self.outside,
            Way::Inside => &mut self.inside,
        }
    }

    fn is_waiting(&self) -> bool {
        [&self.outside, &self.inside].iter().any(|rest| rest.reachable && !rest.pairs.is_empty())
    }
}

impl Rest {
    fn next(&mut self) -> Option<Pair> {
        if self.reachable { self.pairs.pop_front() } else { None }
    }
}

/// Between two sessions with messages of before the start: all partners at once would be too much for
/// the edges.
const RECOVERY_GAP: Duration = Duration::from_millis(5);

/// Devices that may answer one INVITE besides the first, and are told BYE.
const DECLINED_MAX: usize = 8;

/// An RFC 3428 message outside a session, all of it.
const PAGER_BYTES_MAX: usize = 1300;

impl Session {
    fn new(profile: Profile, now: Instant) -> Self {
        let mode = match profile {
            Profile::Lync => Mode::Session { pager_refused: false },
            Profile::Standard => Mode::Pager { session_refused: false },
        };
        Self {
            mode,
            invite: None,
            main: None,
            spare: None,
            queue: VecDeque::new(),
            under_way: None,
            last_heard: now,
            thread: None,
            told_composing: false,
            resting: false,
        }
    }

    /// Messages without an answer.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    fn legs(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.main.iter_mut().chain(&mut self.spare)
    }

    fn leg(&mut self, tag: &str) -> Option<&mut Leg> {
        self.legs().find(|leg| leg.dialog.id.local_tag == tag)
    }

    /// Takes a dialog out; the other one becomes the main one.
    fn take_leg(&mut self, tag: &str) -> Option<Leg> {
        let is = |leg: &Option<Leg>| leg.as_ref().is_some_and(|l| l.dialog.id.local_tag == tag);
        if is(&self.main) {
            return std::mem::replace(&mut self.main, self.spare.take());
        }
        if is(&self.spare) { self.spare.take() } else { None }
    }

    /// Puts a dialog in. Of two, messages go where the Call-ID sorts first: a rule that both sides
    /// can follow without a word. Gives back what there is no room for.
    fn put_leg(&mut self, leg: Leg) -> Option<Leg> {
        let dropped = self.spare.take();
        match self.main.take() {
            None => {
                self.main = Some(leg);
                self.spare = dropped;
                None
            }
            Some(main) => {
                let (first, second) = if main.dialog.id.call_id <= leg.dialog.id.call_id {
                    (main, leg)
                } else {
                    (leg, main)
                };
                (self.main, self.spare) = (Some(first), Some(second));
                dropped
            }
        }
    }
}

impl Gateway {
    /// Makes sure that there is a session; false if there are too many.
    fn open_session(&mut self, pair: &Pair, now: Instant) -> bool {
        if self.sessions.contains_key(pair) {
            return true;
        }
        if self.take_one(Scarce::Sessions, pair).is_err() {
            return false;
        }
        let profile = self.profile_of(&pair.remote);
        self.sessions.insert(pair.clone(), Session::new(profile, now));
        self.session_touched(pair, now);
        true
    }

    /// Something was said: the session lives on.
    pub(crate) fn session_touched(&mut self, pair: &Pair, now: Instant) {
        if let Some(session) = self.sessions.get_mut(pair) {
            session.last_heard = now;
            self.set_session_timer(pair, now + self.config.session_idle);
        }
    }

    /// The session is looked at again at `at`, or before that if something of it is over earlier.
    fn set_session_timer(&mut self, pair: &Pair, at: Instant) {
        let Some(session) = self.sessions.get(pair) else { return };
        let invite = session.invite.as_ref().map(|invite| invite.until);
        let first = session.queue.front().filter(|_| session.resting);
        let first = first.map(|first| first.deliver_by);
        let at = invite.into_iter().chain(first).fold(at, Instant::min);
        self.timers.set(&TimerKey::Session(pair.clone()), Some(at));
    }

    /// What waits in this session, from now on, is of before the start.
    pub(crate) fn rest(&mut self, pair: &Pair, way: Way, now: Instant) {
        if !self.sessions.contains_key(pair)
            && self.open_session(pair, now)
            && let Some(session) = self.sessions.get_mut(pair)
        {
            session.resting = true;
            self.resting.of(way).pairs.push_back(pair.clone());
            self.set_recovery_timer(now);
        }
    }

    /// The turn of one more session with messages of before the start, for each way that is there.
    pub(crate) fn recovery_due(&mut self, now: Instant) {
        for way in [Way::Outside, Way::Inside] {
            while let Some(pair) = self.resting.of(way).next() {
                // It may be over.
                let Some(session) = self.sessions.get_mut(&pair) else { continue };
                if std::mem::take(&mut session.resting) {
                    self.session_touched(&pair, now);
                    self.settle(&pair, now);
                    break;
                }
            }
        }
        self.set_recovery_timer(now + RECOVERY_GAP);
    }

    /// The next turn is at `at`, if there is anybody whose turn it can be.
    pub(crate) fn set_recovery_timer(&mut self, at: Instant) {
        self.timers.set(&TimerKey::Recovery, self.resting.is_waiting().then_some(at));
    }

    /// The moment of a session has come: nothing was said for long, or an INVITE rang for long.
    pub(crate) fn session_due(&mut self, pair: &Pair, now: Instant) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        if let Some(invite) = session.invite.take_if(|invite| invite.until <= now) {
            let has_leg = session.main.is_some() || session.under_way.is_some();
            self.abandon(invite.id, invite.request);
            if !has_leg {
                let text = "the partner did not answer the invitation in time";
                let condition = StanzaCondition::RemoteServerTimeout;
                self.bounce_queue(pair, (ErrorKind::Wait, condition, text));
            }
            self.settle(pair, now);
            return;
        }
        if session.resting {
            self.settle(pair, now);
        }
        let Some(session) = self.sessions.get(pair) else { return };
        let idle_at = session.last_heard + self.config.session_idle;
        if idle_at > now || !session.queue.is_empty() {
            // Each message under way has its answer or its failure: come back later.
            let at = if idle_at > now { idle_at } else { now + self.config.session_idle };
            self.set_session_timer(pair, at);
            return;
        }
        self.end_session(pair, true);
    }

    /// Policy lets the two not talk any more.
    pub(crate) fn forbid_session(&mut self, pair: &Pair) {
        // One whose turn has not come yet is not sent after its author was told so.
        if let Some(under_way) = self.sessions.get(pair).and_then(|it| it.under_way.as_ref()) {
            let id = under_way.id;
            self.push(crate::Effect::Cancel { id });
        }
        let text = "the policy of this server does not let you talk to this contact any more";
        self.bounce_queue(pair, (ErrorKind::Cancel, StanzaCondition::PolicyViolation, text));
        self.end_session(pair, true);
    }

    /// The gateway stops. What is under way is waited for, unless `at_once`.
    pub(crate) fn shut_session(&mut self, pair: &Pair, at_once: bool, now: Instant) {
        let _ = now;
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let waits = session.under_way.is_some() && !at_once;
        let first = session.queue.pop_front_if(|_| waits);
        let rest = std::mem::replace(&mut session.queue, first.into_iter().collect());
        for outgoing in rest {
            self.keep(outgoing);
        }
        if !waits {
            self.end_session(pair, true);
            return;
        }
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let (main, spare) = (session.main.take(), session.spare.take());
        if let Some(invite) = session.invite.take() {
            self.abandon(invite.id, invite.request);
        }
        for leg in main.into_iter().chain(spare) {
            self.hang_up(leg);
        }
    }

    /// The gateway stops before the partner answered.
    fn keep(&mut self, Outgoing { stanza, receipt, .. }: Outgoing) {
        let text = "the gateway to SIP partners is stopping; send it again in a minute";
        let text = self.sentence(text);
        let condition = StanzaCondition::RemoteServerTimeout;
        let error = stanza.bounce(ErrorKind::Wait, condition, &text);
        self.push(crate::Effect::Keep { receipt, error });
    }

    /// Ends all dialogs of a session whose queue is empty. `tell`: the local user hears `gone`.
    fn end_session(&mut self, pair: &Pair, tell: bool) {
        let Some(mut session) = self.sessions.remove(pair) else { return };
        self.session_count.remove(pair);
        self.timers.set(&TimerKey::Session(pair.clone()), None);
        if let Some(invite) = session.invite.take() {
            self.abandon(invite.id, invite.request);
        }
        let had_legs = session.main.is_some();
        for leg in session.main.take().into_iter().chain(session.spare.take()) {
            self.hang_up(leg);
        }
        if tell && had_legs {
            let gone =
                local::chat_state(&pair.remote, &pair.local, "gone", session.thread.as_deref());
            self.tell(gone);
        }
    }

    /// Ends one dialog with BYE.
    fn hang_up(&mut self, mut leg: Leg) {
        let bye = leg.dialog.request(Method::Bye);
        self.drop_leg(&leg);
        self.send(bye, Purpose::Farewell);
    }

    /// One dialog is over.
    fn drop_leg(&mut self, leg: &Leg) {
        self.tags.remove(&leg.dialog.id.local_tag);
        if let Some((id, ..)) = &leg.invite {
            self.lose_interest(*id);
        }
    }

    /// Puts a dialog into a session.
    fn add_leg(
        &mut self,
        pair: &Pair,
        dialog: Dialog,
        typing: Typing,
        invite: Option<(OutgoingId, Box<Message>)>,
        now: Instant,
    ) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let tag = dialog.id.local_tag.clone();
        let typing_sent = Composing::Idle;
        let declined = Vec::new();
        let leg = Leg { dialog, invite, declined, typing, typing_sent, last_heard: now };
        let dropped = session.put_leg(leg);
        self.tags.insert(tag, Owner::Session(pair.clone()));
        if let Some(dropped) = dropped {
            self.hang_up(dropped);
        }
        self.session_touched(pair, now);
    }

    /// A final 2xx to an INVITE that nobody wants any more: acknowledged, and ended.
    pub(crate) fn decline(&mut self, invite: &Message, response: &Message) {
        if let Ok(mut dialog) = Dialog::established(invite, response) {
            let ack = dialog.request(Method::Ack);
            self.push(crate::Effect::Ack { ack });
            let bye = dialog.request(Method::Bye);
            self.send(bye, Purpose::Farewell);
        }
    }

    /// Bounces everything that waits, in order.
    fn bounce_queue(
        &mut self,
        pair: &Pair,
        (kind, condition, text): (ErrorKind, StanzaCondition, &str),
    ) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let queue = std::mem::take(&mut session.queue);
        if let Some(under_way) = session.under_way.take() {
            self.lose_interest(under_way.id);
        }
        for outgoing in queue {
            self.bounce_message(outgoing, (kind, condition, text));
        }
    }

    /// Tells the author of a message why it did not arrive.
    fn bounce_message(
        &mut self,
        outgoing: Outgoing,
        (kind, condition, text): (ErrorKind, StanzaCondition, &str),
    ) {
        let text = self.sentence(text);
        self.bounce(&outgoing.stanza, outgoing.receipt, (kind, condition, &text));
    }

    /// What the author of a message reads.
    fn sentence(&self, why: &str) -> String {
        match self.config.undelivered.as_str() {
            "" => why.to_owned(),
            sentence => format!("{sentence} ({why})"),
        }
    }

    /// A message waited for longer than it may.
    pub(crate) fn bounce_late(&mut self, (stanza, receipt): (Stanza, Receipt)) {
        let text = self.sentence("it waited too long for the partner and was not sent any more");
        let condition = StanzaCondition::RemoteServerTimeout;
        self.bounce(&stanza, receipt, (ErrorKind::Wait, condition, &text));
    }

    /// The dialog of this tag is dead: BYE, in case the other side thinks otherwise.
    fn leg_died(&mut self, pair: &Pair, tag: &str) {
        let leg = self.sessions.get_mut(pair).and_then(|session| session.take_leg(tag));
        if let Some(leg) = leg {
            self.hang_up(leg);
        }
    }
}

/// How a peer that sent this hears of typing.
fn typing_of(message: &Message, accept_types: &[String]) -> Typing {
    let allow = message.headers.list(&gatehouse_sip::HeaderName::Allow);
    let info = allow.iter().any(|method| method == "INFO");
    if info && crate::profile::detect(message) == Some(Profile::Lync) {
        Typing::Info
    } else if accept_types.iter().any(|essence| essence.eq_ignore_ascii_case(ISCOMPOSING)) {
        Typing::IsComposing
    } else {
        Typing::Never
    }
}

/// The session description of ours, as offer or answer.
fn describe(user: Option<&Jid>, host: &str) -> String {
    match user {
        None => gatehouse_sip::sdp::offer(host, &sip::ACCEPT_TYPES),
        Some(user) => {
            let user = crate::address::to_uri(user).to_string();
            gatehouse_sip::sdp::answer(host, &user, &sip::ACCEPT_TYPES)
        }
    }
}
