use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use gatehouse_sip::{Message, Method};
use gatehouse_types::Domain;

/// Requests of one pair of domains that may be without an answer at a time. The edge has room for four
/// times as many, and to a partner that it spares, at nine a second, they are through in half of the 32
/// seconds that a transaction lives.
const UNDER_WAY_MAX: usize = 128;
/// Requests that may wait for all pairs together; as many as there may be transactions.
const WAITING_MAX: usize = 20_000;
/// And for one pair: it may be silent, and others are not.
const WAITING_OF_PAIR_MAX: usize = WAITING_MAX / 4;
/// How long a request that somebody waits for may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a NOTIFY may: nobody waits for it, and the next one says what is so by then.
const NOTIFY_PATIENCE: Duration = Duration::from_secs(300);

/// Which requests may be under way. What is too much at a time waits here, and not where it would be
/// refused: a user with thousands of watchers changes its presence in one step, and a partner that
/// answers slowly must fill no queue that others need.
///
/// Between two domains the order is kept, but for NOTIFY, which lets the others by: a message does
/// not wait for a thousand presences. They belong to different dialogs.
#[derive(Debug)]
pub(super) struct Windows<I> {
    pairs: HashMap<Pair, Window<I>>,
    /// Whose place a request holds.
    under_way: HashMap<I, Pair>,
    /// In whose queue a request waits.
    waiting: HashMap<I, Pair>,
    /// The same by their ends.
    ends: BTreeMap<End, I>,
    last_turn: u64,
    /// Pairs in which a place may be free.
    open: VecDeque<Pair>,
}

/// Our domain and the partner's.
type Pair = (Domain, Domain);

/// When a request has waited too long, and a number that no other has.
type End = (Instant, u64);

#[derive(Debug)]
struct Window<I> {
    under_way: usize,
    urgent: VecDeque<Waiting<I>>,
    notifies: VecDeque<Waiting<I>>,
    /// It stands in the list of those in which a place may be free.
    is_open: bool,
}

#[derive(Debug)]
struct Waiting<I> {
    id: I,
    request: Message,
    end: End,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Turn {
    /// It goes at once.
    Now(Box<Message>),
    /// Its turn comes with [`Windows::next`], or its end with [`Windows::expired`].
    Later,
    /// Too many wait.
    Never,
}

impl<I> Default for Windows<I> {
    fn default() -> Self {
        Self {
            pairs: HashMap::new(),
            under_way: HashMap::new(),
            waiting: HashMap::new(),
            ends: BTreeMap::new(),
            last_turn: 0,
            open: VecDeque::new(),
        }
    }
}

impl<I> Default for Window<I> {
    fn default() -> Self {
        let (urgent, notifies) = (VecDeque::new(), VecDeque::new());
        Self { under_way: 0, urgent, notifies, is_open: false }
    }
}

impl<I: Copy + Eq + Hash> Windows<I> {
    /// True if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A request of the gateway that goes to a partner.
    pub(super) fn enter(&mut self, id: I, request: Message, now: Instant) -> Turn {
        // What names no pair is refused at the edge.
        let Some(pair) = pair_of(&request) else { return Turn::Now(Box::new(request)) };
        let window = self.pairs.entry(pair.clone()).or_default();
        if window.under_way < UNDER_WAY_MAX && window.is_quiet() {
            window.under_way += 1;
            self.under_way.insert(id, pair);
            return Turn::Now(Box::new(request));
        }
        if self.waiting.len() >= WAITING_MAX || window.len() >= WAITING_OF_PAIR_MAX {
            return Turn::Never;
        }
        metrics::counter!("gatehouse_sip_requests_held_total").increment(1);
        let (queue, patience) = match request.method() {
            Some(Method::Notify) => (&mut window.notifies, NOTIFY_PATIENCE),
            _ => (&mut window.urgent, PATIENCE),
        };
        self.last_turn += 1;
        let end = (now + patience, self.last_turn);
        queue.push_back(Waiting { id, request, end });
        self.waiting.insert(id, pair);
        self.ends.insert(end, id);
        Turn::Later
    }

