use std::future::Future;
use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// Every task of the program, and the way to stop them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// Shutdown ran out of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{tasks} tasks did not finish in time")]
pub struct StillRunning {
    /// How many were cut.
    pub tasks: usize,
}

impl Tasks {
    /// Runs `task` in `span` until it ends by itself; [`stop`](Self::stop) tells it to hurry.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn(&self, span: Span, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.tracker.track_future(task).instrument(span.or_current()));
    }

    /// Cancelled when the program wants to stop.
    pub fn stop(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Asks every task to finish and waits for them, but no longer than `grace`.
    pub async fn shut_down(self, grace: Duration) -> Result<(), StillRunning> {
        self.stop.cancel();
        self.tracker.close();
        time::timeout(grace, self.tracker.wait())
            .await
            .map_err(|_| StillRunning { tasks: self.tracker.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_a_farewell() {
        let tasks = Tasks::default();
        let stop = tasks.stop();
        tasks.spawn(Span::none(), async move {
            stop.cancelled().await;
            time::sleep(Duration::from_secs(3)).await; // says goodbye
        });
        assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_does_not_wait_for_ever() {
        let tasks = Tasks::default();
        tasks.spawn(Span::none(), std::future::pending());
        let outcome = tasks.shut_down(Duration::from_secs(5)).await;
        assert_eq!(outcome, Err(StillRunning { tasks: 1 }));
    }
}
