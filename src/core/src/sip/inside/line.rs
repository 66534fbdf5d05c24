//! One connection with a server of the inside, whoever opened it.

use std::net::SocketAddr;
use std::time::Duration;

use gatehouse_net::{BoxedIo, Connection, ConnectionError, Step, now};
use gatehouse_policy::HopProtocol;
use gatehouse_sip::{
    HeaderName, Host, InvalidMessage, Limits, Message, NameAddr, SipStream, StreamConfig,
    StreamEnd, StreamEvent, Via,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::FromInside;

/// Messages that wait for one connection.
pub(super) const QUEUE_LEN_MAX: usize = 512;

/// How long the other end may leave our writes unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the answer to what could not be read may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Nobody promised to answer keep-alives: a broken path shows in our write instead.
const STREAM: StreamConfig = StreamConfig {
    limits: Limits { head_max: 16 * 1024, body_max: 64 * 1024, headers_max: 128 },
    first_message_within: None,
    ping_after: Some(Duration::from_secs(60)),
    pong_within: None,
    idle_max: None,
};

/// Who connects to us and says nothing goes.
const FIRST_MESSAGE_MAX: Duration = Duration::from_secs(30);

/// What a server of the inside sees of us: where it reaches us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Face {
    pub(super) address: SocketAddr,
    pub(super) protocol: HopProtocol,
}

/// A connection that is up.
pub(super) struct Line {
    pub(super) flow: u64,
    pub(super) face: Face,
    /// Whether the other end opened it.
    pub(super) inbound: bool,
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) events: mpsc::Sender<FromInside>,
    pub(super) stop: CancellationToken,
}

impl Line {
    /// Carries messages both ways until the connection ends; gives the reason, for the log.
    pub(super) async fn run(mut self, io: BoxedIo) -> String {
        let config = StreamConfig {
            first_message_within: self.inbound.then_some(FIRST_MESSAGE_MAX),
            ..STREAM
        };
        let mut connection = Connection::new(SipStream::new(config, now()), io, WRITE_TIMEOUT);
        match self.carry(&mut connection).await {
            Ok(end) => end.to_string(),
            Err(error) => error.to_string(),
        }
    }

    async fn carry(
        &mut self,
        connection: &mut Connection<SipStream>,
    ) -> Result<StreamEnd, ConnectionError> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    // What was handed over before the word to stop still leaves.
                    while let Ok(message) = self.queue.try_recv() {
                        self.write(connection, message);
                    }
                    connection.flush().await?;
                    return Ok(StreamEnd::Stopped);
                }
                step = connection.next() => match step? {
                    Step::Event(StreamEvent::Message(message)) => {
                        let event = FromInside::Message { flow: self.flow, message };
                        // A gateway that does not keep up slows the connection down.
                        if self.events.send(event).await.is_err() {
                            return Ok(StreamEnd::Stopped);
                        }
                    }
                    Step::Event(StreamEvent::Ended(end)) => {
                        let _ = tokio::time::timeout(LAST_WORDS, connection.flush()).await;
                        return Ok(end);
                    }
                    Step::Upgrade => {}
                    Step::Closed => return Ok(StreamEnd::Closed),
                },
                message = self.queue.recv(), if !connection.is_congested() => {
                    let Some(message) = message else {
                        // The gateway gave it up; what it said last still leaves.
                        connection.flush().await?;
                        return Ok(StreamEnd::Stopped);
                    };
                    self.write(connection, message);
                    // One write for all that waits.
                    while let Ok(message) = self.queue.try_recv() {
                        self.write(connection, message);
                    }
                }
            }
        }
    }

    fn write(&self, connection: &mut Connection<SipStream>, mut message: Message) {
        match self.face.put_on(&mut message) {
            Ok(()) => connection.machine_mut().send(&message, now()),
            // Only we can cause it.
            Err(error) => tracing::warn!(%error, "a SIP message of ours was not sent"),
        }
    }
}

impl Face {
    /// The gateway writes the name of its node into Via and Contact, which edges replace; a server
    /// of the inside must be able to reach what stands there.
    fn put_on(self, message: &mut Message) -> Result<(), InvalidMessage> {
        let host = match self.address {
            SocketAddr::V4(address) => Host::V4(*address.ip()),
            SocketAddr::V6(address) => Host::V6(*address.ip()),
        };
        if message.status().is_none() {
            let mut vias = message.headers.list(&HeaderName::Via).into_iter();
            if let Some(first) = vias.next() {
                let mut via = Via::parse(&first)?;
                via.transport = self.protocol.to_string().to_ascii_uppercase();
                via.host = host.clone();
                via.port = Some(self.address.port());
                message.headers.remove(&HeaderName::Via);
                message.headers.push_first(HeaderName::Via, via.to_string())?;
                for other in vias {
                    message.headers.push(HeaderName::Via, other)?;
                }
            }
        }
        let contacts: Vec<NameAddr> = message.contacts()?;
        if contacts.is_empty() {
            return Ok(());
        }
        message.headers.remove(&HeaderName::Contact);
        for mut contact in contacts {
            contact.uri.host = host.clone();
            contact.uri.port = Some(self.address.port());
            contact.uri.params.set("transport", Some(&self.protocol.to_string()));
            message.headers.push(HeaderName::Contact, contact.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_sip::{Method, Uri};

    use super::*;

    #[test]
    fn our_name_on_the_trunk_becomes_an_address() {
        let mut message =
            Message::request(Method::Subscribe, Uri::parse("sip:1001@p.example").unwrap());
        message.headers.push(HeaderName::Via, "SIP/2.0/TLS core;branch=z9hG4bK1").unwrap();
        message.headers.push(HeaderName::Contact, "<sip:alice@core;gr=x>").unwrap();
        let face = Face { address: "[fd00::1]:5060".parse().unwrap(), protocol: HopProtocol::Tcp };
        face.put_on(&mut message).unwrap();
        let get = |name| message.headers.get(&name).unwrap().into_owned();
        assert_eq!(get(HeaderName::Via), "SIP/2.0/TCP [fd00::1]:5060;branch=z9hG4bK1");
        assert_eq!(get(HeaderName::Contact), "<sip:alice@[fd00::1]:5060;gr=x;transport=tcp>");
    }
}
