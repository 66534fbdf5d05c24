//! Messages that came lately over the trunk, so that one is known that comes again because an edge was
//! lost.
//!
//! What an edge had passed on and not yet acknowledged to the partner when it died is sent again by a
//! partner that counts (XEP-0198), through another edge or the same one anew. Nothing on the trunk
//! tells the two apart: the edge that knew is gone. Their author, addressee, id and text do.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use gatehouse_xmpp::{Stanza, StanzaKind};

/// How long before an edge was lost a message may have come that comes again after it: partners ask
/// often, and a receipt is held for two seconds at most.
const BEFORE_MAX: Duration = Duration::from_secs(10);
/// How long what came over an edge may have waited here when we noticed that it was lost.
const WAITED_MAX: Duration = Duration::from_secs(30);
/// How long a partner may take to come again.
const AFTER_MAX: Duration = Duration::from_secs(120);
/// Messages that are remembered.
const LEN_MAX: usize = 8192;

/// The latest messages, and over which session of the trunk they came.
///
/// Of each only two keyed hashes are kept. To keep the messages themselves would push everything else
/// out of the processor's caches.
#[derive(Debug)]
pub(crate) struct Recent {
    hasher: RandomState,
    /// Oldest first.
    came: VecDeque<Came>,
    /// The number of the latest with this key; the first of `came` has the number `gone`.
    latest: HashMap<u64, u64>,
    gone: u64,
    len_max: usize,
}

#[derive(Debug)]
struct Came {
    at: Instant,
    session: Option<u64>,
    /// Of author, addressee, id and type.
    key: u64,
    /// Of what the message says. Who sends again may add when it was sent first (XEP-0203), so only
    /// its bodies count.
    text: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self::bounded(LEN_MAX)
    }
}

impl Recent {
    fn bounded(len_max: usize) -> Self {
        let (hasher, came, latest) = Default::default();
        Self { hasher, came, latest, gone: 0, len_max }
    }

    /// True if this very message came before, over another session of the trunk, and an edge was lost
    /// (`lost_at`) at about that time. Over the same session an author who says the same again is heard.
    pub(crate) fn comes_again(
        &mut self,
        stanza: &Stanza,
        session: Option<u64>,
        now: Instant,
        lost_at: impl FnOnce() -> Option<Instant>,
    ) -> bool {
        let Some(key) = self.key(stanza) else { return false };
        let text = self.text(stanza);
        let again = self.find(key).is_some_and(|before| {
            before.session != session
                && before.text == text
                && lost_at().is_some_and(|lost_at| {
                    lost_at.saturating_duration_since(before.at) <= BEFORE_MAX
                        && before.at.saturating_duration_since(lost_at) <= WAITED_MAX
                        && now.saturating_duration_since(lost_at) <= AFTER_MAX
                })
        });
        self.note(Came { at: now, session, key, text });
        again
    }

    fn key(&self, stanza: &Stanza) -> Option<u64> {
        if stanza.kind() != StanzaKind::Message || stanza.type_() == Some("error") {
            return None;
        }
        let id = stanza.id()?;
        Some(self.hasher.hash_one((stanza.from(), stanza.to(), id, stanza.type_())))
    }

