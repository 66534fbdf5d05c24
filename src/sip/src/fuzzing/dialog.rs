//! Dialogs, as a peer's messages make them and as the store gives them back.

use super::read;
use crate::{Dialog, Framer, HeaderName, Limits, Message, Method, Start, Status};

/// Bytes of the store: what is read is written as the same; a request in it is one message.
/// Messages: no order of them makes a dialog that cannot be stored, or whose requests no peer
/// could read; a number never goes back.
pub fn check_sip_dialog(data: &[u8]) {
    if let Ok(dialog) = Dialog::from_bytes(data) {
        check_dialog(&dialog);
    }
    let messages = read(data, data.len().max(1)).0;
    let Some((request, rest)) = messages.split_first() else { return };
    let good = request.check().is_ok() && matches!(request.start, Start::Request { .. });
    let answer = Message::response_to(request, Status::of(200), Some("ours"));
    if let Ok(dialog) = Dialog::accepted(request, &answer) {
        play(dialog, rest, good);
    }
    if let Some((answer, rest)) = rest.split_first()
        && let Ok(dialog) = Dialog::established(request, answer)
    {
        play(dialog, rest, good && answer.check().is_ok());
    }
}

/// What the peer says in this dialog; `good` if all of it so far passed `check`.
fn play(mut dialog: Dialog, messages: &[Message], mut good: bool) {
    for message in messages {
        let before = dialog.clone();
        let taken = match message.start {
            Start::Request { .. } => dialog.receive(message).is_ok(),
            Start::Response { .. } => dialog.receive_response(message).is_ok(),
        };
        assert!(taken || dialog == before, "what is refused changes nothing");
        assert!(dialog.remote_cseq >= before.remote_cseq, "a number went back");
        assert_eq!(dialog.id, before.id);
        good &= !taken || message.check().is_ok();
        check_dialog(&dialog);
        if good {
            let mut sent = sent(&mut dialog, Method::Message);
            // The Via is the transaction's.
            let via = sent.headers.push(HeaderName::Via, "SIP/2.0/TLS ours.test;branch=z9hG4bK1");
            via.expect("no line break is in it");
            assert_eq!(sent.check(), Ok(()));
        }
    }
    check_dialog(&dialog);
}

fn check_dialog(dialog: &Dialog) {
    let bytes = dialog.to_bytes();
    assert_eq!(Dialog::from_bytes(&bytes).as_ref(), Ok(dialog));
    let mut ours = dialog.clone();
    for method in [Method::Invite, Method::Ack, Method::Bye] {
        sent(&mut ours, method);
    }
}

/// A request of ours, as the peer reads it.
fn sent(dialog: &mut Dialog, method: Method) -> Message {
    let before = dialog.local_cseq;
    let written = dialog.request(method.clone()).to_bytes();
    // Above 2^31 there is nothing (RFC 3261 section 8.1.1.5): it begins anew.
    assert!(dialog.local_cseq >= before || before >= i32::MAX.unsigned_abs());
    // What the store or many routes make too long is refused for that alone.
    let limits = Limits { head_max: 256 * 1024, ..Limits::default() };
    let read = Framer::datagram(limits, &written).expect("what we wrote is read");
    assert_eq!(read.method(), Some(method));
    assert!(read.body.is_empty());
    read
}
