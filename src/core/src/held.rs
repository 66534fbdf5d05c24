//! Messages that the store answers for while a session tries to get them to its client: a core that is
//! killed meanwhile finds them there.
//!
//! Who was told that a message is safe must be right. A session has what it was sent in memory; so
//! what is not known to have arrived after a moment, and what waits for a client that is away, is
//! written to the store as well, and removed once a client has it or it is taken care of elsewhere.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::Tasks;
use gatehouse_store::StoreError;
use gatehouse_types::{Chain, Jid};
use gatehouse_xmpp::Stanza;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};
use tokio::time;
use tracing::{error, info, info_span, warn};

use crate::carbons;
use crate::delivery::Sort;
use crate::offline::is_worth_keeping;
use crate::outbox::{Outgoing, Owed};
use crate::router::Router;
use crate::xml;

/// How long it takes until the store is asked again to remove something, after it failed.
const RETRY: Duration = Duration::from_secs(5);

/// A message in the store. When this is dropped, the message is about to be removed from it.
#[derive(Debug)]
pub(crate) struct Held {
    /// Nothing once it is to stay.
    id: Option<i64>,
    table: Table,
    done: Arc<Done>,
}

/// Which messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Table {
    /// To users of ours, in the hands of a session.
    Sessions,
    /// To SIP partners.
    Outgoing,
}

/// What need not be held any more, and is still in the store.
#[derive(Debug, Default)]
pub(crate) struct Done {
    ids: Mutex<Vec<(Table, i64)>>,
    /// What a core left that was killed is taken care of.
    recovered: OnceCell<()>,
    news: Notify,
}

/// What is about to be removed. What is left of it when this is dropped is still to be removed.
struct Taken<'a> {
    done: &'a Done,
    ids: Vec<(Table, i64)>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.done.ids.lock().append(&mut self.ids);
            self.done.news.notify_one();
        }
    }
}

impl Held {
    /// A message to a SIP partner, by its key.
    pub(crate) fn outgoing(id: i64, done: Arc<Done>) -> Self {
        Self { id: Some(id), table: Table::Outgoing, done }
    }

    /// True for a message to a SIP partner.
    pub(crate) fn is_outgoing(&self) -> bool {
        self.table == Table::Outgoing
    }

    /// Leaves the message in the store, for the next start.
    pub(crate) fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever had it did not come to an end with it: better twice than never.
        if self.is_outgoing() && std::thread::panicking() {
            return;
        }
        if let Some(id) = self.id {
            self.done.ids.lock().push((self.table, id));
            self.done.news.notify_one();
        }
    }
}

/// Starts the task that removes from the store what need not be held any more.
pub(crate) fn start(router: &Router, tasks: &Tasks) {
    let (router, stop) = (router.clone(), tasks.stop());
    tasks.spawn(info_span!("held"), async move {
        let work = async {
            if let Err(failure) = router.recover().await {
                error!(error = %Chain(&failure), "cannot store what was held when the core was killed");
            }
            loop {
                router.done.news.notified().await;
                while !router.let_go().await {
                    time::sleep(RETRY).await;
                }
            }
        };
        // Each session that ends removes what is left, too.
        stop.run_until_cancelled(work).await;
    });
}

impl Router {
    /// Makes offline messages of what was held when the core of before was killed, once. Nobody may be
    /// bound, and so nothing held, before this is done.
    ///
    /// # Errors
    /// It is tried again at the next call.
    pub(crate) async fn recover(&self) -> Result<(), StoreError> {
        let recover = async || {
            let count = self.store.recover_held().await?;
            if count > 0 {
                info!(count, "messages that were on their way when the core was killed are stored");
            }
            Ok(())
        };
        self.done.recovered.get_or_try_init(recover).await.copied()
    }

