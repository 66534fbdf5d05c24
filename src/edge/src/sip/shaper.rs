//! Sends to a partner no faster than it takes from strangers.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use gatehouse_types::Domain;

/// What waits leaves within so many seconds: half of what a transaction of the core lives, so that
/// the answer still finds it.
const DELAY_MAX_SECS: u32 = 16;
/// And no later than this, whatever goes before it: it is given back. A little more, for what the pace
/// owes and is rounded to.
const EXPIRED_AFTER: Duration = Duration::from_secs(DELAY_MAX_SECS as u64 + 4);
/// Partners that are remembered; none is forgotten while it owes or waits.
const PARTNERS_SWEPT_AT: usize = 1024;

/// Requests that wait for their turn with partners that are to be spared. Time is passed in.
///
/// A bucket for each partner holds as many requests as it may get in a second, and one at least, so
/// that it gets less than twice that in any second. Of what the policy says each edge takes its part. What must not wait (ACK, CANCEL) is taken from the bucket all the
/// same: the partner counts it, too.
#[derive(Debug)]
pub(crate) struct Shaper<T> {
    /// How many edges send to the same partners: they know nothing of each other.
    edges: NonZeroU32,
    partners: HashMap<Domain, Partner<T>>,
    swept_at: usize,
}

#[derive(Debug)]
struct Partner<T> {
    /// From this edge.
    per_second: f64,
    tokens: f64,
    filled_at: Instant,
    /// In the order in which they came, with the time.
    urgent: VecDeque<(Instant, T)>,
    /// The same of those that let the others by.
    patient: VecDeque<(Instant, T)>,
    /// Since when something has waited without a pause.
    busy_since: Option<Instant>,
}

/// Whether somebody waits for what a request brings about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Haste {
    /// It goes before all that are patient.
    Urgent,
    /// A NOTIFY: nobody waits for it, and it belongs to no dialog of the others.
    Patient,
}

/// What becomes of a request.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Offered<T> {
    /// It goes at once.
    Now(T),
    /// It goes when [`Shaper::poll`] gives it.
    Later,
    /// So many wait that it would be too late; there may be room again after this.
    Over(T, Duration),
}

/// A partner that gets its requests slowly at the moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slowed {
    pub(crate) partner: Domain,
    pub(crate) per_second: f64,
    pub(crate) waiting: usize,
    pub(crate) since: Instant,
}

/// A partner that has a pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Known<'a> {
    pub(crate) partner: &'a Domain,
    pub(crate) per_second: f64,
    pub(crate) waiting: usize,
    /// Since when something has waited without a pause.
    pub(crate) since: Option<Instant>,
}

impl<T> Shaper<T> {
    /// For one of so many edges.
    pub(crate) fn new(edges: NonZeroU32) -> Self {
        Self { edges, partners: HashMap::new(), swept_at: PARTNERS_SWEPT_AT }
    }

    /// A request for `partner`, which takes `per_second` from all edges together.
    pub(crate) fn offer(
        &mut self,
        partner: &Domain,
        per_second: NonZeroU32,
        haste: Haste,
        item: T,
        now: Instant,
    ) -> Offered<T> {
        let len_max = per_second.get().saturating_mul(DELAY_MAX_SECS).div_ceil(self.edges.get());
        let known = self.partner(partner, per_second, now);
        let before = match haste {
            Haste::Urgent => known.urgent.len(),
            Haste::Patient => known.urgent.len() + known.patient.len(),
        };
        if before == 0 && known.tokens >= 1.0 {
            known.tokens -= 1.0;
            return Offered::Now(item);
        }
        let queue = match haste {
            Haste::Urgent => &mut known.urgent,
            Haste::Patient => &mut known.patient,
        };
        if queue.len() >= usize::try_from(len_max).unwrap_or(usize::MAX) {
            return Offered::Over(item, Duration::from_secs(u64::from(DELAY_MAX_SECS)));
        }
        queue.push_back((now, item));
        known.busy_since.get_or_insert(now);
        Offered::Later
    }

    /// Something went to `partner` that must not wait.
    pub(crate) fn passed(&mut self, partner: &Domain, per_second: NonZeroU32, now: Instant) {
        let known = self.partner(partner, per_second, now);
        // What was let by is paid for later, up to a second's worth.
        known.tokens = (known.tokens - 1.0).max(-known.bucket());
    }

