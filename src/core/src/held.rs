//! Messages that the store answers for while a session tries to get them to its client: a core that is
//! killed meanwhile finds them there.
//!
//! Who was told that a message is safe must be right. A session has what it was sent in memory; so
//! what is not known to have arrived after a moment, and what waits for a client that is away, is
//! written to the store as well, and removed once a client has it or it is taken care of elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// How long the removal of an answered message waits for a commit that takes it along: a few milliseconds,
/// for what is answered and not removed is sent twice after a crash.
const RIDE_WITHIN: Duration = Duration::from_millis(5);

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
    /// Something is to be removed at once.
    news: Notify,
    /// A message to a SIP partner is to be removed, with the next commit if there is one soon.
    answered: Notify,
    /// Counts the beginnings and ends of [`Ride`]s: odd while there is one.
    rides: AtomicU64,
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

/// A commit that takes along what is to be removed of messages to SIP partners. There is one at a time.
pub(crate) struct Ride<'a> {
    taken: Taken<'a>,
    keys: Vec<i64>,
}

impl Ride<'_> {
    /// What it takes along.
    pub(crate) fn keys(&self) -> &[i64] {
        &self.keys
    }

    /// It is committed.
    pub(crate) fn arrived(mut self) {
        self.taken.ids.clear();
    }
}

impl Drop for Ride<'_> {
    fn drop(&mut self) {
        self.taken.done.rides.fetch_add(1, Ordering::AcqRel);
    }
}

impl Done {
    /// Takes along what is to be removed of messages to SIP partners.
    pub(crate) fn ride(&self) -> Ride<'_> {
        self.rides.fetch_add(1, Ordering::AcqRel);
        let is_outgoing = |entry: &mut (Table, i64)| entry.0 == Table::Outgoing;
        let ids: Vec<_> = self.ids.lock().extract_if(.., is_outgoing).collect();
        let keys = ids.iter().map(|(_, id)| *id).collect();
        Ride { taken: Taken { done: self, ids }, keys }
    }

    /// Waits until something is to be removed that no commit will take along.
    async fn is_due(&self) {
        tokio::select! {
            () = self.news.notified() => return,
            () = self.answered.notified() => {}
        }
        loop {
            let rides = self.rides.load(Ordering::Acquire);
            let hurried = time::timeout(RIDE_WITHIN, self.news.notified()).await.is_ok();
            let is_riding = rides % 2 == 1;
            if hurried || (!is_riding && self.rides.load(Ordering::Acquire) == rides) {
                return;
            }
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
            match self.table {
                Table::Sessions => self.done.news.notify_one(),
                Table::Outgoing => self.done.answered.notify_one(),
            }
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
                router.done.is_due().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn held(done: &Arc<Done>, table: Table, id: i64) {
        drop(Held { id: Some(id), table, done: Arc::clone(done) });
    }

    fn left(done: &Done) -> Vec<i64> {
        done.ids.lock().iter().map(|(_, id)| *id).collect()
    }

    /// How long it takes until something is due, at most a second.
    async fn due_after(done: &Done) -> Option<Duration> {
        let begun = time::Instant::now();
        let due = time::timeout(Duration::from_secs(1), done.is_due()).await;
        due.ok().map(|()| begun.elapsed())
    }

    #[test]
    fn what_a_commit_takes_along_is_gone_once_it_has_arrived_and_not_before() {
        let done = Arc::<Done>::default();
        held(&done, Table::Outgoing, 1);
        held(&done, Table::Sessions, 2);
        held(&done, Table::Outgoing, 3);
        let ride = done.ride();
        assert_eq!((ride.keys(), left(&done)), (&[1, 3][..], vec![2]));
        drop(ride);
        assert_eq!(left(&done), [2, 1, 3], "the commit failed");
        done.ride().arrived();
        assert_eq!(left(&done), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_waits_a_moment_for_a_commit() {
        let done = Arc::<Done>::default();
        assert_eq!(due_after(&done).await, None, "there is nothing");
        held(&done, Table::Outgoing, 1);
        let due = due_after(&done).await.unwrap();
        assert!((RIDE_WITHIN..2 * RIDE_WITHIN).contains(&due), "{due:?}");
        // What sessions held is removed at once, and the rest with it.
        held(&done, Table::Outgoing, 2);
        held(&done, Table::Sessions, 3);
        assert_eq!(due_after(&done).await, Some(Duration::ZERO));
        // Also what a commit could not take along.
        drop(done.ride());
        assert_eq!(due_after(&done).await, Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn while_commits_take_along_what_is_answered_nobody_else_removes_it() {
        let done = Arc::<Done>::default();
        let riding = async {
            for _ in 0..20 {
                // One takes longer than the next is waited for.
                let ride = done.ride();
                time::sleep(2 * RIDE_WITHIN).await;
                ride.arrived();
                held(&done, Table::Outgoing, 1);
                time::sleep(RIDE_WITHIN / 2).await;
            }
        };
        held(&done, Table::Outgoing, 1);
        let (due, ()) = tokio::join!(due_after(&done), riding);
        assert!(due.is_some_and(|due| due >= 50 * RIDE_WITHIN), "{due:?}");
    }
}
