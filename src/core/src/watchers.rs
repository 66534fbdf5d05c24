//! Who sees a user's presence, kept while the user is connected: it is asked for at each change of
//! presence, and needed once more if the account is removed by another process.

use std::sync::Arc;

use gatehouse_store::{Contact, Store, StoreError};
use gatehouse_types::Jid;
use parking_lot::Mutex;

use crate::account::Account;
use crate::presence::is_watcher;

/// Bare addresses of watchers.
pub(crate) type WatcherList = Arc<[Jid]>;

/// The watchers of one account, as far as they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Cache>);

#[derive(Debug, Default)]
struct Cache {
    /// Counts changes, so that a list read before a change is not kept after it.
    generation: u64,
    list: Option<WatcherList>,
}

impl Watchers {
    /// A roster has been changed in the store.
    pub(crate) fn changed(&self) {
        let mut cache = self.0.lock();
        cache.generation += 1;
        cache.list = None;
    }

    /// Nobody of the account is here any more.
    pub(crate) fn forget(&self) {
        self.0.lock().list = None;
    }

    /// Before contacts are read.
    pub(crate) fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    /// `contacts` were read when `generation` was current.
    pub(crate) fn learn(&self, generation: u64, contacts: &[Contact]) -> WatcherList {
        let list: WatcherList =
            contacts.iter().filter(|one| is_watcher(one)).map(|one| one.jid.clone()).collect();
        let mut cache = self.0.lock();
        if cache.generation == generation {
            cache.list = Some(Arc::clone(&list));
        }
        list
    }

    fn known(&self) -> Option<WatcherList> {
        self.0.lock().list.clone()
    }
}

impl Account {
    /// Who sees the account's presence.
    pub(crate) async fn watchers(&self, store: &Store) -> Result<WatcherList, StoreError> {
        if let Some(known) = self.watchers.known() {
            return Ok(known);
        }
        let generation = self.watchers.generation();
        // Another process may remove the account, and another user get its name, while nobody of it
        // is here to be told: then nothing is kept.
        let connected = self.is_connected();
        let contacts = store.contacts(&self.jid).await?;
        let list = self.watchers.learn(generation, &contacts.contacts);
        if !connected {
            self.watchers.forget();
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_store::Subscription;

    use super::*;

    fn contact(name: &str, subscription: Subscription) -> Contact {
        Contact {
            jid: name.parse().unwrap(),
            in_roster: true,
            name: None,
            subscription,
            pending_out: false,
            pending_in: None,
            approved: false,
            groups: Vec::new(),
        }
    }

    #[test]
    fn a_list_read_before_a_change_is_not_kept() {
        let watchers = Watchers::default();
        let contacts =
            [contact("a@b.example", Subscription::From), contact("c@b.example", Subscription::To)];
        let before = watchers.generation();
        watchers.changed();
        assert_eq!(watchers.learn(before, &contacts).len(), 1);
        assert!(watchers.known().is_none());
        watchers.learn(watchers.generation(), &contacts);
        assert_eq!(watchers.known().unwrap()[0], contacts[0].jid);
        watchers.changed();
        assert!(watchers.known().is_none());
    }
}
