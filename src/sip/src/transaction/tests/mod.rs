mod limits;
mod matching;
mod tables;
mod timers;

use std::time::Duration;

use super::*;

const TLS: Flow = Flow { id: 1, reliable: true };
const UDP: Flow = Flow { id: 2, reliable: false };

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    Instant::now()
}

fn message(text: &str) -> Message {
    let text = text.replace('\n', "\r\n");
    crate::Framer::datagram(crate::Limits::default(), text.as_bytes()).unwrap()
}

fn request(method: &str, branch: &str) -> Message {
    message(&format!(
        "{method} sip:bob@ours.test SIP/2.0\nVia: SIP/2.0/TLS pc.them.test:5061{branch}\n\
         Max-Forwards: 70\nFrom: <sip:alice@them.test>;tag=a\nTo: <sip:bob@ours.test>\n\
         Call-ID: c1\nCSeq: 1 {method}\nContent-Length: 0\n\n"
    ))
}

fn response(of: &Message, status: u16) -> Message {
    Message::response_to(of, Status::of(status), Some("b"))
}

fn transactions(role: Role) -> Transactions {
    Transactions::new(role, TransactionLimits::default())
}

/// What came out, in one line.
fn out(all: &mut Transactions) -> String {
    let mut line = Vec::new();
    while let Some(event) = all.poll_event() {
        line.push(match event {
            TransactionEvent::Request { request, .. } => {
                format!("request {}", request.method().unwrap())
            }
            TransactionEvent::Ack { .. } => "ack".into(),
            TransactionEvent::Cancelled { .. } => "cancelled".into(),
            TransactionEvent::Response { response, .. } => {
                format!("response {}", response.status().unwrap())
            }
            TransactionEvent::Failed { timed_out, .. } => {
                if timed_out {
                    "timed out".into()
                } else {
                    "broken".into()
                }
            }
            TransactionEvent::Full { whose, domain } => {
                format!("{whose:?} {}", domain.map(|domain| domain.to_string()).unwrap_or_default())
            }
            TransactionEvent::Stray { .. } => "stray".to_owned(),
        });
    }
    while let Some((_, message)) = all.poll_transmit() {
        line.push(match message.status() {
            Some(status) => format!("> {status} {}", message.cseq().unwrap().method),
            None => format!("> {}", message.method().unwrap()),
        });
    }
    if line.is_empty() { "-".into() } else { line.join(", ") }
}

/// Steps the clock from deadline to deadline; tells when what happened, in milliseconds.
fn run(all: &mut Transactions, from: Instant) -> String {
    let mut lines = Vec::new();
    while let Some(at) = all.poll_timeout() {
        all.handle_timeout(at);
        lines.push(format!("{} {}", at.duration_since(from).as_millis(), out(all)));
    }
    lines.join("\n")
}
