//! `ezk-sip-types` and `rsip` as second opinions: where all accept a message, they read the same.
//!
//! Known differences, all on purpose: ezk reads `sip` and `sips` URIs only, no header that is not
//! UTF-8, takes a bare LF as a line end, and leaves framing to its caller. rsip refuses methods it
//! does not know, folded lines, IPv6, `;opaque=user:epid:x` in a Request-URI, and white space
//! before the colon; it drops all Vias of a line but the first, and takes what follows
//! Content-Length as body. Only messages without these are compared.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must fail"
)]

use ezk_sip_types::header::typed::{CSeq, CallID, FromTo, Via};
use ezk_sip_types::msg::{Line, MessageLine, PullParser};
use ezk_sip_types::parse::Parse as _;
use ezk_sip_types::{Headers, Name};
use gatehouse_sip::{Framer, Limits, Message};
use rsip::prelude::*;

fn messages() -> Vec<String> {
    let lync =
        "Via: SIP/2.0/TLS e.test:5061;branch=z9hG4bK1.A;branched=FALSE;ms-internal-info=\"a\"";
    let mut messages = Vec::new();
    for method in ["INVITE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "BYE", "ACK", "OPTIONS"] {
        for via in [lync, "Via: SIP/2.0/TCP a;branch=z9\r\nVia: SIP/2.0/UDP b:5060;rport"] {
            for from in ["\"Doe, B\" <sip:b@l.test;x=y>;tag=1;epid=a", "<sip:l.test:5061>;tag=2"] {
                messages.push(format!(
                    "{method} sip:alice@ours.test SIP/2.0\r\n{via}\r\nFrom: {from}\r\n\
                     To: <sip:alice@ours.test>\r\nCall-ID: a@b\r\nCSeq: 7 {method}\r\n\
                     Max-Forwards: 70\r\nContent-Length: 2\r\n\r\nhi"
                ));
            }
        }
    }
    messages
}

fn ours(text: &str) -> Message {
    let message = Framer::datagram(Limits::default(), text.as_bytes()).unwrap();
    assert_eq!(message.check(), Ok(()));
    message
}

#[test]
fn ezk_reads_the_same() {
    for text in messages() {
        let ours = ours(&text);
        let bytes = bytes::Bytes::from(text.clone());
        let mut parser = PullParser::new(&bytes, 0);
        let mut headers = Headers::new();
        let mut start = None;
        for line in &mut parser {
            let line = str::from_utf8(line.unwrap()).unwrap();
            if start.is_none() {
                start = Some(MessageLine::parse(&bytes)(line).unwrap().1);
            } else {
                let line = Line::parse(&bytes, line).unwrap().1;
                headers.insert(line.name, line.value);
            }
        }
        let Some(MessageLine::Request(line)) = start else { panic!("{text}") };
        let method = ours.method().unwrap();
        assert_eq!(line.method.to_string(), method.as_str());
        let cseq = headers.get_named::<CSeq>().unwrap();
        assert_eq!((cseq.cseq, cseq.method.to_string()), (7, method.to_string()));
        assert_eq!(headers.get_named::<CallID>().unwrap().0.to_string(), ours.call_id().unwrap());
        let from = headers.get::<FromTo>(Name::FROM).unwrap();
        assert_eq!(from.tag.map(|tag| tag.to_string()).as_deref(), ours.from().unwrap().tag());
        assert_eq!(headers.get_named::<Vec<Via>>().unwrap().len(), ours.vias().unwrap().len());
    }
}

#[test]
fn rsip_reads_the_same() {
    for text in messages() {
        let ours = ours(&text);
        let theirs = rsip::Request::try_from(text.as_bytes()).unwrap();
        assert_eq!(theirs.method().to_string(), ours.method().unwrap().as_str());
        assert_eq!(theirs.cseq_header().unwrap().typed().unwrap().seq, ours.cseq().unwrap().number);
        assert_eq!(theirs.call_id_header().unwrap().value(), ours.call_id().unwrap());
        let to = theirs.to_header().unwrap().typed().unwrap();
        assert_eq!(to.uri.to_string(), ours.to().unwrap().uri.to_string());
        let written = ours.to_bytes();
        let again = rsip::Request::try_from(written.as_ref()).unwrap();
        assert_eq!(
            (again.body(), again.headers().iter().count()),
            (theirs.body(), ours.headers.len())
        );
    }
}