    fn text(&self, stanza: &Stanza) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        stanza.hash_bodies(&mut hasher);
        hasher.finish()
    }

    fn find(&self, key: u64) -> Option<&Came> {
        let place = self.latest.get(&key)?.checked_sub(self.gone)?;
        self.came.get(usize::try_from(place).ok()?)
    }

    fn note(&mut self, came: Came) {
        self.latest.insert(came.key, self.gone + self.came.len() as u64);
        self.came.push_back(came);
        while self.came.len() > self.len_max {
            let Some(oldest) = self.came.pop_front() else { return };
            if self.latest.get(&oldest.key) == Some(&self.gone) {
                self.latest.remove(&oldest.key);
            }
            self.gone += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn message(id: &str, text: &str) -> Stanza {
        let from = "juliet@them.example/balcony";
        let text = format!(
            "<message xmlns='jabber:client' from='{from}' to='romeo@ours.example' type='chat' \
             id='{id}'><body>{text}</body></message>"
        );
        Stanza::from_element(text.parse().unwrap()).unwrap()
    }

    /// Whether `second` is known after `first` as the same that came over another session, with what
    /// was lost in between.
    fn again(first: &Stanza, second: &Stanza, lost: Option<Duration>, later: Duration) -> bool {
        let (mut recent, begin) = (Recent::default(), gatehouse_net::now());
        let lost_at = lost.map(|lost| begin + lost);
        assert!(!recent.comes_again(first, Some(1), begin, || lost_at));
        recent.comes_again(second, Some(2), begin + later, || lost_at)
    }

    #[test]
    fn what_comes_again_after_a_loss_is_known() {
        let first = message("a", "Romeo?");
        let mut delayed = first.clone();
        delayed.payload_mut().append_child(
            "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>".parse().unwrap(),
        );
        for second in [&first, &delayed] {
            assert!(again(&first, second, Some(SECOND), 2 * SECOND));
        }

        // The first waited here while the edge that brought it was lost.
        let (mut recent, lost_at) = (Recent::default(), gatehouse_net::now());
        assert!(!recent.comes_again(&first, Some(1), lost_at + SECOND, || Some(lost_at)));
        assert!(recent.comes_again(&first, Some(2), lost_at + 2 * SECOND, || Some(lost_at)));
    }

    #[test]
    fn who_says_the_same_again_is_heard() {
        let first = message("a", "Romeo?");
        // Nothing was lost, or not at that time, or long ago.
        assert!(!again(&first, &first, None, SECOND));
        assert!(!again(&first, &first, Some(11 * SECOND), 12 * SECOND));
        assert!(!again(&first, &first, Some(SECOND), 200 * SECOND));
        // Another text under the same id, another id with the same text.
        assert!(!again(&first, &message("a", "Romeo!"), Some(SECOND), 2 * SECOND));
        assert!(!again(&first, &message("b", "Romeo?"), Some(SECOND), 2 * SECOND));

        // Over the same session it is meant, whatever was lost; the second time over another one, too.
        let (mut recent, begin) = (Recent::default(), gatehouse_net::now());
        let mut comes = |session, seconds: u32| {
            let lost_at = Some(begin + SECOND);
            recent.comes_again(&first, Some(session), begin + seconds * SECOND, || lost_at)
        };
        assert_eq!(
            [comes(1, 0), comes(1, 2), comes(2, 3), comes(2, 4)],
            [false, false, true, false]
        );
    }

    #[test]
    fn what_has_no_id_is_not_remembered() {
        let text = "<message xmlns='jabber:client' from='a@them.example' to='b@ours.example'/>";
        let bare = Stanza::from_element(text.parse().unwrap()).unwrap();
        assert!(!again(&bare, &bare, Some(SECOND), 2 * SECOND));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut recent, begin) = (Recent::bounded(50), gatehouse_net::now());
        let mut comes = |id: u32, session| {
            let lost_at = Some(begin);
            let message = message(&id.to_string(), "x");
            let again = recent.comes_again(&message, Some(session), begin, || lost_at);
            assert!(recent.came.len() <= 50);
            assert!(recent.latest.len() <= recent.came.len());
            again
        };
        for number in 0..200 {
            assert!(!comes(number, 1));
        }
        // The oldest are forgotten, the newest are not.
        assert!(!comes(100, 2) && comes(199, 2));
        // One that came again has taken the place of the first.
        let mut recent = Recent::bounded(50);
        let first = message("a", "x");
        for session in 1..9 {
            let again = recent.comes_again(&first, Some(session), begin, || Some(begin));
            assert_eq!(again, session > 1);
        }
        assert_eq!(recent.latest.len(), 1);
    }
}