    /// One whose turn has come.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<T> {
        for partner in self.partners.values_mut().filter(|partner| partner.waiting() > 0) {
            partner.fill(now);
            if partner.tokens < 1.0 {
                continue;
            }
            let next = partner.urgent.pop_front().or_else(|| partner.patient.pop_front());
            partner.tokens -= 1.0;
            partner.note_quiet();
            return next.map(|(_, item)| item);
        }
        None
    }

    /// One that has waited too long: what is patient may never have its turn.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<T> {
        let is_over = |(since, _): &mut (Instant, T)| *since + EXPIRED_AFTER <= now;
        for partner in self.partners.values_mut() {
            let urgent = partner.urgent.pop_front_if(is_over);
            if let Some((_, item)) = urgent.or_else(|| partner.patient.pop_front_if(is_over)) {
                partner.note_quiet();
                return Some(item);
            }
        }
        None
    }

    /// When [`poll`](Self::poll) or [`expired`](Self::expired) has something to give.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.partners.values().filter(|partner| partner.waiting() > 0);
        waiting.map(|partner| partner.next_at().min(partner.expires_at())).min()
    }

    /// Partners that something waits for.
    pub(crate) fn slowed(&self) -> impl Iterator<Item = Slowed> {
        self.partners.iter().filter_map(|(domain, partner)| {
            Some(Slowed {
                partner: domain.clone(),
                per_second: partner.per_second,
                waiting: partner.waiting(),
                since: partner.busy_since?,
            })
        })
    }

    /// Partners that were sent something lately, as they stand now.
    pub(crate) fn known(&self) -> impl Iterator<Item = Known<'_>> {
        self.partners.iter().map(|(domain, partner)| Known {
            partner: domain,
            per_second: partner.per_second,
            waiting: partner.waiting(),
            since: partner.busy_since,
        })
    }

    /// All that waits, for whom nothing more will be sent.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        let partners = std::mem::take(&mut self.partners);
        let all = |partner: Partner<T>| partner.urgent.into_iter().chain(partner.patient);
        partners.into_values().flat_map(all).map(|(_, item)| item)
    }

    fn partner(&mut self, domain: &Domain, rate: NonZeroU32, now: Instant) -> &mut Partner<T> {
        if self.partners.len() >= self.swept_at {
            self.partners.retain(|_, partner| {
                partner.fill(now);
                partner.waiting() > 0 || partner.tokens < partner.bucket()
            });
            self.swept_at = PARTNERS_SWEPT_AT.max(2 * self.partners.len());
        }
        let per_second = f64::from(rate.get()) / f64::from(self.edges.get());
        let partner =
            self.partners.entry(domain.clone()).or_insert_with(|| Partner::new(per_second, now));
        partner.fill(now);
        // The policy may say something else by now.
        partner.per_second = per_second;
        partner
    }
}

impl<T> Partner<T> {
    fn new(per_second: f64, now: Instant) -> Self {
        let (urgent, patient) = (VecDeque::new(), VecDeque::new());
        let (tokens, filled_at) = (per_second.max(1.0), now);
        Self { per_second, tokens, filled_at, urgent, patient, busy_since: None }
    }

    /// How much it may get at once.
    fn bucket(&self) -> f64 {
        self.per_second.max(1.0)
    }

    fn waiting(&self) -> usize {
        self.urgent.len() + self.patient.len()
    }

    fn note_quiet(&mut self) {
        if self.waiting() == 0 {
            self.busy_since = None;
        }
    }

