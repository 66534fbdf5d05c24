use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::run::{Outcome, run};
use crate::scenario::Scenario;
use crate::shape::Shape;
use crate::stage::Paths;

/// Runs scenarios side by side, `jobs` at a time; tells `each` outcome as it comes and returns
/// them all in the order of `work`.
pub(crate) fn run_all(
    work: Vec<(Scenario, Shape)>,
    jobs: usize,
    paths: &Paths,
    keep: bool,
    mut each: impl FnMut(&Outcome),
) -> Vec<Outcome> {
    let waiting: Mutex<VecDeque<_>> = Mutex::new(work.into_iter().enumerate().collect());
    let mut outcomes = Vec::new();
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(jobs);
        for _ in 0..jobs {
            let (sender, waiting) = (sender.clone(), &waiting);
            scope.spawn(move || {
                while let Some((index, (scenario, shape))) =
                    waiting.lock().ok().and_then(|mut waiting| waiting.pop_front())
                {
                    let outcome = run(&scenario, shape, paths, keep);
                    if sender.send((index, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, outcome) in receiver {
            each(&outcome);
            outcomes.push((index, outcome));
        }
    });
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