    /// A request was answered, or has failed, or its partner is at work on it: another may go.
    pub(super) fn leave(&mut self, id: I) {
        let Some(pair) = self.under_way.remove(&id) else { return };
        let Some(window) = self.pairs.get_mut(&pair) else { return };
        window.under_way = window.under_way.saturating_sub(1);
        if window.is_quiet() {
            if window.under_way == 0 {
                self.pairs.remove(&pair);
            }
        } else if !window.is_open {
            window.is_open = true;
            self.open.push_back(pair);
        }
    }

    /// The next one whose turn it is.
    pub(super) fn next(&mut self) -> Option<(I, Message)> {
        loop {
            let pair = self.open.pop_front()?;
            let Some(window) = self.pairs.get_mut(&pair) else { continue };
            window.is_open = false;
            if window.under_way >= UNDER_WAY_MAX {
                continue;
            }
            let Some(Waiting { id, request, end }) = window.pop() else {
                if window.under_way == 0 {
                    self.pairs.remove(&pair);
                }
                continue;
            };
            self.waiting.remove(&id);
            self.ends.remove(&end);
            window.under_way += 1;
            if window.under_way < UNDER_WAY_MAX && !window.is_quiet() {
                // The others first.
                window.is_open = true;
                self.open.push_back(pair.clone());
            }
            self.under_way.insert(id, pair);
            return Some((id, request));
        }
    }

    /// One that has waited too long.
    pub(super) fn expired(&mut self, now: Instant) -> Option<I> {
        let (_, &id) = self.ends.first_key_value().filter(|((end, _), _)| *end <= now)?;
        self.withdraw(id).then_some(id)
    }

    /// When [`expired`](Self::expired) has something to say.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|((end, _), _)| *end)
    }

    /// Gives a request up that waits; false if it does not.
    pub(super) fn withdraw(&mut self, id: I) -> bool {
        let Some(pair) = self.waiting.remove(&id) else { return false };
        let waiting = self.pairs.get_mut(&pair).and_then(|window| window.take(id));
        let Some(waiting) = waiting else { return false };
        self.ends.remove(&waiting.end);
        true
    }
}

impl<I> Window<I> {
    fn is_quiet(&self) -> bool {
        self.urgent.is_empty() && self.notifies.is_empty()
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.notifies.len()
    }

    /// Takes one out of the middle; who has waited too long stands at the front.
    fn take(&mut self, id: I) -> Option<Waiting<I>>
    where
        I: Eq,
    {
        [&mut self.urgent, &mut self.notifies].into_iter().find_map(|queue| {
            let at = queue.iter().position(|waiting| waiting.id == id)?;
            queue.remove(at)
        })
    }

    fn pop(&mut self) -> Option<Waiting<I>> {
        self.urgent.pop_front().or_else(|| self.notifies.pop_front())
    }
}

fn pair_of(request: &Message) -> Option<Pair> {
    let (from, to) = (request.from().ok()?, request.to().ok()?);
    Some((from.uri.domain()?, to.uri.domain()?))
}

#[cfg(test)]
mod tests {
    use gatehouse_sip::{HeaderName, Uri};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
    fn start() -> (Windows<u64>, Instant) {
        (Windows::default(), Instant::now())
    }

    fn request(method: Method, remote: &str) -> Message {
        let mut request =
            Message::request(method, Uri::parse(&format!("sip:bob@{remote}")).unwrap());
        request.headers.push(HeaderName::From, "<sip:alice@ours.example>;tag=1").unwrap();
        request.headers.push(HeaderName::To, format!("<sip:bob@{remote}>")).unwrap();
        request
    }

    fn is_now(
        windows: &mut Windows<u64>,
        id: u64,
        method: Method,
        remote: &str,
        now: Instant,
    ) -> bool {
        matches!(windows.enter(id, request(method, remote), now), Turn::Now(_))
    }

