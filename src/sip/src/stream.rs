use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse_types::Machine;

use crate::{Framer, Limits, Message, Received};

/// CRLF CRLF and its answer (RFC 5626 section 3.5.1).
const PING: &[u8] = b"\r\n\r\n";
const PONG: &[u8] = b"\r\n";

/// One connection that carries SIP (TCP or TLS): cuts it into messages, keeps it alive, ends it.
///
/// A framing error is answered where an answer can be made, and ends the stream: what comes after
/// it cannot be told apart from an attack.
#[derive(Debug)]
pub struct SipStream {
    config: StreamConfig,
    framer: Framer,
    events: VecDeque<StreamEvent>,
    out: VecDeque<Bytes>,
    /// When something was last read; pings do not count as life of the peer's users.
    message_at: Instant,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    heard_message: bool,
    closed: bool,
}

/// How one stream behaves.
#[derive(Clone, Copy, Debug)]
pub struct StreamConfig {
    /// Bounds of each message.
    pub limits: Limits,
    /// How long the first message may take.
    pub first_message_within: Option<Duration>,
    /// How long the peer may be silent before we send a ping.
    pub ping_after: Option<Duration>,
    /// How long after our ping the peer must be heard, whatever it says; `None` where the peer did
    /// not promise to answer.
    pub pong_within: Option<Duration>,
    /// How long no message may come or go before we close.
    pub idle_max: Option<Duration>,
}

/// What a stream tells its owner.
#[derive(Debug)]
pub enum StreamEvent {
    /// A whole message.
    Message(Message),
    /// The stream is over; nothing comes after this.
    Ended(StreamEnd),
}

/// Why a stream is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StreamEnd {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed it in the middle of a message.
    #[error("the peer closed the connection in the middle of a message")]
    Cut,
    /// It cannot be read on.
    #[error("what came is not SIP: {0}")]
    Framing(&'static str),
    /// Our ping was not answered.
    #[error("the peer did not answer a keep-alive")]
    Silent,
    /// No message for too long.
    #[error("no message for too long")]
    Idle,
    /// We are stopping.
    #[error("we are stopping")]
    Stopped,
}

impl SipStream {
    /// A connection's start.
    pub fn new(config: StreamConfig, now: Instant) -> Self {
        Self {
            config,
            framer: Framer::new(config.limits),
            events: VecDeque::new(),
            out: VecDeque::new(),
            message_at: now,
            heard_at: now,
            pinged_at: None,
            heard_message: false,
            closed: false,
        }
    }

    /// Writes a message. Nothing is written once the stream is over.
    pub fn send(&mut self, message: &Message, now: Instant) {
        if !self.closed {
            self.message_at = now;
            self.out.push_back(message.to_bytes());
        }
    }

    /// Says that we are there, unasked: for an owner that does not read at the moment. An empty line
    /// between messages means nothing else (RFC 3261 section 7.5).
    pub fn say_alive(&mut self) {
        if !self.closed {
            self.out.push_back(Bytes::from_static(PONG));
        }
    }

    /// What the peer said in the meantime was not read, so its silence means nothing.
    pub fn forgive_silence(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged_at = None;
    }

    fn end(&mut self, end: StreamEnd) {
        if !self.closed {
            self.closed = true;
            self.events.push_back(StreamEvent::Ended(end));
        }
    }

    fn read(&mut self, now: Instant) {
        while !self.closed {
            match self.framer.next() {
                Ok(None) => return,
                Ok(Some(Received::Ping)) => self.out.push_back(Bytes::from_static(PONG)),
                Ok(Some(Received::Pong)) => {}
                Ok(Some(Received::Message(message))) => {
                    self.message_at = now;
                    self.heard_message = true;
                    self.events.push_back(StreamEvent::Message(message));
                }
                // Where it ends is certain, so the rest of the stream is still good.
                Ok(Some(Received::Unusable(fault))) => {
                    if let Some(answer) = &fault.answer {
                        self.out.push_back(answer.to_bytes());
                    }
                }
                Err(error) => {
                    if let Some(answer) = &error.answer {
                        self.out.push_back(answer.to_bytes());
                    }
                    self.end(StreamEnd::Framing(error.why));
                }
            }
        }
    }

    /// The deadlines that are running, each with what it means.
    fn deadlines(&self) -> [Option<(Instant, Due)>; 4] {
        let after =
            |from: Instant, wait: Option<Duration>, due| wait.map(|wait| (from + wait, due));
        let first = self.config.first_message_within.filter(|_| !self.heard_message);
        let pong = self.pinged_at.and_then(|at| after(at, self.config.pong_within, Due::Silent));
        let ping = self.config.ping_after.filter(|_| self.pinged_at.is_none());
        [
            after(self.message_at, first, Due::Idle),
            after(self.message_at, self.config.idle_max, Due::Idle),
            after(self.heard_at, ping, Due::Ping),
            pong,
        ]
    }
}

#[derive(Clone, Copy)]
enum Due {
    Ping,
    Silent,
    Idle,
}

impl Machine for SipStream {
    type Event = StreamEvent;

