//! What goes out to a client, and when it is known to be gone.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::{ConnectionError, now};
use gatehouse_types::Machine as _;
use tracing::{debug, info};

use crate::outbox::Outgoing;
use crate::resume::Bound;
use crate::session::{Client, until};

/// How long what a client sent may take once the program stops.
const WORK_MAX: Duration = Duration::from_secs(3);

/// Stanzas given to the machine before the connection gets its turn: they leave in one write.
const BATCH_LEN_MAX: usize = 16;

impl Client {
    /// Gives a stanza to the machine.
    pub(crate) fn put(&mut self, item: Outgoing) {
        let stanza = &item.stanza;
        debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza goes to a client");
        let machine = self.connection.machine_mut();
        let bytes = machine.send(stanza, now());
        self.row.stanza_out();
        let Some(bound) = &mut self.bound else { return };
        bound.session.outbox.set_unwritten(true);
        self.sweep.sent();
        let Some(managed) = &mut bound.managed else { return self.unwritten.push_back(item) };
        managed.unacked.push(item, bytes);
        if !managed.asked {
            managed.asked = true;
            machine.request_ack(now());
        }
    }

    /// Gives a stanza to the machine, unless it can wait until somebody looks at the client.
    pub(crate) fn write(&mut self, item: Outgoing) {
        match &mut self.bound {
            Some(bound) if bound.inactive => {
                for due in bound.backlog.filter(item) {
                    self.put(due);
                }
            }
            _ => self.put(item),
        }
    }

    /// Writes `first` and what waits behind it, as far as the client keeps up.
    pub(crate) fn write_batch(&mut self, first: Outgoing) {
        self.write(first);
        for _ in 1..BATCH_LEN_MAX {
            if self.connection.collect().is_congested() {
                return;
            }
            let next = self.bound.as_mut().filter(|bound| bound.has_room());
            let Some(next) = next.and_then(|bound| bound.outbox.queue.try_recv()) else { return };
            self.write(next);
        }
    }

    /// Everything given to the machine has been handed to the operating system.
    pub(crate) fn settle(&mut self) {
        for item in std::mem::take(&mut self.unwritten) {
            self.offline_written = self.offline_written.max(item.offline);
            item.copies.written();
        }
        if let Some(bound) = &self.bound {
            let unacked = bound.managed.as_ref().is_some_and(|it| !it.unacked.is_empty());
            bound.session.outbox.set_unwritten(unacked);
        }
    }

    /// Removes stored messages that were written; more may be written while one lot is removed.
    pub(crate) async fn forget_delivered(&mut self) -> Result<(), ConnectionError> {
        while let (Some(id), Some(bound)) = (self.offline_written, &self.bound) {
            self.offline_written = None;
            let (router, session) = (self.ports.router.clone(), Arc::clone(&bound.session));
            self.while_writing(async move { router.offline_written(&session, id).await }).await?;
        }
        Ok(())
    }

    /// Does `work` while the outbox goes on being written: the work may wait for room in it.
    pub(crate) async fn while_writing(
        &mut self,
        work: impl Future<Output = ()> + Send,
    ) -> Result<(), ConnectionError> {
        let mut work = pin!(work);
        let mut unflushed = true;
        let mut broken = None;
        let closed = self.connection.machine().is_closed();
        // Who may come back gets the answers then.
        let may_come_back = self.bound.as_ref().is_some_and(|it| it.away_max().is_some());
        if closed
            && !may_come_back
            && let Some(bound) = &self.bound
        {
            // These are its last words; nobody hears the answers.
            bound.session.outbox.close();
        }
        let stop = self.ports.tasks.stop();
        let mut give_up = None;
        loop {
            // By its deadlines the machine may close here too.
            let takes = !self.connection.machine().is_closed() && !self.connection.is_congested();
            let has_room = self.bound.as_ref().is_some_and(|bound| bound.has_room());
            let can_write = takes && has_room && broken.is_none();
            let keeps = may_come_back && (closed || broken.is_some());
            let flushing = broken.is_none() && unflushed;
            tokio::select! {
                () = &mut work => break,
                () = stop.cancelled(), if give_up.is_none() => {
                    give_up = Some(now() + WORK_MAX);
                }
                () = until(give_up) => {
                    info!("stopping; what a client sent last is given up");
                    // It is counted as handled, and must not be acknowledged.
                    self.connection.machine_mut().handle_shutdown(now());
                    break;
                }
                Some(item) = next_item(&mut self.bound), if can_write || keeps => {
                    if !keeps {
                        self.write(item);
                        unflushed = true;
                    } else if let Some(bound) = &mut self.bound
                        && !bound.backlog.keep(item, self.ports.router.clock.now_ms())
                    {
                        bound.session.outbox.close();
                    }
                }
                flushed = self.connection.flush(), if flushing => {
                    unflushed = false;
                    match flushed {
                        // After its end it may have vanished; then this was not read.
                        Ok(()) if closed => {}
                        Ok(()) => self.settle(),
                        Err(failure) => {
                            // The work goes on to its end, without this client.
                            if !may_come_back && let Some(bound) = &self.bound {
                                bound.session.outbox.close();
                            }
                            broken = Some(failure);
                        }
                    }
                }
            }
        }
        broken.map_or(Ok(()), Err)
    }
}

async fn next_item(bound: &mut Option<Box<Bound>>) -> Option<Outgoing> {
    bound.as_mut()?.outbox.queue.recv().await
}
