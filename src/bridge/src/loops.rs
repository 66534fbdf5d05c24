//! Requests of ours that come back to us.

use std::hash::{DefaultHasher, Hash, Hasher};

use gatehouse_sip::Seed;

/// Makes Call-IDs that look random and that only we know again: the second half follows from the first
/// and a key. Who guesses one gains nothing but a 482 of its own.
#[derive(Debug)]
pub(crate) struct OwnCalls {
    key: [u8; 32],
}

impl OwnCalls {
    pub(crate) fn new(seed: &mut Seed) -> Self {
        Self { key: seed.next_bytes() }
    }

    pub(crate) fn next(&self, seed: &mut Seed) -> String {
        let name = seed.next_hex();
        let mark = self.mark(&name);
        format!("{name}{mark}")
    }

    pub(crate) fn is_own(&self, call_id: &str) -> bool {
        let at = call_id.len().checked_sub(MARK_LEN);
        let halves = at.and_then(|at| call_id.split_at_checked(at));
        halves.is_some_and(|(name, mark)| !name.is_empty() && self.mark(name) == mark)
    }

    fn mark(&self, name: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (self.key, name).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Hexadecimal digits of a mark.
const MARK_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_are_known_again_and_no_others() {
        let mut seed = Seed::new([7; 32]);
        let (ours, others) = (OwnCalls::new(&mut seed), OwnCalls::new(&mut seed));
        let call_id = ours.next(&mut seed);
        assert!(ours.is_own(&call_id) && !others.is_own(&call_id));
        let mut changed = call_id.clone();
        changed.replace_range(..1, if call_id.starts_with('0') { "1" } else { "0" });
        let (name, mark) = call_id.split_at(call_id.len() - MARK_LEN);
        for other in
            ["", "x", mark, name, &changed, "caf\u{e9}aaaaaaaaaaaaaaa", &others.next(&mut seed)]
        {
            assert!(!ours.is_own(other), "{other}");
        }
    }
}
