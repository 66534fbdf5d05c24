//! What a client that comes back too late is still told: how much of what it sent was handled
//! (XEP-0198, section 5).

use std::collections::VecDeque;

use gatehouse_store::AccountVersion;
use parking_lot::Mutex;

/// Sessions of one account that are remembered; the oldest makes room.
const ENDED_MAX: usize = 4;

/// The last sessions of an account that ended while their clients were away.
#[derive(Debug, Default)]
pub(crate) struct Ended(Mutex<VecDeque<(AccountVersion, String, u32)>>);

impl Ended {
    pub(crate) fn remember(&self, version: AccountVersion, name: String, handled: u32) {
        let mut ended = self.0.lock();
        if ended.len() >= ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back((version, name, handled));
    }

    /// How much of the session of that name was handled, for who logged in as its client did.
    pub(crate) fn handled(&self, version: AccountVersion, name: &str) -> Option<u32> {
        let ended = self.0.lock();
        let found = ended.iter().find(|it| it.0 == version && it.1 == name);
        found.map(|(.., handled)| *handled)
    }
}
