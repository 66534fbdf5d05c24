use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::bench::path::{Load, contacts};
use crate::bench::subject::Subject;
use crate::bench::wire::{Counter, Wire, broken};
use crate::failure::Failure;

/// Changes of presence that may be under way.
const WINDOW: u64 = 2;
const READ_AT_ONCE: usize = 16 * 1024;

/// One user whose presence goes to many contacts, all of them online.
pub(crate) struct Fanout {
    sender: Wire,
    contacts: Vec<Wire>,
    changes: u64,
}

impl Fanout {
    /// Logs everybody in, and on the first run subscribes the contacts to the sender.
    pub(crate) async fn prepare(subject: &mut Subject, load: &Load) -> Result<Self, Failure> {
        let mut sender = subject.partner.log_in(subject.clients, "romeo", "bench").await?;
        subject.partner.appear(&mut sender).await?;
        let mut wires = Vec::new();
        for name in contacts(load) {
            let mut wire = subject.partner.log_in(subject.clients, &name, "bench").await?;
            subject.partner.appear(&mut wire).await?;
            if !subject.subscribed {
                subscribe(&name, &mut wire, &mut sender).await?;
            }
            wires.push(wire);
        }
        subject.subscribed = true;
        let mut fanout = Self { sender, contacts: wires, changes: 0 };
        fanout.drain().await?;
        Ok(fanout)
    }

    /// One marked change that reaches everybody tells that all before it has been read.
    async fn drain(&mut self) -> Result<(), Failure> {
        self.sender.say("<presence><status>drained</status></presence>").await?;
        for wire in self.contacts.iter_mut().chain([&mut self.sender]) {
            wire.hear(&["drained"]).await?;
            wire.hear(&["</presence>"]).await?;
        }
        Ok(())
    }

    /// Changes presence `rounds` times; returns how often that was delivered to a contact.
    pub(crate) async fn run(&mut self, rounds: u64) -> Result<u64, Failure> {
        let mut readers = JoinSet::new();
        // One permit for each delivery under way would count those of a slow contact for a fast
        // one; the sender's own copy comes in order with all others of one change.
        let arrived = Arc::new(Semaphore::new(0));
        let count = u32::try_from(self.contacts.len()).unwrap_or(u32::MAX);
        for mut wire in self.contacts.drain(..) {
            let arrived = Arc::clone(&arrived);
            readers.spawn(async move {
                let mut counter = Counter::new("</presence>");
                let mut buffer = vec![0; READ_AT_ONCE];
                let mut seen = 0;
                while seen < rounds {
                    let read = wire.io().read(&mut buffer).await.map_err(broken)?;
                    if read == 0 {
                        return Err(Failure::world("a contact's connection was closed"));
                    }
                    let new = counter.take(buffer.get(..read).unwrap_or_default());
                    seen += new;
                    arrived.add_permits(usize::try_from(new).unwrap_or(0));
                }
                if seen > rounds {
                    return Err(Failure::world(format!("{seen} of {rounds} changes came")));
                }
                Ok(wire)
            });
        }
        for round in 0..rounds {
            if round >= WINDOW {
                let permits = arrived.acquire_many(count).await;
                permits.map_err(|_| Failure::world("the readers are gone"))?.forget();
            }
            self.changes += 1;
            let text = format!("<presence><status>change {}</status></presence>", self.changes);
            self.sender.say(&text).await?;
            self.sender.hear(&["</presence>"]).await?;
        }
        while let Some(done) = readers.join_next().await {
            let wire = done.map_err(|error| Failure::world(error.to_string()))??;
            self.contacts.push(wire);
        }
        Ok(rounds * u64::from(count))
    }

    /// Closes all streams.
    pub(crate) async fn close(self) {
        for wire in self.contacts.into_iter().chain([self.sender]) {
            wire.close().await;
        }
    }
}

/// RFC 6121, section 3.1.
async fn subscribe(name: &str, contact: &mut Wire, sender: &mut Wire) -> Result<(), Failure> {
    let romeo = Subject::user("romeo");
    contact.say(&format!("<presence type='subscribe' to='{romeo}'/>")).await?;
    sender.hear(&["'subscribe'", "\"subscribe\""]).await?;
    let address = Subject::user(name);
    sender.say(&format!("<presence type='subscribed' to='{address}'/>")).await?;
    // The answer itself goes only to clients that asked for their roster; the presence that comes
    // with it goes to all.
    contact.hear(&[&format!("{romeo}/bench")]).await?;
    contact.hear(&[">"]).await.map(drop)
}
