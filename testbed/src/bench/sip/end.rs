use std::time::Duration;

use gatehouse_tls::Io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::bench::wire::broken;
use crate::failure::Failure;
use crate::nodes::text::message_length;

const READ_AT_ONCE: usize = 64 * 1024;
/// How long one request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const BODY: &str = "Two households, both alike in dignity, in fair Verona, where we lay our scene, \
                    from ancient grudge..";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Requests to send, never more than a window of them unanswered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls<'a> {
    /// Who asks, `user@domain`.
    pub(crate) from: &'a str,
    /// Who is asked.
    pub(crate) to: &'a str,
    /// How many may be under way.
    pub(crate) window: u64,
    /// How many go into one write.
    pub(crate) batch: u64,
}

/// One end of a SIP connection over TLS. It answers every request with 200 and every keep-alive,
/// and knows no more of SIP than that takes: the servers under test do, and it has to cost less.
/// It writes before it reads, so what is under way has to fit into the buffers on the way; if it does
/// not, the run fails within 10 s.
pub(crate) struct End {
    io: Box<dyn Io>,
    heard: Vec<u8>,
    /// What is to be written, and how much of it has been.
    out: Vec<u8>,
    written: usize,
    buffer: Vec<u8>,
    /// Tells the requests of this connection from those of others.
    name: String,
    sent: u64,
    answered: u64,
    served: u64,
}

impl End {
    /// An end whose Call-IDs and branches begin with `name`.
    pub(crate) fn new(io: Box<dyn Io>, name: String) -> Self {
        Self {
            io,
            heard: Vec::new(),
            out: Vec::new(),
            written: 0,
            buffer: vec![0; READ_AT_ONCE],
            name,
            sent: 0,
            answered: 0,
            served: 0,
        }
    }