    /// Removes what need not be held any more. False if the store failed: it is to be tried again.
    pub(crate) async fn let_go(&self) -> bool {
        // Whoever is stopped in the middle leaves them to the next one.
        let mut taken = Taken { done: &self.done, ids: Vec::new() };
        taken.ids = std::mem::take(&mut *self.done.ids.lock());
        let of = |table: Table| -> Vec<i64> {
            taken.ids.iter().filter(|(known, _)| *known == table).map(|(_, id)| *id).collect()
        };
        let (held, outgoing) = (of(Table::Sessions), of(Table::Outgoing));
        let remove = async {
            if !held.is_empty() {
                self.store.let_go(&held).await?;
            }
            if !outgoing.is_empty() {
                self.store.remove_outgoing(&outgoing).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(failure) = remove.await {
            // After a crash they come twice, which is better than not at all.
            error!(error = %Chain(&failure), "cannot remove messages that were delivered");
            return false;
        }
        taken.ids.clear();
        true
    }

    /// Holds those of `items` that nobody else answers for, since `at_ms`. Once this returns, they
    /// survive a crash.
    ///
    /// # Errors
    /// None of them is held.
    pub(crate) async fn hold(
        &self,
        account: &Jid,
        items: impl IntoIterator<Item = &Outgoing>,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        let (mut owed, mut texts) = (Vec::new(), Vec::new());
        for item in items {
            if item.offline.is_none()
                && !item.copies.is_safe()
                && let Some(text) = text(account, &item.stanza, item.is_extra)
            {
                owed.push(item.copies.clone());
                texts.push(text);
            }
        }
        let held = self.hold_texts(account, &texts, at_ms).await?;
        for (copies, held) in owed.into_iter().zip(held) {
            copies.hold(held);
        }
        Ok(())
    }

    /// The same for stanzas that came over the trunk and were not read in time. Their receipts can go
    /// then.
    pub(crate) async fn hold_unread(&self, unread: &[Owed], at_ms: i64) {
        let mut by_account: Vec<(Jid, Vec<&Owed>, Vec<String>)> = Vec::new();
        for owed in unread {
            let Some(stanza) = owed.stanza() else { continue };
            let Some(account) = stanza.to().map(Jid::to_bare) else { continue };
            let Some(text) = text(&account, &stanza, false) else { continue };
            match by_account.iter_mut().find(|(jid, ..)| *jid == account) {
                Some((_, owed_to, texts)) => {
                    owed_to.push(owed);
                    texts.push(text);
                }
                None => by_account.push((account, vec![owed], vec![text])),
            }
        }
        if by_account.is_empty() {
            return;
        }
        // One commit for all of them, who all wait for it.
        let all: Vec<(&Jid, &[String])> =
            by_account.iter().map(|(account, _, texts)| (account, texts.as_slice())).collect();
        let outcomes = match self.store.hold_all(at_ms, &all).await {
            Ok(outcomes) => outcomes,
            Err(failure) => {
                let count: usize = all.iter().map(|(_, texts)| texts.len()).sum();
                metrics::counter!("gatehouse_c2s_not_held_total").increment(count as u64);
                note_not_held(&failure);
                return;
            }
        };
        for ((_, owed, texts), outcome) in by_account.iter().zip(outcomes) {
            match outcome {
                Ok(ids) => {
                    for (owed, held) in owed.iter().zip(self.held(ids)) {
                        owed.hold(held);
                    }
                }
                Err(failure) => {
                    metrics::counter!("gatehouse_c2s_not_held_total").increment(texts.len() as u64);
                    note_not_held(&failure);
                }
            }
        }
    }

    async fn hold_texts(
        &self,
        account: &Jid,
        texts: &[String],
        at_ms: i64,
    ) -> Result<Vec<Held>, StoreError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.held(self.store.hold(account, at_ms, texts).await?))
    }

    /// What is held by these keys.
    fn held(&self, ids: Vec<i64>) -> Vec<Held> {
        metrics::counter!("gatehouse_c2s_held_total").increment(ids.len() as u64);
        let held = |id| {
            let done = Arc::clone(&self.done);
            Held { id: Some(id), table: Table::Sessions, done }
        };
        ids.into_iter().map(held).collect()
    }
}

/// Why something is not held. That an account holds too much is its own affair, and nobody need look.
pub(crate) fn note_not_held(failure: &StoreError) {
    let error = Chain(failure);
    match failure {
        StoreError::Full { .. } => info!(%error, "a client reads too little to have more held"),
        _ => warn!(%error, "cannot store what a client does not read"),
    }
}

/// What is stored of a stanza for `account`; `None` for what means nothing later.
fn text(account: &Jid, stanza: &Stanza, is_extra: bool) -> Option<String> {
    let is_worth_it = |stanza: &Stanza| {
        matches!(Sort::of(stanza), Sort::Chat | Sort::Normal) && is_worth_keeping(stanza)
    };
    let mut stanza = match is_extra {
        true => carbons::original(stanza).filter(is_worth_it)?,
        false => is_worth_it(stanza).then(|| stanza.clone())?,
    };
    stanza.set_to(Some(account.clone()));
    xml::storable(&stanza.to_element())
}