    fn handle_data(&mut self, data: &[u8], now: Instant) {
        if self.closed {
            return;
        }
        self.heard_at = now;
        self.pinged_at = None;
        self.framer.push(data);
        self.read(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        for (at, due) in self.deadlines().into_iter().flatten() {
            if at > now || self.closed {
                continue;
            }
            match due {
                Due::Silent => self.end(StreamEnd::Silent),
                Due::Idle => self.end(StreamEnd::Idle),
                Due::Ping => {
                    self.out.push_back(Bytes::from_static(PING));
                    // Without a promised answer the next ping follows after the same silence.
                    match self.config.pong_within {
                        Some(_) => self.pinged_at = Some(now),
                        None => self.heard_at = now,
                    }
                }
            }
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        let end =
            if self.framer.is_between_messages() { StreamEnd::Closed } else { StreamEnd::Cut };
        self.end(end);
    }

    fn handle_shutdown(&mut self, _now: Instant) {
        self.end(StreamEnd::Stopped);
    }

    fn poll_event(&mut self) -> Option<StreamEvent> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        self.deadlines().into_iter().flatten().map(|(at, _)| at).min()
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const CONFIG: StreamConfig = StreamConfig {
        limits: Limits { head_max: 4096, body_max: 4096, headers_max: 32 },
        first_message_within: Some(Duration::from_secs(30)),
        ping_after: Some(Duration::from_secs(20)),
        pong_within: Some(Duration::from_secs(10)),
        idle_max: Some(Duration::from_secs(600)),
    };

    const OPTIONS: &str = "OPTIONS sip:ours.example SIP/2.0\r\n\
        Via: SIP/2.0/TLS them.example;branch=z9hG4bK1\r\n\
        From: <sip:them.example>;tag=1\r\nTo: <sip:ours.example>\r\nCall-ID: 1\r\n\
        CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

    #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
    fn stream() -> (SipStream, Instant) {
        let now = Instant::now();
        (SipStream::new(CONFIG, now), now)
    }

    /// What happened and what was written, as text.
    fn said(stream: &mut SipStream) -> String {
        let mut text = String::new();
        while let Some(event) = stream.poll_event() {
            match event {
                StreamEvent::Message(message) => {
                    text += &format!(
                        "{} ",
                        message.method().map_or_else(|| "?".into(), |m| m.to_string())
                    );
                }
                StreamEvent::Ended(end) => text += &format!("[{end}] "),
            }
        }
        while let Some(bytes) = stream.poll_transmit() {
            let line = String::from_utf8_lossy(&bytes).into_owned();
            let line = line.split_inclusive("\r\n").next().unwrap_or_default();
            text += &format!("> {line:?} ");
        }
        text.trim_end().to_owned()
    }

    #[test]
    fn a_ping_is_answered_between_messages() {
        let (mut stream, now) = stream();
        stream.handle_data(format!("\r\n\r\n{OPTIONS}\r\n\r\n").as_bytes(), now);
        assert_eq!(said(&mut stream), r#"OPTIONS > "\r\n" > "\r\n""#);
    }

    #[test]
    fn a_silent_peer_is_asked_and_given_up() {
        let (mut stream, now) = stream();
        stream.handle_data(OPTIONS.as_bytes(), now);
        assert_eq!(said(&mut stream), "OPTIONS");
        assert_eq!(stream.poll_timeout(), Some(now + 20 * SECOND));
        stream.handle_timeout(now + 20 * SECOND);
        assert_eq!(said(&mut stream), r#"> "\r\n""#);
        stream.handle_data(b"\r\n", now + 21 * SECOND);
        stream.handle_timeout(now + 31 * SECOND);
        assert_eq!(said(&mut stream), "", "it answered");
        stream.handle_timeout(now + 41 * SECOND);
        stream.handle_timeout(now + 51 * SECOND);
        assert_eq!(said(&mut stream), r#"[the peer did not answer a keep-alive] > "\r\n""#);
        assert!(stream.is_closed() && stream.poll_timeout().is_none());
    }

    #[test]
    fn who_says_nothing_that_counts_is_sent_away() {
        let (mut stream, now) = stream();
        stream.handle_data(b"\r\n\r\n", now + 29 * SECOND);
        stream.handle_timeout(now + 30 * SECOND);
        assert_eq!(said(&mut stream), r#"[no message for too long] > "\r\n""#);
    }

    #[test]
    fn a_framing_error_is_the_last_thing_that_is_read() {
        let (mut stream, now) = stream();
        let broken = OPTIONS.replace("Content-Length: 0", "Content-Length: -1");
        stream.handle_data(format!("{broken}{OPTIONS}").as_bytes(), now);
        let said = said(&mut stream);
        assert!(said.starts_with("[what came is not SIP"), "{said}");
        assert!(said.contains("> \"SIP/2.0 400 "), "{said}");
        assert!(!said.contains("OPTIONS"), "{said}");
    }

    #[test]
    fn the_end_tells_whether_something_was_cut() {
        for (sent, end) in [
            (OPTIONS, "OPTIONS [the peer closed the connection]"),
            ("OPTIONS sip:", "[the peer closed the connection in the middle of a message]"),
        ] {
            let (mut stream, now) = stream();
            stream.handle_data(sent.as_bytes(), now);
            stream.handle_eof(now);
            assert_eq!(said(&mut stream), end);
        }
    }
}
