//! The live state of one account: its sessions, and the locks that keep its parts in order.
//!
//! Lock order, so that no two accounts can wait for each other: `turn` is taken first and only by
//! the account's own sessions; `roster` and `inbox` are held for work on this account alone, never
//! while anything is routed elsewhere; the `parking_lot` ones never across an `.await`.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatehouse_store::{AccountVersion, Store, StoreError};
use gatehouse_types::Jid;
use gatehouse_xmpp::Stanza;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time;
use tracing::debug;

use crate::away::AwayPlaces;
use crate::carbons::Copied;
use crate::delivery::Reach;
use crate::ended::Ended;
use crate::outbox::Outbox;
use crate::pep::Personal;
use crate::watchers::Watchers;

/// How long a session that is over may hold up what is to be stored: longer than its farewell takes.
const SETTLE_MAX: Duration = Duration::from_secs(3);

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
    /// Sessions whose address a newer one has taken, until what they left is taken care of.
    replaced: Mutex<Vec<Arc<Session>>>,
    /// Rings when what a session left was taken care of.
    settled: Notify,
    blocked: Mutex<BlockedCache>,
    /// Sessions whose clients did not come back.
    pub(crate) ended: Ended,
    pub(crate) copied: Copied,
    pub(crate) watchers: Watchers,
    pub(crate) personal: Personal,
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
    /// It has its address: nothing of an older session is on its way there any more.
    ready: AtomicBool,
    /// It is over, and what it left was taken care of.
    settled: AtomicBool,
    /// Its client is away and may come back.
    away: AtomicBool,
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
    /// It gets copies of what the account's other clients send and receive (XEP-0280).
    pub(crate) carbons: bool,
    /// What a client that comes back calls it (XEP-0198).
    pub(crate) name: Option<String>,
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
        let [ready, settled, away] = [(); 3].map(|()| AtomicBool::new(false));
        Self { id, jid, account, version, outbox, ready, settled, away, state: Mutex::default() }
    }

    /// Reads or changes the state; `look` must be short and must not lock anything else.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut SessionState) -> R) -> R {
        look(&mut self.state.lock())
    }

    /// From now on it is reached.
    pub(crate) fn be_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// What it left was taken care of.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
        self.account.replaced.lock().retain(|session| session.id != self.id);
        self.account.settled.notify_waiters();
    }

    /// True if its client can come back to it by this name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.with(|state| state.name.as_deref() == Some(name))
    }

    /// Its client did not come back; `handled` of what that sent were handled.
    pub(crate) fn remember_end(&self, handled: u32) {
        if let Some(name) = self.with(|state| state.name.clone()) {
            self.account.ended.remember(self.version, name, handled);
        }
    }

    /// Whether its client is away and may come back.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    /// True while its client is away and may come back.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    fn is_live(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.outbox.is_gone()
    }

    /// True while it may still hold something that must go elsewhere.
    fn is_settling(&self) -> bool {
        // A task that panicked leaves its outbox without settling it.
        let is_over = self.settled.load(Ordering::Acquire) || self.outbox.is_left();
        self.outbox.is_gone() && !is_over && !self.outbox.is_done()
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
            replaced: Mutex::default(),
            settled: Notify::new(),
            blocked: Mutex::default(),
            ended: Ended::default(),
            copied: Copied::default(),
            watchers: Watchers::default(),
            personal: Personal::default(),
        }
    }

    /// All live sessions.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().iter().filter(|session| session.is_live()).cloned().collect()
    }

    /// The live sessions that `wanted` holds for.
    pub(crate) fn sessions_where(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions();
        sessions.retain(|session| wanted(session));
        sessions
    }

    /// The live sessions that get carbons and that `wanted` holds for.
    pub(crate) fn wanting_carbons(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let sessions = self.sessions.lock();
        // Most users have one client.
        if sessions.len() < 2 {
            return Vec::new();
        }
        let wants = |session: &&Arc<Session>| {
            session.is_live() && wanted(session) && session.with(|state| state.carbons)
        };
        sessions.iter().filter(wants).cloned().collect()
    }

    /// The oldest session whose client is away.
    pub(crate) fn longest_away(&self) -> Option<Arc<Session>> {
        self.sessions().into_iter().filter(|session| session.is_away()).min_by_key(|it| it.id)
    }

    /// The session at that full address.
    pub(crate) fn session_at(&self, full: &Jid) -> Option<Arc<Session>> {
        self.sessions().into_iter().find(|session| session.jid == *full)
    }

    /// True unless another session has taken the address of this one, or it was taken out.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.sessions.lock().iter().any(|session| session.id == id)
    }

    /// True while a session that is over has not yet given back what it left.
    pub(crate) fn is_settling(&self) -> bool {
        self.sessions.lock().iter().any(|session| session.is_settling())
            || self.replaced.lock().iter().any(|session| session.is_settling())
    }

    /// Waits until no session holds what must go elsewhere, but not for long: order is worth less
    /// than going on.
    pub(crate) async fn settled(&self) {
        let settled = async {
            loop {
                let mut news = pin!(self.settled.notified());
                news.as_mut().enable();
                if !self.is_settling() {
                    return;
                }
                news.await;
            }
        };
        if time::timeout(SETTLE_MAX, settled).await.is_err() {
            debug!(account = %self.jid, "a session that is over holds on to what it left");
        }
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
        if let Some(older) = &older {
            self.replaced.lock().push(Arc::clone(older));
        }
        sessions.push(Arc::clone(session));
        Ok(older)
    }

    /// Takes a session out. False if somebody did so before: whoever takes it out tells the world
    /// that it is gone.
    pub(crate) fn take_out(&self, id: u64) -> bool {
        let mut sessions = self.sessions.lock();
        let before = sessions.len();
        sessions.retain(|session| session.id != id);
        sessions.len() < before
    }

    /// Forgets what was read from the store, unless somebody is connected: another process may
    /// remove the account then.
    pub(crate) fn forget_unless_connected(&self) {
        let sessions = self.sessions.lock();
        if sessions.is_empty() {
            self.blocked.lock().list = None;
            self.watchers.forget();
        }
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
pub(crate) struct Accounts {
    all: Mutex<HashMap<Jid, Arc<Account>>>,
    /// For sessions whose clients are away.
    pub(crate) away: AwayPlaces,
}

impl Accounts {
    /// The live state of an account that exists.
    pub(crate) fn get(&self, bare: &Jid) -> Arc<Account> {
        let mut accounts = self.all.lock();
        if let Some(account) = accounts.get(bare) {
            return Arc::clone(account);
        }
        let account = Arc::new(Account::new(bare.clone()));
        accounts.insert(bare.clone(), Arc::clone(&account));
        account
    }

    /// All accounts that somebody is connected to.
    pub(crate) fn all_connected(&self) -> Vec<Arc<Account>> {
        self.all.lock().values().filter(|account| account.is_connected()).cloned().collect()
    }

    /// The live state of an account that was used since the start.
    pub(crate) fn known(&self, bare: &Jid) -> Option<Arc<Account>> {
        self.all.lock().get(bare).cloned()
    }

    /// The live state of an account that somebody is connected to.
    pub(crate) fn connected(&self, bare: &Jid) -> Option<Arc<Account>> {
        self.all.lock().get(bare).filter(|account| account.is_connected()).cloned()
    }
}
