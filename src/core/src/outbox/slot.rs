use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

/// Room for one thing on its way to a session. A channel for one would do, but takes the memory of
/// one for thirty-two, and every session has two of them that are hardly ever used.
struct Slot<T> {
    state: Mutex<State<T>>,
    news: Notify,
}

struct State<T> {
    item: Option<T>,
    /// The other side is gone.
    closed: bool,
}

/// Where a thing is put in.
pub(crate) struct Giver<T>(Arc<Slot<T>>);

/// Where it comes out.
pub(crate) struct Taker<T>(Arc<Slot<T>>);

/// Both sides of a slot.
pub(crate) fn slot<T>() -> (Giver<T>, Taker<T>) {
    let state = Mutex::new(State { item: None, closed: false });
    let slot = Arc::new(Slot { state, news: Notify::new() });
    (Giver(Arc::clone(&slot)), Taker(slot))
}

impl<T> Giver<T> {
    /// Puts `item` in, unless one is there already or nobody will take it.
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(TrySendError::Closed(item));
        }
        if state.item.is_some() {
            return Err(TrySendError::Full(item));
        }
        state.item = Some(item);
        drop(state);
        self.0.news.notify_one();
        Ok(())
    }

    /// True once nobody will take anything any more.
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
        match state.item.take() {
            Some(item) => Ok(item),
            None if state.closed => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
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
        let left = state.item.take();
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
        let (giver, mut taker) = slot();
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
        let (giver, mut taker) = slot();
        giver.try_send(1).unwrap();
        drop(giver);
        assert_eq!((taker.recv().await, taker.recv().await), (Some(1), None));

        let (giver, mut taker) = slot::<u8>();
        let (taken, ()) = tokio::join!(taker.recv(), async {
            tokio::task::yield_now().await;
            drop(giver);
        });
        assert_eq!(taken, None);

        let (giver, taker) = slot();
        let item = Arc::new(());
        giver.try_send(Arc::clone(&item)).unwrap();
        assert!(!giver.is_closed());
        drop(taker);
        assert_eq!((giver.is_closed(), Arc::strong_count(&item)), (true, 1));
        assert!(matches!(giver.try_send(item), Err(TrySendError::Closed(_))));
    }
}