    #[test]
    fn one_partner_has_so_many_under_way_and_takes_nothing_from_another() {
        let (mut windows, now) = start();
        let mut went = 0;
        for id in 0..5000 {
            went += usize::from(is_now(&mut windows, id, Method::Notify, "them.example", now));
        }
        assert_eq!(went, UNDER_WAY_MAX);
        assert!(is_now(&mut windows, 6000, Method::Invite, "other.example", now));
        assert!(windows.next().is_none());
        // Each answer lets one more go, in order.
        for id in 0..(5000 - UNDER_WAY_MAX as u64) {
            windows.leave(id);
            windows.leave(id);
            let (next, _) = windows.next().unwrap();
            assert_eq!(next, id + UNDER_WAY_MAX as u64);
            assert!(windows.next().is_none());
        }
        assert_eq!((windows.is_empty(), windows.poll_timeout()), (true, None));
        for id in 0..=6000 {
            windows.leave(id);
        }
        assert!(windows.pairs.is_empty() && windows.under_way.is_empty());
    }

    #[test]
    fn a_message_does_not_wait_for_presences_and_a_few_places_are_shared() {
        let (mut windows, now) = start();
        for id in 0..600 {
            is_now(&mut windows, id, Method::Notify, "them.example", now);
            is_now(&mut windows, 1000 + id, Method::Notify, "other.example", now);
        }
        assert!(!is_now(&mut windows, 2000, Method::Invite, "them.example", now));
        assert!(!is_now(&mut windows, 2001, Method::Bye, "them.example", now));
        for id in [0, 1, 2, 1000, 1001, 1002] {
            windows.leave(id);
        }
        let next = std::iter::from_fn(|| windows.next()).map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(next, [2000, 1128, 2001, 1129, 128, 1130]);
    }

    #[test]
    fn who_waits_too_long_is_told_and_who_gives_up_is_gone() {
        let (mut windows, now) = start();
        for id in 0..(UNDER_WAY_MAX as u64) {
            is_now(&mut windows, id, Method::Message, "silent.example", now);
        }
        is_now(&mut windows, 1000, Method::Notify, "silent.example", now);
        is_now(&mut windows, 1001, Method::Invite, "silent.example", now);
        is_now(&mut windows, 1002, Method::Invite, "silent.example", now);
        assert!(windows.withdraw(1001) && !windows.withdraw(1001));
        assert_eq!(windows.poll_timeout(), Some(now + PATIENCE));
        assert_eq!(windows.expired(now + PATIENCE - Duration::from_millis(1)), None);
        assert_eq!(windows.expired(now + PATIENCE), Some(1002));
        assert_eq!(windows.expired(now + PATIENCE), None);
        assert_eq!(windows.expired(now + NOTIFY_PATIENCE), Some(1000));
        assert_eq!(windows.poll_timeout(), None);
    }

    #[test]
    fn no_more_wait_than_fit_and_one_pair_takes_a_quarter() {
        let (mut windows, now) = start();
        let mut id = 0;
        let mut fill = |windows: &mut Windows<u64>, remote: &str| {
            let mut taken = 0;
            loop {
                id += 1;
                match windows.enter(id, request(Method::Notify, remote), now) {
                    Turn::Never => return taken,
                    Turn::Now(_) | Turn::Later => taken += 1,
                }
            }
        };
        for remote in ["a.example", "b.example", "c.example", "d.example"] {
            assert_eq!(fill(&mut windows, remote), UNDER_WAY_MAX + WAITING_OF_PAIR_MAX, "{remote}");
        }
        assert_eq!(fill(&mut windows, "e.example"), UNDER_WAY_MAX);
        // What ends is out of all lists.
        let (mut went, mut over) = (0, 0);
        for id in 0..1000 {
            windows.leave(id);
        }
        while windows.next().is_some() {
            went += 1;
        }
        while windows.expired(now + NOTIFY_PATIENCE).is_some() {
            over += 1;
        }
        assert_eq!(went + over, WAITING_MAX);
        assert!(windows.is_empty() && windows.ends.is_empty());
    }
}
