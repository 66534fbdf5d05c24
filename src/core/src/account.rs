//! The live state of one account: its sessions, and the locks that keep its parts in order.
//!
//! Lock order, so that no two accounts can wait for each other: `turn` is taken first and only by
//! the account's own sessions; `roster` and `inbox` are held for work on this account alone, never
//! while anything is routed elsewhere; the `parking_lot` ones never across an `.await`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gatehouse_store::{AccountVersion, Store, StoreError};
use gatehouse_types::Jid;
use gatehouse_xmpp::Stanza;
use parking_lot::Mutex;

use crate::delivery::Reach;
use crate::outbox::Outbox;

/// An account that is or was used since the start.
#[derive(Debug)]
pub(crate) struct Account {
    /// Bare.
    pub(crate) jid: Jid,
    /// Held while one of the account's sessions changes presence, roster or blocking and the
    /// consequences are routed: others see the changes in the order in which they were made. Not
    /// held while the edge is waited for.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Held from reading a contact to writing it, and while the change is pushed.
    pub(crate) roster: tokio::sync::Mutex<()>,
    /// Held while a message is stored or stored messages are handed out, so that none is stored
    /// for a user who has just become available.
    pub(crate) inbox: tokio::sync::Mutex<Inbox>,
    sessions: Mutex<Vec<Arc<Session>>>,
    blocked: Mutex<BlockedCache>,
}

/// Which stored messages are on their way.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// To one session at a time: until it has them or ended.
    pub(crate) claim: Option<Claim>,
}

/// Stored messages that a session is being sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) session: u64,
    /// The last one.
    pub(crate) up_to: i64,
}

#[derive(Debug, Default)]
struct BlockedCache {
    /// Counts changes, so that a list read before a change is not kept after it.
    generation: u64,
    list: Option<Arc<[Jid]>>,
}

/// One bound client.
#[derive(Debug)]
pub(crate) struct Session {
    /// Unique in this process.
    pub(crate) id: u64,
    /// Full.
    pub(crate) jid: Jid,
    pub(crate) account: Arc<Account>,
    /// Of the account, when the client logged in.
    pub(crate) version: AccountVersion,
    pub(crate) outbox: Outbox,
    state: Mutex<SessionState>,
}

/// What a client has told about itself.
#[derive(Debug, Default)]
pub(crate) struct SessionState {
    /// The last presence without `to`, while available.
    pub(crate) presence: Option<Arc<Stanza>>,
    /// Its priority.
    pub(crate) priority: i8,
    /// It asked for the roster.
    pub(crate) interested: bool,
    /// It asked for the block list.
    pub(crate) wants_blocklist: bool,
    /// Who was sent directed presence.
    pub(crate) directed: HashSet<Jid>,
}

impl Session {
    pub(crate) fn new(
        id: u64,
        jid: Jid,
        account: Arc<Account>,
        version: AccountVersion,
        outbox: Outbox,
    ) -> Self {
        Self { id, jid, account, version, outbox, state: Mutex::default() }
    }

    /// Reads or changes the state; `look` must be short and must not lock anything else.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut SessionState) -> R) -> R {
        look(&mut self.state.lock())
    }

    /// The presence, while available.
    pub(crate) fn presence(&self) -> Option<Arc<Stanza>> {
        self.with(|state| state.presence.clone())
    }

    /// True if messages to the bare address may come here.
    pub(crate) fn is_willing(&self) -> bool {
        self.with(|state| state.presence.is_some() && state.priority >= 0)
    }
}

impl Account {
    fn new(jid: Jid) -> Self {
        Self {
            jid,
            turn: tokio::sync::Mutex::default(),
            roster: tokio::sync::Mutex::default(),
            inbox: tokio::sync::Mutex::default(),
            sessions: Mutex::default(),
            blocked: Mutex::default(),
        }
    }

