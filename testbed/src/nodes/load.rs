use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::Question;
use super::partner::{Dialog, Outcome, Partner};
use crate::clock::now;

/// Asks all, never more than a window of them at a time; the outcomes in the order of the questions.
pub(super) async fn ask_all(
    partner: &Partner,
    questions: Vec<Question>,
    window: usize,
) -> Vec<Outcome> {
    let room = Arc::new(Semaphore::new(window));
    let mut asked = Vec::new();
    for question in questions {
        let permit = Arc::clone(&room).acquire_owned().await;
        let own = partner.clone();
        asked.push(partner.handle().spawn(async move {
            let _permit = permit;
            let Question { edge, dialog, method, number, contact } = question;
            own.ask_in(edge, &dialog, (method, number), contact.as_deref()).await
        }));
    }
    let mut outcomes = Vec::new();
    for asked in asked {
        outcomes.push(asked.await.unwrap_or(Outcome::Silence));
    }
    outcomes
}

/// What came of the requests of a talk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TalkCount {
    /// Answered with 200.
    pub(super) good: u64,
    /// With anything else.
    pub(super) bad: u64,
    /// With 481, counted among the others.
    pub(super) gone: u64,
    /// Without an answer.
    pub(super) silent: u64,
    /// There was no connection.
    pub(super) unsent: u64,
}

impl TalkCount {
    /// All of them.
    pub(super) fn sent(&self) -> u64 {
        self.good + self.bad + self.silent + self.unsent
    }
}

/// The partner goes on in dialogs, one after the other, through one edge after the other.
pub(super) struct Talk {
    stop: Arc<AtomicBool>,
    count: Arc<Mutex<TalkCount>>,
    task: JoinHandle<()>,
}

impl Talk {
    pub(super) fn start(
        partner: &Partner,
        dialogs: Vec<Dialog>,
        edges: usize,
        per_second: u32,
        first: u32,
    ) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (own, until, counted) = (partner.clone(), Arc::clone(&stop), Arc::clone(&count));
        let task = partner.handle().spawn(async move {
            let mut under_way = Vec::new();
            let mut tick = ticks(per_second);
            for (number, dialog) in (first..).zip(dialogs.iter().cycle()) {
                tick.tick().await;
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let (partner, dialog) = (own.clone(), dialog.clone());
                let counted: Arc<Mutex<TalkCount>> = Arc::clone(&counted);
                let edge = usize::try_from(number).unwrap_or_default() % edges.max(1);
                under_way.push(own.handle().spawn(async move {
                    let method = if dialog.method == "INVITE" { "MESSAGE" } else { "NOTIFY" };
                    let outcome = partner.ask_in(edge, &dialog, (method, number), None).await;
                    let mut count = counted.lock();
                    match outcome {
                        Outcome::Answered(200, _) => count.good += 1,
                        Outcome::Answered(code, _) => {
                            count.bad += 1;
                            count.gone += u64::from(code == 481);
                        }
                        Outcome::Silence => count.silent += 1,
                        Outcome::Unsent => count.unsent += 1,
                    }
                }));
            }
            for one in under_way {
                let _counted = one.await;
            }
        });
        Self { stop, count, task }
    }

    /// Asks no more, and waits for the answers to what was asked.
    pub(super) async fn stop(self) -> TalkCount {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.task.await;
        *self.count.lock()
    }
}

/// How long after a request was sent something may happen that it fails of: it is answered by then.
const UNDER_WAY_MAX: Duration = Duration::from_secs(1);

/// What came of the requests for new sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionCount {
    pub(super) sent: u64,
    pub(super) good: u64,
    pub(super) refused: u64,
    pub(super) silent: u64,
    pub(super) other: u64,
    /// The longest time between two that were served.
    pub(super) longest: Duration,
    /// How long after the event before it the last one was sent that failed.
    pub(super) late: Duration,
    served_at: Option<Instant>,
    events: Vec<Instant>,
}

impl SessionCount {
    fn add(&mut self, sent_at: Instant, done_at: Instant, outcome: Outcome) {
        self.sent += 1;
        match outcome {
            Outcome::Answered(200, _) => {
                self.good += 1;
                let since = self.served_at.map(|before| done_at.saturating_duration_since(before));
                self.longest = self.longest.max(since.unwrap_or_default());
                self.served_at = self.served_at.max(Some(done_at));
                return;
            }
            Outcome::Answered(503, _) => self.refused += 1,
            Outcome::Silence | Outcome::Unsent => self.silent += 1,
            Outcome::Answered(..) => self.other += 1,
        }
        // One that was under way when something happened may fail because of it, but not one that should
        // have been answered long before. A failure that no event explains is as late as can be.
        let before = self.events.iter().rev().find(|event| **event <= sent_at + UNDER_WAY_MAX);
        let since = before.map(|event| sent_at.saturating_duration_since(*event));
        self.late = self.late.max(since.unwrap_or(Duration::MAX));
    }
}

/// The partner asks for new sessions, through one edge after the other.
pub(super) struct Sessions {
    stop: Arc<AtomicBool>,
    count: Arc<Mutex<SessionCount>>,
    task: JoinHandle<()>,
}

impl Sessions {
    pub(super) fn start(partner: &Partner, edges: usize, per_second: u32) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (own, until, counted) = (partner.clone(), Arc::clone(&stop), Arc::clone(&count));
        let task = partner.handle().spawn(async move {
            let mut under_way = Vec::new();
            let mut tick = ticks(per_second);
            for number in 0_usize.. {
                tick.tick().await;
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let partner = own.clone();
                let counted: Arc<Mutex<SessionCount>> = Arc::clone(&counted);
                under_way.push(own.handle().spawn(async move {
                    let (edge, sent_at) = (number % edges.max(1), now());
                    let call_id = format!("session{number}");
                    let outcome = partner.ask_new(edge, &call_id).await;
                    counted.lock().add(sent_at, now(), outcome);
                }));
            }
            for one in under_way {
                let _counted = one.await;
            }
        });
        Self { stop, count, task }
    }

    /// Something happens now that may make some of them fail.
    pub(super) fn event(&self) {
        self.count.lock().events.push(now());
    }

    /// Asks no more, and waits for the answers to what was asked.
    pub(super) async fn stop(self) -> SessionCount {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.task.await;
        self.count.lock().clone()
    }
}

fn ticks(per_second: u32) -> tokio::time::Interval {
    let mut tick = interval(Duration::from_secs(1) / per_second.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_and_the_last_failure_are_found() {
        let begin = now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut count = SessionCount::default();
        count.add(at(0), at(0), Outcome::Answered(200, false));
        count.events.push(at(1));
        count.add(at(2), at(2), Outcome::Answered(503, true));
        count.add(at(3), at(6), Outcome::Silence);
        count.add(at(4), at(4), Outcome::Answered(200, false));
        assert_eq!((count.longest, count.late), (Duration::from_secs(4), Duration::from_secs(2)));
        assert_eq!((count.sent, count.good, count.refused, count.silent), (4, 2, 1, 1));
        // The next event explains nothing that was to be answered before it, and what was under way.
        count.events.push(at(20));
        count.add(at(19), at(22), Outcome::Silence);
        assert_eq!(count.late, Duration::from_secs(2));
        count.add(at(18), at(21), Outcome::Silence);
        assert_eq!(count.late, Duration::from_secs(17));
        let mut unexplained = SessionCount::default();
        unexplained.add(at(0), at(0), Outcome::Answered(503, true));
        assert_eq!(unexplained.late, Duration::MAX);
    }
}
