use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

/// Room for things on their way to a session. A channel would do, but takes the memory of thirty-two
/// things and 512 bytes for its head as long as it lasts; every session has three of these, and most
/// are idle most of the time. This takes memory only for what is in it.
struct Pipe<T> {
    state: Mutex<State<T>>,
    len_max: usize,
    news: Notify,
}

struct State<T> {
    items: VecDeque<T>,
    /// The giver is gone, or the taker wants nothing more.
    closed: bool,
}

impl<T> State<T> {
    fn take(&mut self) -> Option<T> {
        let item = self.items.pop_front();
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
        item
    }
}

/// Where things are put in.
pub(crate) struct Giver<T>(Arc<Pipe<T>>);

/// Where they come out, in the same order.
pub(crate) struct Taker<T>(Arc<Pipe<T>>);

/// Both sides of a pipe for `len_max` things.
pub(crate) fn pipe<T>(len_max: usize) -> (Giver<T>, Taker<T>) {
    let state = Mutex::new(State { items: VecDeque::new(), closed: false });
    let pipe = Arc::new(Pipe { state, len_max, news: Notify::new() });
    (Giver(Arc::clone(&pipe)), Taker(pipe))
}

impl<T> Giver<T> {
    /// Puts `item` in, unless there is no room or nobody will take it.
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(TrySendError::Closed(item));
        }
        if state.items.len() >= self.0.len_max {
            return Err(TrySendError::Full(item));
        }
        let is_news = state.items.is_empty();
        state.items.push_back(item);
        drop(state);
        // Who takes one looks for more before it waits.
        if is_news {
            self.0.news.notify_one();
        }
        Ok(())
    }

    /// True if everything was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.state.lock().items.is_empty()
    }

    /// True once nobody will take anything new any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.state.lock().closed
    }
}

impl<T> Taker<T> {
    /// Waits for the next; `None` once none can come any more. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        loop {
            match self.try_recv() {
                Ok(item) => return Some(item),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.0.news.notified().await,
            }
        }
    }

    /// The next, if it is there.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "nobody else may take or wait meanwhile")]
    pub(crate) fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut state = self.0.state.lock();
        match state.take() {
            Some(item) => Ok(item),
            None if state.closed => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Wants nothing more; what is there can still be taken.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "it is the taker's to say")]
    pub(crate) fn close(&mut self) {
        self.0.state.lock().closed = true;
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.news.notify_one();
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        // What was not taken is of no use to anybody now, and somebody may wait for its end.
        let left = std::mem::take(&mut state.items);
        drop(state);
        drop(left);
    }
}

impl<T> fmt::Debug for Giver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Giver")
    }
}

impl<T> fmt::Debug for Taker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_in_order() {
        let (giver, mut taker) = pipe(1);
        assert_eq!(taker.try_recv(), Err(TryRecvError::Empty));
        giver.try_send(1).unwrap();
        assert!(matches!(giver.try_send(2), Err(TrySendError::Full(2))));
        assert_eq!(taker.recv().await, Some(1));
        let (taken, ()) = tokio::join!(taker.recv(), async {
            tokio::task::yield_now().await;
            giver.try_send(3).unwrap();
        });
        assert_eq!(taken, Some(3));
    }

    #[tokio::test]
    async fn each_side_sees_the_other_leave() {
        let (giver, mut taker) = pipe(1);
        giver.try_send(1).unwrap();
        drop(giver);
        assert_eq!((taker.recv().await, taker.recv().await), (Some(1), None));

        let (giver, mut taker) = pipe::<u8>(1);
        let (taken, ()) = tokio::join!(taker.recv(), async {
            tokio::task::yield_now().await;
            drop(giver);
        });
        assert_eq!(taken, None);

        let (giver, taker) = pipe(1);
        let item = Arc::new(());
        giver.try_send(Arc::clone(&item)).unwrap();
        assert!(!giver.is_closed());
        drop(taker);
        assert_eq!((giver.is_closed(), Arc::strong_count(&item)), (true, 1));
        assert!(matches!(giver.try_send(item), Err(TrySendError::Closed(_))));
    }

    #[tokio::test]
    async fn what_is_there_comes_out_after_the_end() {
        let (giver, mut taker) = pipe(2);
        assert!(giver.is_empty());
        giver.try_send(1).unwrap();
        giver.try_send(2).unwrap();
        assert!(matches!(giver.try_send(3), Err(TrySendError::Full(3))));
        taker.close();
        assert!(giver.is_closed() && !giver.is_empty());
        assert!(matches!(giver.try_send(3), Err(TrySendError::Closed(3))));
        assert_eq!((taker.recv().await, taker.recv().await), (Some(1), Some(2)));
        assert_eq!((taker.recv().await, giver.is_empty()), (None, true));
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let (giver, mut taker) = pipe(8);
        for number in 0..8 {
            let (given_up, ()) = tokio::join!(
                async {
                    tokio::select! {
                        biased;
                        () = tokio::task::yield_now() => None,
                        taken = taker.recv() => taken,
                    }
                },
                async { giver.try_send(number).unwrap() }
            );
            assert_eq!(taker.recv().await, given_up.is_none().then_some(number));
            if given_up.is_some() {
                break;
            }
        }
    }
}
