//! What must hold whatever bytes come. Each fuzz target of testbed/fuzz is one call from here; what
//! fuzzing found is replayed by the tests at the end.

#![allow(clippy::expect_used, clippy::panic, reason = "a property that does not hold must panic")]

use bytes::Bytes;
use gatehouse_sip::ContentType;

use crate::record::Stored;
use crate::{Record, RecordKey, body};

const TEXT_MAX: usize = 256;

/// The first line is the Content-Type, the rest the body. The text is within its limit, and has
/// nothing in it that XML cannot hold.
pub fn check_body(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (first, rest) = data.split_at(end);
    let Some(kind) = str::from_utf8(first).ok().and_then(|it| ContentType::parse(it).ok()) else {
        return;
    };
    let body = rest.get(1..).unwrap_or_default();
    let Ok(text) = body::text(&kind, body, TEXT_MAX) else { return };
    assert!(text.len() <= TEXT_MAX);
    let control = |sign: char| sign.is_control() && !matches!(sign, '\n' | '\t');
    assert!(!text.chars().any(|sign| control(sign) || matches!(sign, '\u{fffe}' | '\u{ffff}')));
    assert!(
        body::text(&kind, body, text.len()).is_ok_and(|again| again == text)
            || body.len() > 8 * text.len()
    );
}

/// What is read from the store is written as the same, but for the numbers of a dialog, which
/// never go back.
pub fn check_record(data: &[u8]) {
    let key = RecordKey(String::new());
    let Ok(stored) = Stored::read(&Record { key, value: Bytes::copy_from_slice(data) }) else {
        return;
    };
    let record = stored.to_record();
    let again = Stored::read(&record).expect("what we wrote is read");
    assert_eq!(again.key(), stored.key());
    let (before, after) = (numbers(&stored), numbers(&again));
    assert!(after >= before, "a number went back");
    assert_eq!(without_numbers(again), without_numbers(stored));
}

fn numbers(stored: &Stored) -> Option<u32> {
    match stored {
        Stored::Watch { dialog, .. } => dialog.as_ref().map(|dialog| dialog.local_cseq),
        Stored::Watched { dialog, .. } => Some(dialog.local_cseq),
    }
}

fn without_numbers(mut stored: Stored) -> Stored {
    match &mut stored {
        Stored::Watch { dialog, .. } => {
            dialog.iter_mut().for_each(|dialog| dialog.local_cseq = 0);
        }
        Stored::Watched { dialog, .. } => dialog.local_cseq = 0,
    }
    stored
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::replay;

    use super::*;

    #[test]
    fn corpus_of_bodies_still_holds() {
        replay("bridge_body", check_body);
    }

    #[test]
    fn corpus_of_records_still_holds() {
        replay("bridge_record", check_record);
    }
}
