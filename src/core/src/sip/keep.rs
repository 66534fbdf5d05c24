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
use crate::router::{Origin, Router};
use crate::xml;

/// Messages that wait for the disk; then their authors wait.
const QUEUE_LEN_MAX: usize = 256;
/// Messages that are committed together.
const BATCH_LEN_MAX: usize = 256;

/// A message to be stored, and who waits for it.
#[derive(Debug)]
pub(super) struct Wish {
    message: NewOutgoing,
    stored: oneshot::Sender<Result<Held, Refusal>>,
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

impl Router {
    async fn fulfil(&self, batch: &mut Vec<Wish>) {
        let (messages, waiting): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|Wish { message, stored }| (message, stored)).unzip();
        // What is stored and nobody waits for any more is not sent, and removed again.
        match self.store.push_outgoing(&messages, OutgoingLimits::default()).await {
            Ok(outcomes) => {
                for (outcome, stored) in outcomes.into_iter().zip(waiting) {
                    let held = |id| Held::outgoing(id, Arc::clone(&self.done));
                    let _ = stored.send(outcome.map(held).map_err(refused));
                }
            }
            Err(failure) => {
                let refusal = refused(failure);
                for stored in waiting {
                    let _ = stored.send(Err(refusal.clone()));
                }
            }
        }
    }

    /// Stores a message to a SIP partner, if it says something. Gives what is owed for it until the
    /// partner has it, or its author knows why not: until then it survives a crash.
    ///
    /// # Errors
    /// It is not stored and must not be sent: nobody would know what became of it.
    pub(crate) async fn keep_outgoing(
        &self,
        port: &SipPort,
        stanza: &Stanza,
        origin: &Origin,
    ) -> Result<Owed, Refusal> {
        let owed = origin.owed();
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else { return Ok(owed) };
        // What is not a text is answered at once; and some authors want theirs on no disk.
        let is_text = matches!(Sort::of(stanza), Sort::Chat | Sort::Normal)
            && stanza.element().has_child("body", ns::CLIENT)
            && is_worth_keeping(stanza);
        if !is_text || !self.is_ours(from.domain()) {
            return Ok(owed);
        }
        let text = xml::storable(&stanza.to_element()).ok_or_else(|| {
            Refusal::modify(
                StanzaCondition::NotAcceptable,
                "This message holds XML that cannot be stored, and messages to SIP contacts are \
                 stored until they are answered.",
            )
        })?;
        let message = NewOutgoing {
            account: Jid::to_bare(from),
            domain: to.domain().clone(),
            received_ms: self.clock.now_ms(),
            stanza: text,
        };
        let (stored, held) = oneshot::channel();
        let stopping = || {
            Refusal::wait(
                StanzaCondition::RemoteServerTimeout,
                "The gateway to this domain is stopping. Try again later.",
            )
        };
        if port.keep.send(Wish { message, stored }).await.is_err() {
            return Err(stopping());
        }
        let held = held.await.map_err(|_| stopping())??;
        metrics::counter!("gatehouse_sip_outgoing_stored_total").increment(1);
        Ok(owed.held(held))
    }
}
