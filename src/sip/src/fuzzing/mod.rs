//! What must hold whatever bytes come. Each fuzz target of testbed/fuzz is one call from here; what
//! fuzzing found is replayed by the tests at the end.

#![allow(clippy::expect_used, clippy::panic, reason = "a property that does not hold must panic")]

mod dialog;
mod documents;

pub use self::dialog::check_sip_dialog;
pub use self::documents::{check_sip_pidf, check_sip_sdp};
pub use crate::check_token;

use crate::{Framer, Limits, Message, NameAddr, Received, Uri, Via};

const LIMITS: Limits = Limits { head_max: 2048, body_max: 512, headers_max: 32 };

/// The same messages however the bytes are cut; nothing beyond the limits; written and read again
/// they are equal; no value breaks a line; dead is dead.
pub fn check_sip_framer(data: &[u8]) {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1), "cut into bytes it is something else");
    for message in &whole.0 {
        assert!(message.body.len() <= LIMITS.body_max);
        for header in message.headers.iter() {
            assert!(!header.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        }
        let written = message.to_bytes();
        let again = Framer::datagram(Limits::default(), &written).expect("what we wrote is read");
        assert_eq!(again.to_bytes(), written);
        assert_eq!((&again.start, &again.body), (&message.start, &message.body));
        check_accessors(message);
    }
}

/// Messages and, at the end, why no more are read.
fn read(data: &[u8], step: usize) -> (Vec<Message>, Option<&'static str>) {
    let mut framer = Framer::new(LIMITS);
    let mut messages = Vec::new();
    for piece in data.chunks(step) {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(Received::Message(message))) => {
                    assert!(message.headers.len() <= LIMITS.headers_max);
                    messages.push(message);
                }
                Ok(Some(Received::Ping | Received::Pong)) => {}
                Ok(Some(Received::Unusable(fault))) => messages.extend(answer(fault.answer)),
                Err(error) => {
                    messages.extend(answer(error.answer));
                    assert!(framer.next().is_err_and(|error| error.answer.is_none()));
                    return (messages, Some(error.why));
                }
            }
        }
    }
    (messages, None)
}

/// The answer to a refused head repeats all its Vias, however many lines were too many; what is
/// not UTF-8 takes three bytes for one.
fn answer(answer: Option<Box<Message>>) -> Option<Message> {
    let answer = *answer?;
    assert!(answer.to_bytes().len() <= 4 * LIMITS.head_max);
    Some(answer)
}

/// No accessor panics, and what `check` lets through has all that must be there.
fn check_accessors(message: &Message) {
    let good = message.check().is_ok();
    let typed = message.from().is_ok()
        && message.to().is_ok()
        && message.call_id().is_ok()
        && message.cseq().is_ok()
        && message.vias().is_ok_and(|vias| !vias.is_empty());
    assert!(!good || typed);
    for via in message.vias().unwrap_or_default() {
        assert_eq!(Via::parse(&via.to_string()), Ok(via));
    }
    let addresses = [message.contacts(), message.routes(), message.record_routes()];
    for address in addresses.into_iter().flatten().flatten() {
        assert_eq!(NameAddr::parse(&address.to_string()), Ok(address));
    }
    let _ = (message.event(), message.expires(), message.subscription_state());
    let _ = (message.content_type(), message.warnings(), message.max_forwards());
    let answer = Message::response_to(message, crate::Status::of(200), Some("tag"));
    assert!(!good || answer.check().is_ok());
}

/// A URI that is written reads back as the same, and can stand in a line and between brackets.
pub fn check_sip_uri(data: &[u8]) {
    let Some(uri) = str::from_utf8(data).ok().and_then(|text| Uri::parse(text).ok()) else {
        return;
    };
    let text = uri.to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte)));
    assert_eq!(Uri::parse(&text), Ok(uri.clone()), "{text:?}");
    assert!(uri.equivalent(&uri));
    let _ = uri.user_decoded();
    if let Some(domain) = uri.domain() {
        let made = Uri::sip(uri.user_decoded().as_deref(), &domain);
        let text = made.to_string();
        // Percent signs may make it longer than we take.
        if text.len() <= crate::uri::BYTES_MAX {
            assert_eq!(Uri::parse(&text), Ok(made));
        }
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::replay;

    use super::*;

    #[test]
    fn corpus_of_messages_still_holds() {
        replay("sip_framer", check_sip_framer);
    }

    #[test]
    fn corpus_of_uris_still_holds() {
        replay("sip_uri", check_sip_uri);
    }

    #[test]
    fn corpus_of_dialogs_still_holds() {
        replay("sip_dialog", check_sip_dialog);
    }

    #[test]
    fn corpus_of_tokens_still_holds() {
        replay("sip_token", check_token);
    }

    #[test]
    fn corpus_of_documents_still_holds() {
        replay("sip_pidf", check_sip_pidf);
        replay("sip_sdp", check_sip_sdp);
    }
}
