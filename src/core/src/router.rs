//! Where a stanza goes, and the loop that takes it there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gatehouse_store::{Store, StoreError};
use gatehouse_trunk::{Receipt, TrunkSender};
use gatehouse_types::{Domain, Jid, Local};
use gatehouse_xmpp::{Stanza, StanzaCondition, StanzaKind, ns};
use tracing::{debug, info};

use crate::CoreConfig;
use crate::account::{Account, Accounts, Session};
use crate::carbons;
use crate::held::Done;
use crate::outbox::{Outgoing, Owed};
use crate::pep::Capabilities;
use crate::presence;
use crate::refusal::Refusal;
use crate::sip::{SipPort, stopping};
use crate::stamp::{self, WallClock};

/// How often, in all, one burst of presence is tried again when the edge has no room.
const PASSING_TRIES: u32 = 10;
/// And how long it waits each time.
const PASSING_RETRY: Duration = Duration::from_millis(50);

/// The router; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Router(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: CoreConfig,
    pub(crate) accounts: Accounts,
    pub(crate) store: Store,
    pub(crate) clock: WallClock,
    pub(crate) capabilities: Capabilities,
    /// What the store need not answer for any more.
    pub(crate) done: Arc<Done>,
    trunk: TrunkSender,
    sip: Option<SipPort>,
    next_id: AtomicU64,
}

/// Who takes care of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// One of our domains itself.
    Server,
    /// A user of ours; the node of that user is this one.
    User,
    /// Another domain, behind an edge.
    Outside,
}

/// Who waits for a stanza to be taken care of.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A client of ours, or we ourselves; both can wait.
    Here(Owed),
    /// The trunk: whoever waits there holds up what everybody else is sent.
    Trunk(Owed),
    /// A lane of the SIP gateway, for which it must always be possible to answer.
    Gateway(Owed),
    /// A session that ended and left it. What came later waits for it, not the other way round.
    Leftover(Owed),
}

impl Origin {
    /// What is owed for the stanza until it is safe.
    pub(crate) fn owed(&self) -> Owed {
        match self {
            Self::Here(owed) | Self::Trunk(owed) | Self::Gateway(owed) | Self::Leftover(owed) => {
                owed.clone()
            }
        }
    }
}

/// What a stanza brought with it: stanzas to be routed next, in this order.
pub(crate) type Consequences = Vec<Stanza>;

/// Presence that says how things are, and not what was agreed: a later one replaces it.
fn is_passing(stanza: &Stanza) -> bool {
    stanza.kind() == StanzaKind::Presence
        && matches!(stanza.type_(), None | Some("unavailable" | "probe" | "error"))
}

/// The error that sends one message back.
struct RefusalOf {
    id: Option<String>,
    author: Option<Jid>,
}

impl RefusalOf {
    fn new(stanza: &Stanza) -> Self {
        Self { id: stanza.id().map(str::to_owned), author: stanza.from().cloned() }
    }

    fn is(&self, other: &Stanza) -> bool {
        other.kind() == StanzaKind::Message
            && other.type_() == Some("error")
            && other.id() == self.id.as_deref()
            && other.to() == self.author.as_ref()
    }
}

fn condition_of(error: &Stanza) -> StanzaCondition {
    let child = error.element().get_child("error", ns::CLIENT);
    child
        .and_then(|child| child.children().next())
        .map_or(StanzaCondition::UndefinedCondition, |child| {
            StanzaCondition::from_name(child.name())
        })
}

impl std::ops::Deref for Router {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Router {
    pub(crate) fn new(
        config: CoreConfig,
        store: Store,
        trunk: TrunkSender,
        sip: Option<SipPort>,
        clock: WallClock,
    ) -> Self {
        let accounts = Accounts::default();
        let next_id = AtomicU64::new(1);
        let capabilities = Capabilities::default();
        let done = Arc::default();
        let parts =
            Inner { config, accounts, store, clock, capabilities, done, trunk, sip, next_id };
        Self(Arc::new(parts))
    }

    /// The way to the edge.
    pub(crate) fn trunk(&self) -> &TrunkSender {
        &self.trunk
    }

    /// A number that was not used before in this process.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The one place that knows which node takes care of an address. With several nodes, a user's
    /// place becomes a question to what the nodes share.
    fn locate(&self, to: &Jid) -> Place {
        match (self.is_ours(to.domain()), to.local()) {
            (false, _) => Place::Outside,
            (true, None) => Place::Server,
            (true, Some(_)) => Place::User,
        }
    }

