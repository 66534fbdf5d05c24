//! A SIP server of the inside in the test's hand.

use std::collections::VecDeque;
use std::net::SocketAddr;

use gatehouse_net::BoxedIo;
use gatehouse_sip::{Framer, Limits, Message, Received, Status};
use gatehouse_tls::{Acceptor, Connector};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

pub(super) const LIMITS: Limits = Limits { head_max: 16_384, body_max: 65_536, headers_max: 64 };

pub(super) struct Peer {
    io: BoxedIo,
    framer: Framer,
    last: u32,
    /// What was not asked for yet.
    waiting: VecDeque<Message>,
}

/// A request outside a dialog.
pub(super) fn text(method: &str, from: &str, to: &str, call: &str, more: &str) -> String {
    let (more, body) = match method {
        "SUBSCRIBE" => (
            "Event: presence\r\nExpires: 3600\r\nAccept: application/pidf+xml\r\n\
             Contact: <sip:1001@127.0.0.1:5070>\r\n",
            "",
        ),
        "MESSAGE" => ("Content-Type: text/plain\r\n", more),
        _ => ("", ""),
    };
    format!(
        "{method} {to} SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5070;branch=z9hG4bK{call}\r\n\
         From: <{from}>;tag=t{call}\r\nTo: <{to}>\r\nCall-ID: c{call}\r\nCSeq: 1 {method}\r\n\
         Max-Forwards: 70\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Peer {
    fn new(io: BoxedIo) -> Self {
        Self { io, framer: Framer::new(LIMITS), last: 0, waiting: VecDeque::new() }
    }

    pub(super) async fn tcp(address: SocketAddr) -> Self {
        Self::new(Box::new(TcpStream::connect(address).await.unwrap()))
    }

    pub(super) async fn tls(address: SocketAddr, connector: &Connector, own: &str) -> Option<Self> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let ours = "ours.example".parse().unwrap();
        let (io, _) = connector.connect(tcp, &ours, &own.parse().unwrap()).await.ok()?;
        Some(Self::new(Box::new(io)))
    }

    pub(super) async fn accept(listener: &TcpListener) -> Self {
        let (tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        Self::new(Box::new(tcp))
    }

    pub(super) async fn accept_tls(listener: &TcpListener, acceptor: &Acceptor) -> Option<Self> {
        let (tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let (io, _) = acceptor.accept(tcp, None).await.ok()?;
        Some(Self::new(Box::new(io)))
    }

    /// The next message; `None` at the end. OPTIONS is answered in passing.
    async fn next(&mut self) -> Option<Message> {
        loop {
            match self.framer.next().unwrap() {
                Some(Received::Message(message)) => {
                    let is_options =
                        message.method().is_some_and(|method| method.to_string() == "OPTIONS");
                    if is_options && message.status().is_none() {
                        self.answer(&message, 200).await;
                        continue;
                    }
                    return Some(message);
                }
                Some(_) => continue,
                None => {}
            }
            let mut bytes = [0; 4096];
            match timeout(PATIENCE, self.io.read(&mut bytes)).await.unwrap() {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.framer.push(&bytes[..count]),
            }
        }
    }

    pub(super) async fn is_closed(&mut self) -> bool {
        self.next().await.is_none()
    }

    async fn answer(&mut self, request: &Message, status: u16) {
        let answer = Message::response_to(request, Status::of(status), Some("far"));
        self.io.write_all(&answer.to_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    async fn ask(&mut self, request: &str) -> u16 {
        self.io.write_all(request.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
        loop {
            let message = self.next().await.unwrap();
            match message.status() {
                Some(status) if status.is_final() => return status.code(),
                Some(_) => {}
                None => self.waiting.push_back(message),
            }
        }
    }

    fn call(&mut self) -> String {
        self.last += 1;
        self.last.to_string()
    }

    pub(super) async fn message(&mut self, from: &str, to: &str, body: &str) -> u16 {
        let call = self.call();
        self.ask(&text("MESSAGE", from, to, &call, body)).await
    }

    /// A message whose software says what else it takes.
    pub(super) async fn message_allowing(&mut self, from: &str, to: &str, allow: &str) -> u16 {
        let call = self.call();
        let request = text("MESSAGE", from, to, &call, "hi");
        let allow = format!("Allow: {allow}\r\nContent-Length");
        self.ask(&request.replacen("Content-Length", &allow, 1)).await
    }

    pub(super) async fn subscribe(&mut self, from: &str, to: &str) -> u16 {
        let call = self.call();
        self.ask(&text("SUBSCRIBE", from, to, &call, "")).await
    }

    pub(super) async fn options(&mut self) -> u16 {
        let call = self.call();
        self.ask(&text("OPTIONS", "sip:127.0.0.1", "sip:127.0.0.1", &call, "")).await
    }

    /// The next request, of this method; answered 200.
    pub(super) async fn request(&mut self, method: &str) -> Message {
        self.refuse(method, 200).await
    }

    /// The next request, of this method; answered so.
    pub(super) async fn refuse(&mut self, method: &str, status: u16) -> Message {
        let message = match self.waiting.pop_front() {
            Some(message) => message,
            None => self.next().await.unwrap(),
        };
        assert_eq!(message.method().unwrap().to_string(), method);
        self.answer(&message, status).await;
        message
    }
}
