//! A client's managed stream (XEP-0198) and its state (XEP-0352), on its connection.

use aws_lc_rs::rand;
use gatehouse_net::now;
use gatehouse_types::Jid;
use gatehouse_xmpp::{C2sServer, Seed, StanzaCondition};
use tracing::{debug, info};

use crate::resume::{Bound, HandOver};
use crate::session::Client;

impl Client {
    /// From here on the client counts; with `resume` it may come back within `seconds`.
    pub(crate) fn manage(&mut self, resume: bool, seconds: Option<u64>) {
        let acknowledging = self.acknowledging();
        let Some(bound) = &mut self.bound else { return };
        let resume = bound.manage((resume, seconds), acknowledging);
        let resume = resume.as_ref().map(|(name, seconds)| (name.as_str(), *seconds));
        self.connection.machine_mut().manage(resume, now());
    }

    /// The client has `h` stanzas.
    pub(crate) fn acked(&mut self, h: u32) {
        let Some(bound) = &mut self.bound else { return };
        let machine = self.connection.machine_mut();
        match bound.acknowledge(h) {
            Ok(offline) => self.offline_written = self.offline_written.max(offline),
            Err(error) => {
                info!(%error, "ending a client's stream");
                return machine.close_handled_too_high(error, now());
            }
        }
        if let Some(managed) = bound.managed.as_mut().filter(|it| !it.unacked.is_empty()) {
            managed.asked = true;
            machine.request_ack(now());
        }
    }

    /// Somebody looks at the client again, or nobody does.
    pub(crate) fn look(&mut self, active: bool) {
        let Some(bound) = &mut self.bound else { return };
        bound.inactive = !active;
        if active {
            self.put_backlog();
        }
    }

    /// Gives the session to another connection; false if that is gone again.
    pub(crate) fn hand_over(&mut self, to: HandOver) -> bool {
        self.connection.collect();
        if self.connection.is_flushed() {
            // What was written before the client counted is its own to look for.
            self.settle();
        }
        let Some(mut bound) = self.bound.take() else { return false };
        self.keep_unwritten(&mut bound);
        if let Some(managed) = &mut bound.managed {
            managed.acknowledging.go_on(self.connection.machine().taken());
        }
        bound.inactive = false;
        match to.send(bound) {
            Ok(()) => true,
            Err(back) => {
                self.bound = Some(back);
                false
            }
        }
    }

    /// What was sent before the client counted and never left is sent when it is back.
    pub(crate) fn keep_unwritten(&mut self, bound: &mut Bound) {
        let at_ms = self.ports.router.clock.now_ms();
        for item in self.unwritten.drain(..) {
            bound.backlog.keep(item, at_ms);
        }
    }

    /// The client wants the session `id` back, of which it has `h` stanzas.
    pub(crate) async fn resume(&mut self, id: &str, h: u32) {
        let Some((account, version)) = self.proved() else { return };
        match self.ports.router.take_over(&account, version, id).await {
            Ok(bound) => self.take_up(bound, h, |machine, full, handled| {
                machine.resume(full, id, handled, now());
            }),
            Err(handled) => {
                debug!("a client asked for a session that is not there");
                let condition = StanzaCondition::ItemNotFound;
                self.connection.machine_mut().refuse_resume(condition, handled, now());
            }
        }
    }

    /// Goes on with a session of before, of which the client has `h` stanzas. `tell` tells it its
    /// address and how many of its own were handled.
    pub(crate) fn take_up(
        &mut self,
        bound: Box<Bound>,
        h: u32,
        tell: impl FnOnce(&mut C2sServer, Jid, u32),
    ) {
        let full = bound.session.jid.clone();
        self.open_as(&full);
        let handled = bound.managed.as_ref().map_or(0, |managed| managed.acknowledging.taken());
        self.bound = Some(bound);
        tell(self.connection.machine_mut(), full, handled);
        metrics::counter!("gatehouse_c2s_resumed_total").increment(1);
        let Some(bound) = &mut self.bound else { return };
        match bound.acknowledge(h) {
            Ok(offline) => self.offline_written = self.offline_written.max(offline),
            Err(error) => {
                info!(%error, "ending a client's stream");
                return self.connection.machine_mut().close_handled_too_high(error, now());
            }
        }
        self.send_again();
        self.put_backlog();
    }

    /// What the client does not have yet goes to it first, in the order of before.
    fn send_again(&mut self) {
        let Some(managed) = self.bound.as_mut().and_then(|bound| bound.managed.as_mut()) else {
            return;
        };
        let machine = self.connection.machine_mut();
        for item in managed.unacked.iter() {
            machine.send(&item.stanza, now());
            self.row.stanza_out();
            self.sweep.sent();
        }
        managed.asked = !managed.unacked.is_empty();
        if managed.asked {
            machine.request_ack(now());
        }
    }

    fn put_backlog(&mut self) {
        let Some(bound) = &mut self.bound else { return };
        for held in bound.backlog.take_all() {
            self.put(held.item);
        }
    }
}

/// Nobody can guess it; it is worth nothing without the account's password either.
pub(crate) fn unguessable_name() -> Option<String> {
    let mut random = [0; 32];
    rand::fill(&mut random).ok()?;
    Some(Seed::new(random).next_hex())
}