    /// When one of those that wait has waited too long. Something waits.
    fn expires_at(&self) -> Instant {
        let first = [self.urgent.front(), self.patient.front()].into_iter().flatten();
        first.map(|(since, _)| *since).min().unwrap_or(self.filled_at) + EXPIRED_AFTER
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.bucket());
        self.filled_at = now;
    }

    fn next_at(&self) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0) / self.per_second;
        // Rounded up, so that the token is whole by then.
        self.filled_at + Duration::from_secs_f64(missing) + Duration::from_micros(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
    fn start() -> (Shaper<u32>, Instant) {
        (Shaper::new(NonZeroU32::MIN), Instant::now())
    }

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    const NINE: NonZeroU32 = NonZeroU32::new(9).unwrap();

    /// Runs on until nothing waits: when each came out.
    fn run(shaper: &mut Shaper<u32>, mut now: Instant) -> Vec<(u32, Instant)> {
        let mut out = Vec::new();
        while let Some(at) = shaper.poll_timeout() {
            now = now.max(at);
            out.extend(std::iter::from_fn(|| shaper.poll(now)).map(|item| (item, now)));
        }
        out
    }

    #[test]
    fn no_second_sees_twenty_and_the_order_holds() {
        let (mut shaper, now) = start();
        let them = domain("them.example");
        let mut out = Vec::new();
        for item in 0..150 {
            match shaper.offer(&them, NINE, Haste::Urgent, item, now) {
                Offered::Now(item) => out.push((item, now)),
                Offered::Later => {}
                Offered::Over(..) => panic!("{item} is over"),
            }
        }
        assert_eq!(out.len(), 9);
        out.extend(run(&mut shaper, now));
        assert!(out.iter().map(|(item, _)| *item).eq(0..150));
        for (at, (_, from)) in out.iter().enumerate() {
            let until = *from + Duration::from_secs(1);
            let count = out[at..].iter().take_while(|(_, when)| *when < until).count();
            assert!(count < 20, "{count} in one second");
        }
        let took = out.last().unwrap().1 - now;
        assert!((15.0..16.5).contains(&took.as_secs_f64()), "{took:?}: nine a second, no slower");
        assert_eq!(shaper.slowed().count(), 0);
    }

    #[test]
    fn edges_together_keep_the_pace_of_one() {
        let (_, now) = start();
        let them = domain("them.example");
        for edges in 1..=20 {
            let mut out = Vec::new();
            for edge in 0..edges {
                let mut shaper = Shaper::new(NonZeroU32::new(edges).unwrap());
                // What falls to each of them.
                for item in (0..140).filter(|item| item % edges == edge) {
                    match shaper.offer(&them, NINE, Haste::Urgent, item, now) {
                        Offered::Now(_) => out.push(now),
                        Offered::Later => {}
                        Offered::Over(..) => panic!("{edges} edges: {item} is over"),
                    }
                }
                out.extend(run(&mut shaper, now).into_iter().map(|(_, at)| at));
            }
            out.sort();
            let took = (*out.last().unwrap() - now).as_secs_f64();
            assert!((13.0..17.0).contains(&took), "{edges} edges: {took} s");
            // Nine at once (or one from each), and nine more in each second.
            let second = out.iter().filter(|at| **at < now + Duration::from_secs(1)).count();
            let most = usize::try_from(edges).unwrap().max(9) + 9;
            assert!(second <= most, "{edges} edges: {second} in one second");
        }
    }

    #[test]
    fn one_partner_waits_for_no_other_and_who_is_over_is_told() {
        let (mut shaper, now) = start();
        let (them, other) = (domain("them.example"), domain("other.example"));
        let mut over = 0;
        for item in 0..500 {
            if let Offered::Over(back, wait) = shaper.offer(&them, NINE, Haste::Patient, item, now)
            {
                assert_eq!((back, wait), (item, Duration::from_secs(16)));
                over += 1;
            }
        }
        assert_eq!(over, 500 - 9 - 9 * 16);
        assert_eq!(shaper.offer(&other, NINE, Haste::Urgent, 1000, now), Offered::Now(1000));
        // Urgent ones have room of their own, and go first.
        assert_eq!(shaper.offer(&them, NINE, Haste::Urgent, 2000, now), Offered::Later);
        let slowed: Vec<_> = shaper.slowed().collect();
        assert_eq!((slowed.len(), slowed[0].waiting), (1, 145));
        assert!((slowed[0].per_second - 9.0).abs() < 1e-9);
        let out = run(&mut shaper, now);
        assert_eq!((out[0].0, out[1].0, out.len()), (2000, 9, 145));
        assert!(out.last().unwrap().1 - now < Duration::from_millis(16_500));
    }

    #[test]
    fn what_lets_the_others_by_is_given_back_when_it_is_too_late() {
        let (mut shaper, now) = start();
        let them = domain("them.example");
        for item in 0..40 {
            let _ = shaper.offer(&them, NINE, Haste::Patient, item, now);
        }
        // More is urgent all the time than the partner takes.
        let (mut out, mut over, mut last) = (0, Vec::new(), now);
        for tenth in 0..400 {
            let at = now + Duration::from_millis(tenth * 100);
            let _ = shaper.offer(&them, NINE, Haste::Urgent, 1000, at);
            out += std::iter::from_fn(|| shaper.poll(at)).filter(|item| *item != 1000).count();
            let late: Vec<_> = std::iter::from_fn(|| shaper.expired(at)).collect();
            if !late.is_empty() {
                last = at;
            }
            over.extend(late);
        }
        assert_eq!(last, now + EXPIRED_AFTER, "its sender is told in time");
        assert_eq!(out + over.len(), 31);
        assert!(over.len() > 25 && over.is_sorted() && !over.contains(&1000), "{over:?}");
    }

    #[test]
    fn what_must_not_wait_is_counted() {
        let (mut shaper, now) = start();
        let them = domain("them.example");
        for _ in 0..100 {
            shaper.passed(&them, NINE, now);
        }
        assert_eq!(shaper.offer(&them, NINE, Haste::Urgent, 1, now), Offered::Later);
        let wait = run(&mut shaper, now)[0].1 - now;
        let wanted = Duration::from_secs(1)..Duration::from_millis(1200);
        assert!(wanted.contains(&wait), "a second's worth is owed, no more: {wait:?}");
    }

    #[test]
    fn partners_are_forgotten_and_what_waits_is_not() {
        let (mut shaper, now) = start();
        for item in 0..3000 {
            let quiet = domain(&format!("d{item}.example"));
            let later = now + Duration::from_secs(u64::from(item));
            assert_eq!(shaper.offer(&quiet, NINE, Haste::Urgent, item, later), Offered::Now(item));
        }
        assert!(shaper.partners.len() <= PARTNERS_SWEPT_AT);
        let (them, slow) = (domain("them.example"), NonZeroU32::MIN);
        let late = now + Duration::from_secs(4000);
        for item in 0..10 {
            let _ = shaper.offer(&them, slow, Haste::Patient, item, late);
        }
        assert!(shaper.drain().eq(1..10));
        assert_eq!(shaper.poll_timeout(), None);
    }
}