    /// Answers what comes until the connection breaks, or this is dropped.
    pub(crate) async fn serve(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.turn().await {
                return failure;
            }
        }
    }

    /// Answers what comes until this many requests were answered on this connection.
    pub(crate) async fn serve_until(&mut self, served: u64) -> Result<(), Failure> {
        let late = |_| Failure::world("no request within 10 s");
        let serving = async {
            while self.served < served {
                self.turn().await?;
            }
            self.write().await
        };
        timeout(ANSWER_WITHIN, serving).await.map_err(late)?
    }

    /// Sends `count` MESSAGEs and returns when the last was answered. Any answer but 200 fails.
    pub(crate) async fn call(&mut self, calls: &Calls<'_>, count: u64) -> Result<(), Failure> {
        let end = self.sent + count;
        while self.answered < end {
            let room = calls.window - (self.sent - self.answered).min(calls.window);
            for _ in 0..room.min(calls.batch).min(end - self.sent) {
                self.sent += 1;
                let (name, number, from, to) = (&self.name, self.sent, calls.from, calls.to);
                let domain = from.split_once('@').map_or(from, |(_, domain)| domain);
                let length = BODY.len();
                let request = format!(
                    "MESSAGE sip:{to} SIP/2.0\r\nVia: SIP/2.0/TLS sip.{domain}:5061;branch=z9hG4bK{name}{number}\r\n\
                     Max-Forwards: 70\r\nFrom: <sip:{from}>;tag={name}{number}\r\nTo: <sip:{to}>\r\n\
                     Call-ID: {name}-{number}\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\n\
                     Content-Length: {length}\r\n\r\n{BODY}"
                );
                self.out.extend_from_slice(request.as_bytes());
            }
            let late = |_| Failure::world("no answer within 10 s");
            timeout(ANSWER_WITHIN, self.turn()).await.map_err(late)??;
        }
        Ok(())
    }

    /// One OPTIONS, and its answer: after that the connection is more than a handshake.
    pub(crate) async fn ask(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        self.sent += 1;
        let (name, number) = (&self.name, self.sent);
        let request = format!(
            "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/TLS sip.{from}:5061;branch=z9hG4bK{name}{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{from}>;tag={name}{number}\r\nTo: <sip:{to}>\r\n\
             Call-ID: {name}-{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        self.out.extend_from_slice(request.as_bytes());
        while self.answered < self.sent {
            let late = |_| Failure::world("no answer to OPTIONS within 10 s");
            timeout(ANSWER_WITHIN, self.turn()).await.map_err(late)??;
        }
        Ok(())
    }

    /// Whether the other side has not closed it.
    pub(crate) async fn is_open(&mut self) -> bool {
        match timeout(Duration::ZERO, self.io.read(&mut self.buffer)).await {
            Err(_) => true,
            Ok(read) => read.is_ok_and(|count| count > 0),
        }
    }

    /// Closes it without waiting for anything.
    pub(crate) async fn close(mut self) {
        // It may be gone already; nothing more is measured on it.
        let _gone = self.io.shutdown().await;
    }

    /// Writes what waits, reads once, and answers. Cancel-safe.
    async fn turn(&mut self) -> Result<(), Failure> {
        self.write().await?;
        let count = self.io.read(&mut self.buffer).await.map_err(broken)?;
        if count == 0 {
            return Err(Failure::world("a SIP connection was closed"));
        }
        self.heard.extend(self.buffer.iter().take(count));
        let mut heard = std::mem::take(&mut self.heard);
        let mut rest = heard.as_slice();
        loop {
            if let Some(after) = rest.strip_prefix(HEAD_END) {
                self.out.extend_from_slice(b"\r\n");
                rest = after;
            } else if let Some(after) = rest.strip_prefix(b"\r\n") {
                // Half a keep-alive, or the answer to one: neither needs more.
                if after.is_empty() {
                    break;
                }
                rest = after;
            } else {
                let Some(length) = message_length(rest) else { break };
                let (message, after) = rest.split_at(length);
                self.take(message)?;
                rest = after;
            }
        }
        let done = heard.len() - rest.len();
        heard.drain(..done);
        self.heard = heard;
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Failure> {
        while self.written < self.out.len() {
            let rest = self.out.get(self.written..).unwrap_or_default();
            self.written += self.io.write(rest).await.map_err(broken)?;
        }
        if !self.out.is_empty() {
            self.io.flush().await.map_err(broken)?;
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }

    fn take(&mut self, message: &[u8]) -> Result<(), Failure> {
        if message.starts_with(b"SIP/2.0 ") {
            if !message.starts_with(b"SIP/2.0 200 ") {
                let text = String::from_utf8_lossy(message);
                return Err(Failure::world(format!("a request was answered: {text}")));
            }
            self.answered += 1;
            return Ok(());
        }
        self.served += 1;
        self.out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        for line in message.split_inclusive(|byte| *byte == b'\n').skip(1) {
            if line == b"\r\n" {
                break;
            }
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if name.eq_ignore_ascii_case(b"to") && !contains(line, b";tag=") {
                self.out.extend_from_slice(line.trim_ascii_end());
                self.out.extend_from_slice(b";tag=bench\r\n");
            } else if [&b"via"[..], b"record-route", b"from", b"to", b"call-id", b"cseq"]
                .iter()
                .any(|copied| name.eq_ignore_ascii_case(copied))
            {
                self.out.extend_from_slice(line);
            }
        }
        self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        Ok(())
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const CALLS: Calls<'static> =
        Calls { from: "a@far.example", to: "b@near.example", window: 5, batch: 3 };
    const ONE_BY_ONE: Calls<'static> = Calls { window: 1, batch: 1, ..CALLS };

    #[test]
    fn a_message_ends_where_its_content_length_says() {
        let text = b"A x SIP/2.0\r\nTo: x\r\ncontent-LENGTH: 2\r\n\r\nabB y";
        assert_eq!(message_length(text), Some(text.len() - 3));
        for cut in 0..text.len() - 3 {
            assert_eq!(message_length(&text[..cut]), None, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn two_ends_talk_to_each_other_however_the_bytes_are_cut() {
        for (size, calls) in [(1, ONE_BY_ONE), (7, ONE_BY_ONE), (64, ONE_BY_ONE), (4096, CALLS)] {
            let (one, two) = duplex(size);
            let mut caller = End::new(Box::new(one), "x".into());
            let mut server = End::new(Box::new(two), "y".into());
            tokio::select! {
                called = caller.call(&calls, 20) => called.unwrap(),
                failure = server.serve() => panic!("{failure}"),
            }
            assert_eq!((caller.answered, server.served), (20, 20), "{size} bytes at a time");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_a_failure_and_a_ping_is_answered() {
        let (one, mut two) = duplex(4096);
        let mut caller = End::new(Box::new(one), "x".into());
        two.write_all(b"\r\n\r\nSIP/2.0 503 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let refused = caller.call(&CALLS, 1).await.unwrap_err().to_string();
        assert!(refused.contains("503 No"), "{refused}");
        assert_eq!(caller.out, b"\r\n");
    }
}
