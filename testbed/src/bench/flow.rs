use std::cell::Cell;
use std::fmt::Write as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::Notify;

use crate::bench::wire::{Counter, Wire, broken};
use crate::failure::Failure;
use gatehouse_tls::Io;

/// With the rest of the stanza about 200 bytes on the wire.
const BODY: &str = "Two households, both alike in dignity, in fair Verona, where we lay our scene, \
                    from ancient grudge..";
const READ_AT_ONCE: usize = 64 * 1024;

/// Messages from one connection to another through the server, never more than a window of them
/// unreceived: nothing floods, and nothing is measured but the way of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow<'a> {
    /// Attributes of every message.
    pub(crate) attributes: &'a str,
    /// How many messages may be under way.
    pub(crate) window: u64,
    /// How many messages go into one write.
    pub(crate) batch: u64,
    /// Whether the sender asks after each write how much has arrived (XEP-0198).
    pub(crate) asks: bool,
    /// What the receiver acknowledged (XEP-0198); `None` if it does not count.
    pub(crate) acknowledged: Option<&'a Cell<u64>>,
}

impl Flow<'_> {
    /// Sends `count` messages and returns when the last has come. A bounce is a failure.
    pub(crate) async fn run(
        &self,
        from: &mut Wire,
        to: &mut Wire,
        count: u64,
    ) -> Result<(), Failure> {
        let (bounces, writer) = tokio::io::split(from.io());
        let received = Cell::new(0);
        let more = Notify::new();
        let receive = async {
            let mut counter = Counter::new("</message>");
            let mut requests = Counter::new("<r xmlns='urn:xmpp:sm:3'/>");
            let mut buffer = vec![0; READ_AT_ONCE];
            while received.get() < count {
                let read = to.io().read(&mut buffer).await.map_err(broken)?;
                if read == 0 {
                    return Err(Failure::world("the receiver's connection was closed"));
                }
                let heard = buffer.get(..read).unwrap_or_default();
                let new = counter.take(heard);
                received.set(received.get() + new);
                more.notify_one();
                if let Some(all) = self.acknowledged {
                    all.set(all.get() + new);
                    if requests.take(heard) > 0 {
                        let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", all.get());
                        to.io().write_all(answer.as_bytes()).await.map_err(broken)?;
                        to.io().flush().await.map_err(broken)?;
                    }
                }
            }
            if received.get() > count {
                return Err(Failure::world(format!("{} of {count} came", received.get())));
            }
            if let Some(all) = self.acknowledged {
                // Or what nobody asked about would be kept for the next session, and come to the next run.
                let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", all.get());
                to.io().write_all(answer.as_bytes()).await.map_err(broken)?;
                to.io().flush().await.map_err(broken)?;
            }
            Ok(())
        };
        let send_and_receive = async {
            tokio::try_join!(self.send(writer, count, &received, &more), receive).map(drop)
        };
        tokio::select! {
            done = send_and_receive => done,
            bounce = watch(bounces) => bounce,
        }
    }

    async fn send(
        &self,
        mut writer: WriteHalf<&mut Box<dyn Io>>,
        count: u64,
        received: &Cell<u64>,
        more: &Notify,
    ) -> Result<(), Failure> {
        let mut sent = 0;
        let mut text = String::new();
        while sent < count {
            // More may have come than was sent, which the receiver tells in the end.
            let room = self.window.saturating_sub(sent.saturating_sub(received.get()));
            let now = room.min(self.batch).min(count - sent);
            if now == 0 {
                more.notified().await;
                continue;
            }
            text.clear();
            for number in sent..sent + now {
                let attributes = self.attributes;
                // Writing to a string cannot fail.
                let _ok = write!(
                    text,
                    "<message {attributes} type='chat' id='m{number:08}'><body>{BODY}</body></message>"
                );
            }
            if self.asks {
                text.push_str("<r xmlns='urn:xmpp:sm:3'/>");
            }
            writer.write_all(text.as_bytes()).await.map_err(broken)?;
            writer.flush().await.map_err(broken)?;
            sent += now;
        }
        Ok(())
    }
}

/// Reads what comes back to the sender. Returns only if it should not have come.
async fn watch(mut back: ReadHalf<&mut Box<dyn Io>>) -> Result<(), Failure> {
    let mut buffer = vec![0; READ_AT_ONCE];
    loop {
        let read = back.read(&mut buffer).await.map_err(broken)?;
        let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
        if read == 0 || text.contains("<message") || text.contains("<stream:error") {
            return Err(Failure::world(format!("the sender got back: `{text}`")));
        }
    }
}
