//! Messages of users to SIP partners are stored before the gateway has them: a partner's answer may take
//! its time, and whoever was told that a message is taken need not fear for it meanwhile.

use std::sync::Arc;

use gatehouse_net::Tasks;
use gatehouse_store::{NewOutgoing, OutgoingLimits, StoreError};
use gatehouse_types::Jid;
use gatehouse_xmpp::{Stanza, StanzaCondition, ns};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, info_span};

use super::SipPort;
use crate::delivery::Sort;
use crate::held::Held;
use crate::offline::is_worth_keeping;
use crate::outbox::Owed;
use crate::refusal::Refusal;
use crate::router::Router;
use crate::xml;

/// Authors who wait for the disk; then others wait until it is their turn.
const QUEUE_LEN_MAX: usize = 256;
/// Authors whose messages are committed together.
const BATCH_LEN_MAX: usize = 256;

/// Messages of one author to be stored, and who waits for them.
#[derive(Debug)]
pub(super) struct Wish {
    messages: Vec<NewOutgoing>,
    stored: oneshot::Sender<Vec<Result<Held, Refusal>>>,
}

/// Where messages to be stored wait.
pub(super) fn queue() -> (mpsc::Sender<Wish>, mpsc::Receiver<Wish>) {
    mpsc::channel(QUEUE_LEN_MAX)
}

/// Starts the task that stores messages, as many at a time as there are. Only once what was stored
/// before was read: what comes now is not of before.
pub(super) fn start(router: &Router, mut wishes: mpsc::Receiver<Wish>, tasks: &Tasks) {
    let (router, stop) = (router.clone(), tasks.stop());
    tasks.spawn(info_span!("sip.keep"), async move {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = wishes.recv_many(&mut batch, BATCH_LEN_MAX) => match count {
                    0 => return,
                    _ => router.fulfil(&mut batch).await,
                },
                () = stop.cancelled(), if !wishes.is_closed() => wishes.close(),
            }
        }
    });
}

fn has_text(stanza: &Stanza) -> bool {
    stanza.element().has_child("body", ns::CLIENT)
}

fn refused(failure: StoreError) -> Refusal {
    metrics::counter!("gatehouse_sip_outgoing_refused_total").increment(1);
    match failure {
        StoreError::Full { what, limit } => {
            info!(
                what,
                limit, "a message to a SIP partner is sent back: too much waits for answers"
            );
            Refusal::wait(
                StanzaCondition::ResourceConstraint,
                "Too many messages wait for SIP contacts to answer. Try again later.",
            )
        }
        failure => failure.into(),
    }
}

/// There is no gateway any more.
pub(crate) fn stopping() -> Refusal {
    Refusal::wait(
        StanzaCondition::RemoteServerTimeout,
        "The gateway to this domain is stopping. Try again later.",
    )
}

impl Router {
    async fn fulfil(&self, batch: &mut Vec<Wish>) {
        let (mut messages, mut waiting) = (Vec::new(), Vec::with_capacity(batch.len()));
        for mut wish in batch.drain(..) {
            waiting.push((wish.messages.len(), wish.stored));
            messages.append(&mut wish.messages);
        }
        let ride = self.done.ride();
        let limits = OutgoingLimits::default();
        // What is stored and nobody waits for any more is not sent, and removed again.
        match self.store.push_outgoing(&messages, ride.keys(), limits).await {
            Ok(outcomes) => {
                ride.arrived();
                let held = |id| Held::outgoing(id, Arc::clone(&self.done));
                let mut outcomes =
                    outcomes.into_iter().map(|outcome| outcome.map(held).map_err(refused));
                for (count, stored) in waiting {
                    let _ = stored.send(outcomes.by_ref().take(count).collect());
                }
            }
            Err(failure) => {
                drop(ride);
                let refusal = refused(failure);
                for (count, stored) in waiting {
                    let _ = stored.send((0..count).map(|_| Err(refusal.clone())).collect());
                }
            }
        }
    }

    /// Stores messages of one author to SIP partners, those that say something, in one commit. Gives
    /// for each what is owed for it until the partner has it, or its author knows why not: until then it
    /// survives a crash. Or why it is not stored and must not be sent: nobody would know what became of it.
    pub(crate) async fn keep_outgoing(
        &self,
        port: &SipPort,
        stanzas: &[(Stanza, Owed)],
    ) -> Vec<Result<Owed, Refusal>> {
        let mut messages = Vec::new();
        let is_kept: Vec<Result<bool, Refusal>> = stanzas
            .iter()
            .map(|(stanza, _)| {
                let message = self.to_be_kept(stanza)?;
                Ok(message.map(|message| messages.push(message)).is_some())
            })
            .collect();
        let mut kept = self.store_outgoing(port, messages).await.into_iter();
        let owed = |(is_kept, (stanza, owed)): (Result<bool, Refusal>, &(Stanza, Owed))| {
            if !is_kept? {
                // Nobody waits for the answer to what says nothing.
                return Ok(if has_text(stanza) { owed.clone() } else { Owed::default() });
            }
            let held = kept.next().unwrap_or_else(|| Err(stopping()))?;
            metrics::counter!("gatehouse_sip_outgoing_stored_total").increment(1);
            Ok(owed.clone().held(held))
        };
        is_kept.into_iter().zip(stanzas).map(owed).collect()
    }

    /// None of them if we are stopping.
    async fn store_outgoing(
        &self,
        port: &SipPort,
        messages: Vec<NewOutgoing>,
    ) -> Vec<Result<Held, Refusal>> {
        if messages.is_empty() {
            return Vec::new();
        }
        let (stored, held) = oneshot::channel();
        match port.keep.send(Wish { messages, stored }).await {
            Ok(()) => held.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// What is stored of a stanza to a SIP partner, if it says something.
    fn to_be_kept(&self, stanza: &Stanza) -> Result<Option<NewOutgoing>, Refusal> {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else { return Ok(None) };
        // What is not a text is answered at once; and some authors want theirs on no disk.
        let is_text = matches!(Sort::of(stanza), Sort::Chat | Sort::Normal)
            && has_text(stanza)
            && is_worth_keeping(stanza);
        if !is_text || !self.is_ours(from.domain()) {
            return Ok(None);
        }
        let text = xml::storable(&stanza.to_element()).ok_or_else(|| {
            Refusal::modify(
                StanzaCondition::NotAcceptable,
                "This message holds XML that cannot be stored, and messages to SIP contacts are \
                 stored until they are answered.",
            )
        })?;
        Ok(Some(NewOutgoing {
            account: Jid::to_bare(from),
            domain: to.domain().clone(),
            received_ms: self.clock.now_ms(),
            stanza: text,
        }))
    }
}
