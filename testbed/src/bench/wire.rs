use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gatehouse_tls::{Acceptor, Connector, Io};
use gatehouse_types::Domain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::Failure;

/// How long any answer of a stream negotiation may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const READ_AT_ONCE: usize = 16 * 1024;

/// A connection on which we say lines of a script and wait for words in the answers. It knows no
/// XML: the servers under test do, and the driver has to cost less than they.
pub(crate) struct Wire {
    io: Box<dyn Io>,
    heard: Vec<u8>,
}

impl Wire {
    /// Dials.
    pub(crate) async fn dial(address: SocketAddr) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::world(format!("cannot dial {address}: {error}"));
        Self::over(TcpStream::connect(address).await.map_err(failed)?)
    }

    /// Takes a connection.
    pub(crate) fn over(tcp: TcpStream) -> Result<Self, Failure> {
        tcp.set_nodelay(true).map_err(broken)?;
        Ok(Self { io: Box::new(tcp), heard: Vec::new() })
    }

    /// Sends.
    pub(crate) async fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.io.write_all(text.as_bytes()).await.map_err(broken)?;
        self.io.flush().await.map_err(broken)
    }

    /// Waits for the first of `words`, forgets all up to its end, and returns that.
    pub(crate) async fn hear(&mut self, words: &[&str]) -> Result<String, Failure> {
        self.hear_within(words, ANSWER_WITHIN).await
    }

    /// The same, for what may take longer.
    pub(crate) async fn hear_within(
        &mut self,
        words: &[&str],
        within: Duration,
    ) -> Result<String, Failure> {
        let wanted = timeout(within, self.hear_whenever(words)).await;
        wanted.unwrap_or_else(|_| {
            let heard = String::from_utf8_lossy(&self.heard).into_owned();
            Err(Failure::world(format!("waited in vain for {words:?}, heard `{heard}`")))
        })
    }

    async fn hear_whenever(&mut self, words: &[&str]) -> Result<String, Failure> {
        loop {
            let end = words.iter().filter_map(|word| end_of(&self.heard, word.as_bytes())).min();
            if let Some(end) = end {
                let rest = self.heard.split_off(end);
                let heard = std::mem::replace(&mut self.heard, rest);
                return Ok(String::from_utf8_lossy(&heard).into_owned());
            }
            for refusal in ["<stream:error", "<failure"] {
                if end_of(&self.heard, refusal.as_bytes()).is_some() {
                    let heard = String::from_utf8_lossy(&self.heard).into_owned();
                    return Err(Failure::world(format!("refused: {heard}")));
                }
            }
            let mut more = vec![0; READ_AT_ONCE];
            let count = self.io.read(&mut more).await.map_err(broken)?;
            if count == 0 {
                let heard = String::from_utf8_lossy(&self.heard).into_owned();
                return Err(Failure::world(format!("closed instead of {words:?}: {heard}")));
            }
            self.heard.extend(more.iter().take(count));
        }
    }

    /// Shakes hands as the side that dialled. Whom the other side is, nobody asks: it is ours.
    pub(crate) async fn secure_as_client(
        self,
        connector: &Connector,
        server: &Domain,
        own: &Domain,
    ) -> Result<Self, Failure> {
        let handshake = Box::pin(connector.connect(self.io, server, own));
        let (io, _) = timeout(ANSWER_WITHIN, handshake).await.map_err(late)?.map_err(broken)?;
        Ok(Self { io, heard: Vec::new() })
    }

    /// Shakes hands as the side that was dialled.
    pub(crate) async fn secure_as_server(self, acceptor: &Acceptor) -> Result<Self, Failure> {
        let handshake = Box::pin(acceptor.accept(self.io, None));
        let (io, _) = timeout(ANSWER_WITHIN, handshake).await.map_err(late)?.map_err(broken)?;
        Ok(Self { io, heard: Vec::new() })
    }

    /// Whether the other side has neither closed the stream nor the connection.
    pub(crate) async fn is_open(&mut self) -> bool {
        let mut more = vec![0; READ_AT_ONCE];
        match timeout(Duration::ZERO, self.io.read(&mut more)).await {
            Err(_) => true,
            Ok(Ok(count)) => {
                let text = more.get(..count).unwrap_or_default();
                count > 0 && end_of(text, b"</stream:stream").is_none()
            }
            Ok(Err(_)) => false,
        }
    }

    /// The connection for messages, once everything is negotiated.
    pub(crate) fn io(&mut self) -> &mut Box<dyn Io> {
        &mut self.io
    }

    /// Closes the stream without waiting for anything.
    pub(crate) async fn close(mut self) {
        // It may be gone already; nothing more is measured on it.
        let _gone = self.say("</stream:stream>").await;
        let _gone = self.io.shutdown().await;
    }
}

pub(crate) fn broken(error: io::Error) -> Failure {
    Failure::world(format!("a connection broke: {error}"))
}

fn late(_: tokio::time::error::Elapsed) -> Failure {
    Failure::world(format!("no handshake within {ANSWER_WITHIN:?}"))
}

fn end_of(text: &[u8], word: &[u8]) -> Option<usize> {
    let begin = text.windows(word.len()).position(|window| window == word)?;
    Some(begin + word.len())
}

/// Counts how often a word has come by, however the bytes are cut.
#[derive(Debug)]
pub(crate) struct Counter {
    word: &'static [u8],
    matched: usize,
    count: u64,
}

impl Counter {
    /// For a word whose first byte is `<` and has no further `<`.
    pub(crate) fn new(word: &'static str) -> Self {
        Self { word: word.as_bytes(), matched: 0, count: 0 }
    }

    /// Takes more bytes; returns how often the word ended in them.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let before = self.count;
        while !bytes.is_empty() {
            if self.matched == 0 {
                let Some(begin) = bytes.iter().position(|byte| *byte == b'<') else { break };
                bytes = bytes.get(begin..).unwrap_or_default();
            }
            for (index, byte) in bytes.iter().enumerate() {
                if self.word.get(self.matched) != Some(byte) {
                    self.matched = 0;
                    // The byte that did not fit may begin the word: look at it again.
                    bytes = bytes
                        .get(if *byte == b'<' { index } else { index + 1 }..)
                        .unwrap_or_default();
                    break;
                }
                self.matched += 1;
                if self.matched == self.word.len() {
                    self.matched = 0;
                    self.count += 1;
                    bytes = bytes.get(index + 1..).unwrap_or_default();
                    break;
                }
                if index + 1 == bytes.len() {
                    bytes = &[];
                    break;
                }
            }
        }
        self.count - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_however_the_bytes_are_cut() {
        let text = b"<message></message></mess</message></message><</message> message>";
        for cut in 0..text.len() {
            let mut counter = Counter::new("</message>");
            let (one, two) = text.split_at(cut);
            assert_eq!(counter.take(one) + counter.take(two), 4, "cut at {cut}");
        }
    }
}