    /// True if `domain` is one of our IM domains.
    pub(crate) fn is_ours(&self, domain: &Domain) -> bool {
        self.config.domains.iter().any(|Local(ours)| ours == domain)
    }

    /// Takes a stanza from the edge. Returns once it has been handed on, stored or answered; whoever
    /// it was handed to holds `owed` until it is written.
    ///
    /// The edge has proved the sender's domain and refuses relaying; a stanza for which that cannot
    /// be true is dropped here too, for the edge stands in the DMZ.
    pub(crate) async fn take_from_edge(&self, stanza: Stanza, owed: Owed) {
        debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza came from the edge");
        let ours = |jid: &Jid| self.is_ours(jid.domain());
        match (stanza.from(), stanza.to()) {
            (Some(from), Some(to)) if !ours(from) && ours(to) => {}
            (from, to) => {
                info!(?from, ?to, "dropped a stanza from the edge: it must go from outside to us");
                return;
            }
        }
        if let Err(refusal) = crate::iq::check_shape(&stanza) {
            self.route(refusal.answer(&stanza), Origin::Trunk(owed), None).await;
            return;
        }
        // No XMPP server there: perhaps it speaks SIP.
        if let Some(again) = self.sip.as_ref().and_then(|sip| sip.failed_by_xmpp(&stanza)) {
            let mut consequences = Consequences::new();
            let origin = Origin::Trunk(owed);
            self.send_to_gateway(again, &origin, None, &mut consequences).await;
            return self.route_all(consequences).await;
        }
        self.route([stanza], Origin::Trunk(owed), None).await;
    }

    /// Takes a stanza from the SIP gateway, whose partner was proved at the edge; the same rules hold
    /// as for [`take_from_edge`](Self::take_from_edge). Whoever the stanza was handed to holds `owed`
    /// until it is safe.
    ///
    /// # Errors
    /// What the partner is to be told. A user who is not there is refused as one who does not answer
    /// this partner is.
    pub(crate) async fn take_from_gateway(
        &self,
        stanza: Stanza,
        owed: Owed,
    ) -> Result<(), StanzaCondition> {
        let ours = |jid: &Jid| self.is_ours(jid.domain());
        let to = match (stanza.from(), stanza.to()) {
            (Some(from), Some(to)) if !ours(from) && ours(to) => to,
            (from, to) => {
                info!(
                    ?from,
                    ?to,
                    "dropped a stanza of a SIP partner: it must go from outside to us"
                );
                return Err(StanzaCondition::ItemNotFound);
            }
        };
        if to.local().is_none() {
            return Err(StanzaCondition::ServiceUnavailable);
        }
        let wish = self.wish_of_nobody(&stanza).await;
        let refusal = RefusalOf::new(&stanza);
        let mut consequences = Consequences::new();
        Box::pin(self.deliver(stanza, &Origin::Gateway(owed), &mut consequences)).await;
        // The partner waits for the outcome: an error stanza would come too late.
        let refused = consequences.iter().position(|stanza| refusal.is(stanza));
        let outcome = match refused {
            Some(at) => Err(condition_of(&consequences.remove(at))),
            None => Ok(()),
        };
        consequences.extend(wish);
        self.route(consequences, Origin::Gateway(Owed::default()), None).await;
        outcome
    }

    /// Presence of a contact for an account that was removed: nobody wants it any more.
    async fn wish_of_nobody(&self, stanza: &Stanza) -> Option<Stanza> {
        let is_shown = stanza.kind() == StanzaKind::Presence
            && matches!(stanza.type_(), None | Some("unavailable" | "subscribed"));
        let (contact, user) = (stanza.from()?.to_bare(), stanza.to()?.to_bare());
        let is_gone = is_shown && matches!(self.account(&user).await, Ok(None));
        is_gone.then(|| presence::of_type(Some("unsubscribe"), user, contact)).flatten()
    }

    /// Takes stanzas with both addresses set where they go, and then whatever they bring about.
    pub(crate) async fn route_all(&self, stanzas: impl IntoIterator<Item = Stanza>) {
        self.route(stanzas, Origin::Here(Owed::default()), None).await;
    }

    /// The same while an account's turn is held, which must not wait for the edge: gives back what
    /// the edge has no room for, for [`route_left`](Self::route_left) once the turn is over.
    #[must_use]
    pub(crate) async fn route_in_turn(
        &self,
        stanzas: impl IntoIterator<Item = Stanza>,
    ) -> Vec<Stanza> {
        let mut left = Vec::new();
        self.route(stanzas, Origin::Here(Owed::default()), Some(&mut left)).await;
        left
    }