    /// All live sessions.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().iter().filter(|session| !session.outbox.is_gone()).cloned().collect()
    }

    /// The live sessions that `wanted` holds for.
    pub(crate) fn sessions_where(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions();
        sessions.retain(|session| wanted(session));
        sessions
    }

    /// The session at that full address.
    pub(crate) fn session_at(&self, full: &Jid) -> Option<Arc<Session>> {
        self.sessions().into_iter().find(|session| session.jid == *full)
    }

    /// True while anybody is connected.
    pub(crate) fn is_connected(&self) -> bool {
        !self.sessions.lock().is_empty()
    }

    /// Whom a stanza to `to` can reach.
    pub(crate) fn reach(&self, to: &Jid) -> Reach {
        let sessions = self.sessions();
        Reach {
            full: !to.is_bare(),
            resource: sessions.iter().any(|session| session.jid == *to),
            willing: sessions.iter().any(|session| session.is_willing()),
            available: sessions.iter().any(|session| session.presence().is_some()),
        }
    }

    /// Adds a session unless `sessions_max` others are there. Gives back the older session with the
    /// same address, which is no longer listed.
    pub(crate) fn add(
        &self,
        session: &Arc<Session>,
        sessions_max: usize,
    ) -> Result<Option<Arc<Session>>, TooManySessions> {
        let mut sessions = self.sessions.lock();
        // A task that panicked could not take its session out.
        sessions.retain(|other| !other.outbox.is_closed());
        let older = sessions.iter().position(|other| other.jid == session.jid);
        if older.is_none() && sessions.len() >= sessions_max {
            return Err(TooManySessions);
        }
        let older = older.map(|index| sessions.swap_remove(index));
        sessions.push(Arc::clone(session));
        Ok(older)
    }

    /// Takes a session out. False if somebody did so before: whoever takes it out tells the world
    /// that it is gone.
    pub(crate) fn take_out(&self, id: u64) -> bool {
        let mut sessions = self.sessions.lock();
        let before = sessions.len();
        sessions.retain(|session| session.id != id);
        let taken = sessions.len() < before;
        if sessions.is_empty() {
            // Another process may remove the account while nobody is connected.
            self.blocked.lock().list = None;
        }
        taken
    }

    /// The block list.
    pub(crate) async fn blocked(&self, store: &Store) -> Result<Arc<[Jid]>, StoreError> {
        let generation = {
            let cache = self.blocked.lock();
            if let Some(list) = &cache.list {
                return Ok(Arc::clone(list));
            }
            cache.generation
        };
        let list: Arc<[Jid]> = store.blocked(&self.jid).await?.into();
        let connected = self.is_connected();
        let mut cache = self.blocked.lock();
        if connected && cache.generation == generation {
            cache.list = Some(Arc::clone(&list));
        }
        Ok(list)
    }

    /// The block list has been changed in the store.
    pub(crate) fn blocked_changed(&self) {
        let mut cache = self.blocked.lock();
        cache.generation += 1;
        cache.list = None;
    }
}

/// The account has as many sessions as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooManySessions;

/// All accounts that were used since the start; at most as many as the store has.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<HashMap<Jid, Arc<Account>>>);

impl Accounts {
    /// The live state of an account that exists.
    pub(crate) fn get(&self, bare: &Jid) -> Arc<Account> {
        let mut accounts = self.0.lock();
        if let Some(account) = accounts.get(bare) {
            return Arc::clone(account);
        }
        let account = Arc::new(Account::new(bare.clone()));
        accounts.insert(bare.clone(), Arc::clone(&account));
        account
    }

    /// All accounts that somebody is connected to.
    pub(crate) fn all_connected(&self) -> Vec<Arc<Account>> {
        self.0.lock().values().filter(|account| account.is_connected()).cloned().collect()
    }

    /// The live state of an account that somebody is connected to.
    pub(crate) fn connected(&self, bare: &Jid) -> Option<Arc<Account>> {
        self.0.lock().get(bare).filter(|account| account.is_connected()).cloned()
    }
}
