//! Bodies: presence documents, typing notices, session descriptions.

use crate::{composing, pidf, sdp};

/// What is longer when written again may be over the reader's bounds.
const SURELY_READ: usize = 8 * 1024;

/// All that is kept of a presence document is bounded; what is written is read, and then no longer
/// changes. A typing notice that is understood means the same in either form.
pub fn check_sip_pidf(data: &[u8]) {
    for kind in [composing::ISCOMPOSING, composing::KEYBOARD] {
        if let Some(state) = composing::parse(kind, data) {
            let standard = composing::iscomposing(state);
            assert_eq!(composing::parse(composing::ISCOMPOSING, standard.as_bytes()), Some(state));
            let keyboard = composing::keyboard_activity(state);
            assert_eq!(composing::parse(composing::KEYBOARD, keyboard.as_bytes()), Some(state));
        }
    }
    let Ok(document) = pidf::parse(data) else { return };
    check_bounds(&document);
    let written = pidf::write(&document);
    if written.len() > SURELY_READ {
        return;
    }
    let again = pidf::parse(written.as_bytes()).expect("what we wrote is read");
    assert_eq!(again.tuples.len(), document.tuples.len());
    for (read, tuple) in again.tuples.iter().zip(&document.tuples) {
        assert_eq!((read.open, read.priority), (tuple.open, tuple.priority));
    }
    let third = pidf::parse(pidf::write(&again).as_bytes()).expect("what we wrote is read");
    assert_eq!(third, again);
}

fn check_bounds(document: &pidf::Pidf) {
    assert!(document.tuples.len() <= 32);
    let mut lists = vec![&document.activities, &document.notes];
    let mut texts = vec![&document.entity];
    texts.extend(&document.display_name);
    for tuple in &document.tuples {
        assert!(tuple.priority.is_none_or(|priority| priority <= 1000));
        lists.extend([&tuple.activities, &tuple.notes]);
        texts.push(&tuple.id);
        texts.extend(&tuple.show);
    }
    assert!(lists.iter().all(|list| list.len() <= 16));
    texts.extend(lists.into_iter().flatten());
    assert!(texts.iter().all(|text| text.len() <= 1024));
}

/// What is kept of a session description is bounded; whatever words ours is made of, it has seven
/// lines, and is an IM session for who reads it.
pub fn check_sip_sdp(data: &[u8]) {
    if let Ok(session) = sdp::parse(data) {
        assert!(session.accept_types.len() <= 64);
        let types: Vec<_> = session.accept_types.iter().map(String::as_str).collect();
        let again = sdp::parse(sdp::offer("ours.test", &types).as_bytes());
        assert_eq!(again.as_ref(), Ok(&session));
        let _ = session.accepts("text/plain");
    }
    let Some(word) = str::from_utf8(data).ok().filter(|word| word.len() <= 1024) else { return };
    for written in [sdp::offer(word, &[word]), sdp::answer(word, word, &["text/plain", word])] {
        assert_eq!(written.split('\n').count(), 8);
        assert!(written.replace("\r\n", "").chars().all(|one| !one.is_control()));
        assert!(sdp::parse(written.as_bytes()).is_ok());
    }
}