    /// What was left of a turn.
    pub(crate) async fn route_left(&self, left: Vec<Stanza>) {
        let (mut tries, origin) = (PASSING_TRIES, Origin::Here(Owed::default()));
        for stanza in left {
            let mut consequences = Consequences::new();
            if self.is_for_gateway(&stanza) {
                self.send_to_gateway(stanza, &origin, None, &mut consequences).await;
            } else {
                self.send_out(stanza, &origin, &mut tries, &mut consequences).await;
            }
            self.route_all(consequences).await;
        }
    }

    pub(crate) async fn route(
        &self,
        stanzas: impl IntoIterator<Item = Stanza>,
        origin: Origin,
        mut left: Option<&mut Vec<Stanza>>,
    ) {
        let mut tries = PASSING_TRIES;
        let mut queue: VecDeque<Stanza> = stanzas.into_iter().collect();
        while let Some(stanza) = queue.pop_front() {
            let Some(to) = stanza.to() else { continue };
            let mut consequences = Consequences::new();
            match self.locate(to) {
                Place::Server => self.serve_domain(&stanza, &mut consequences),
                Place::User => {
                    // On the heap: a future for every kind of stanza is a large one.
                    Box::pin(self.deliver(stanza, &origin, &mut consequences)).await;
                }
                Place::Outside if self.is_for_gateway(&stanza) => {
                    debug!(stanza.id = %stanza.trace(), "a stanza goes to the SIP gateway");
                    let left = left.as_deref_mut();
                    self.send_to_gateway(stanza, &origin, left, &mut consequences).await;
                }
                Place::Outside => {
                    debug!(stanza.id = %stanza.trace(), "a stanza goes to the edge");
                    if let Some(sip) = &self.sip {
                        sip.tried_by_xmpp(&stanza);
                    }
                    match &mut left {
                        None => self.send_out(stanza, &origin, &mut tries, &mut consequences).await,
                        // Behind what is left already, so that order holds.
                        Some(left) if !left.is_empty() => left.push(stanza),
                        Some(left) => {
                            left.extend(self.trunk.try_send(stanza).err().map(|back| *back.stanza));
                        }
                    }
                }
            }
            queue.extend(consequences);
        }
    }

    fn is_for_gateway(&self, stanza: &Stanza) -> bool {
        match (&self.sip, stanza.from(), stanza.to()) {
            (Some(sip), Some(from), Some(to)) => sip.takes(from, to),
            _ => false,
        }
    }

    /// Hands a stanza to the SIP gateway. In a turn it does not wait: what does not fit is `left`.
    async fn send_to_gateway(
        &self,
        stanza: Stanza,
        origin: &Origin,
        left: Option<&mut Vec<Stanza>>,
        consequences: &mut Consequences,
    ) {
        let Some(sip) = &self.sip else { return };
        let sent = match left {
            // Behind what is left already, so that order holds.
            Some(left) if !left.is_empty() => return left.push(stanza),
            Some(left) => match sip.try_send(stanza, origin.owed()) {
                Ok(()) => return,
                Err(back) => return left.push(back),
            },
            None if matches!(origin, Origin::Gateway(_)) => sip.reply(stanza).await,
            None => {
                let stanza = vec![(stanza, origin.owed())];
                return self.keep_and_send(sip, stanza, consequences).await;
            }
        };
        if let Err(stanza) = sent {
            consequences.extend(stopping().answer(&stanza));
        }
    }

    /// Stores stanzas of one author and hands them to the SIP gateway, in this order.
    async fn keep_and_send(
        &self,
        sip: &SipPort,
        stanzas: Vec<(Stanza, Owed)>,
        consequences: &mut Consequences,
    ) {
        let kept = self.keep_outgoing(sip, &stanzas).await;
        for ((stanza, _), kept) in stanzas.into_iter().zip(kept) {
            match kept {
                Ok(owed) => {
                    if let Err(stanza) = sip.send(stanza, owed).await {
                        consequences.extend(stopping().answer(&stanza));
                    }
                }
                Err(refusal) => consequences.extend(refusal.answer(&stanza)),
            }
        }
    }

    /// True for a message that goes to the SIP gateway, and is stored before. Who sends several of them
    /// need not wait for the disk between two of them.
    pub(crate) fn is_message_for_gateway(&self, stanza: &Stanza) -> bool {
        self.sip.is_some()
            && stanza.kind() == StanzaKind::Message
            && stanza.to().is_some_and(|to| self.locate(to) == Place::Outside)
            && self.is_for_gateway(stanza)
    }

