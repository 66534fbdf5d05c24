use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;

const ROOT: &str = "<stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'";

/// A server that knows no TLS and proves itself by dialback.
pub(crate) struct Old {
    tcp: TcpStream,
    said: String,
    id: String,
    pair: (&'static str, &'static str),
}

impl Old {
    /// Opens a stream as `from` to `to`, which answers with its header.
    pub(crate) async fn connect(
        address: SocketAddr,
        (from, to): (&'static str, &'static str),
    ) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut old = Self { tcp, said: String::new(), id: String::new(), pair: (from, to) };
        old.write(&format!("{ROOT} from='{from}' to='{to}' version='1.0'>")).await;
        let header = old.read_until("</stream:features>").await;
        let (_, rest) = header.split_once(" id=").expect("no id");
        let quote = rest.chars().next().unwrap();
        rest[1..].split_once(quote).unwrap().0.clone_into(&mut old.id);
        old
    }

    /// Offers a key, says that it is valid when asked, and waits until it is believed.
    pub(crate) async fn vouch(&mut self, listener: &TcpListener) {
        self.offer().await;
        let (from, to) = self.pair;
        let (tcp, _) = listener.accept().await.unwrap();
        let mut asked = Self { tcp, said: String::new(), id: String::new(), pair: (to, from) };
        asked.read_until(">").await;
        let features = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>\
            </stream:features>";
        asked
            .write(&format!("{ROOT} from='{from}' to='{to}' id='x' version='1.0'>{features}"))
            .await;
        asked.read_until("</db:verify>").await;
        let id = &self.id;
        asked.write(&format!("<db:verify from='{from}' to='{to}' id='{id}' type='valid'/>")).await;
        self.is_valid().await;
    }

    /// Waits until the stream has answered a key for the pair that is open.
    pub(crate) async fn is_open(&mut self) {
        self.offer().await;
        self.is_valid().await;
    }

    async fn is_valid(&mut self) {
        let answer = self.read_until("/>").await;
        assert!(answer.contains("valid") && !answer.contains("invalid"), "{answer}");
    }

    /// Offers a key for the pair.
    pub(crate) async fn offer(&mut self) {
        let (from, to) = self.pair;
        self.write(&format!("<db:result from='{from}' to='{to}'>key</db:result>")).await;
    }

    /// All that comes until the end.
    pub(crate) async fn rest(mut self) -> String {
        let end = self.tcp.read_to_string(&mut self.said);
        time::timeout(Duration::from_secs(10), end).await.expect("it goes on").unwrap();
        self.said
    }

    async fn write(&mut self, text: &str) {
        self.tcp.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = self.said.find(end) {
                    let rest = self.said.split_off(at + end.len());
                    return std::mem::replace(&mut self.said, rest);
                }
                let mut bytes = [0; 4096];
                let count = self.tcp.read(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "it ended: {}", self.said);
                self.said.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
        };
        time::timeout(Duration::from_secs(10), read).await.expect("no answer")
    }
}