    /// Takes messages of a client to the SIP gateway, in this order, and then whatever they bring about.
    pub(crate) async fn route_to_gateway(&self, messages: Vec<(Stanza, Owed)>) {
        let Some(sip) = self.sip.as_ref().filter(|_| !messages.is_empty()) else { return };
        for (message, _) in &messages {
            debug!(stanza.id = %message.trace(), "a stanza goes to the SIP gateway");
        }
        let mut consequences = Consequences::new();
        self.keep_and_send(sip, messages, &mut consequences).await;
        self.route_all(consequences).await;
    }

    async fn send_out(
        &self,
        stanza: Stanza,
        origin: &Origin,
        tries: &mut u32,
        consequences: &mut Consequences,
    ) {
        if is_passing(&stanza) {
            return self.send_passing(stanza, tries).await;
        }
        let receipt = match origin {
            Origin::Here(owed) => owed.clone().until_dropped(),
            // Whoever waits at the trunk for one that waits at the trunk could wait for ever.
            Origin::Trunk(_) | Origin::Gateway(_) | Origin::Leftover(_) => Receipt::default(),
        };
        let Err(unreachable) = self.trunk.send_with(stanza, receipt).await else { return };
        info!(stanza.id = %unreachable.stanza.trace(), reason = unreachable.reason, "no edge takes what goes to other domains");
        let refusal = Refusal::wait(
            StanzaCondition::RemoteServerTimeout,
            "The gateway to other domains cannot be reached at the moment. Try again later.",
        );
        consequences.extend(refusal.answer(&unreachable.stanza));
    }

    /// Presence is worth nothing later: while the edge is away it is dropped, and the next one
    /// mends it. A burst gets `tries` moments in all for the edge to make room.
    async fn send_passing(&self, stanza: Stanza, tries: &mut u32) {
        let mut stanza = stanza;
        while let Err(unreachable) = self.trunk.try_send(stanza) {
            if *tries == 0 {
                debug!(reason = unreachable.reason, "dropped presence for another domain");
                metrics::counter!("gatehouse_presence_dropped_total").increment(1);
                return;
            }
            *tries -= 1;
            stanza = *unreachable.stanza;
            tokio::time::sleep(PASSING_RETRY).await;
        }
    }

    /// The live state of a local user, or `None` if there is no such account.
    pub(crate) async fn account(&self, bare: &Jid) -> Result<Option<Arc<Account>>, StoreError> {
        if let Some(account) = self.accounts.connected(bare) {
            return Ok(Some(account));
        }
        let exists = self.store.has_account(bare).await?;
        Ok(exists.then(|| self.accounts.get(bare)))
    }

    /// Hands a stanza to one session, if it is still there.
    pub(crate) async fn send(&self, session: &Session, stanza: Stanza) {
        if session.outbox.send(Outgoing::new(stanza)).await.is_err() {
            debug!(to = %session.jid, "a stanza found its session gone");
        }
    }

    /// The same without a wait.
    pub(crate) fn offer(&self, session: &Session, stanza: Stanza) {
        if session.outbox.offer(Outgoing::new(stanza)).is_err() {
            debug!(to = %session.jid, "a stanza found its session gone");
        }
    }

    /// Takes a stanza that a session left unwritten where it goes now, as if it had just been
    /// addressed to the user.
    pub(crate) async fn route_again(
        &self,
        account: &Account,
        lost: Outgoing,
        since_ms: Option<i64>,
    ) {
        // The store still has it, or another resource may have it.
        if lost.offline.is_some() {
            return;
        }
        let Some(owed) = lost.copies.lost() else { return };
        let mut stanza = Arc::unwrap_or_clone(lost.stanza);
        if lost.is_extra {
            // The last trace of a message that reached nobody.
            let Some(original) = carbons::original(&stanza) else { return };
            stanza = original;
        }
        match stanza.kind() {
            StanzaKind::Presence => {}
            // A push of the server itself has no sender, so its answer goes nowhere.
            StanzaKind::Iq => {
                let answer = Refusal::unavailable().answer(&stanza);
                self.route(answer, Origin::Leftover(owed), None).await;
            }
            StanzaKind::Message => {
                stanza.set_to(Some(account.jid.clone()));
                let stamp = |since| stamp::delay(account.jid.domain(), since);
                if let Some(delay) = since_ms.and_then(stamp) {
                    stanza.payload_mut().append_child(delay);
                }
                self.route([stanza], Origin::Leftover(owed), None).await;
            }
        }
    }
}
