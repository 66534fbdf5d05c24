//! What must hold for any text that might be an address. Each fuzz target is one call from here;
//! what fuzzing found is replayed by the test below.

#![allow(clippy::expect_used, clippy::panic, reason = "a property that does not hold must panic")]

use crate::{Domain, Jid};

/// RFC 1035, section 2.3.4.
const DOMAIN_BYTES_MAX: usize = 253;
/// RFC 7622, section 3.
const PART_BYTES_MAX: usize = 1023;

/// A name has one form, every spelling of it leads there, and it is fit for DNS and SNI.
pub fn check_domain(data: &[u8]) {
    let Some(domain) = str::from_utf8(data).ok().and_then(|text| text.parse::<Domain>().ok())
    else {
        return;
    };
    let ascii = domain.as_str();
    assert!(!ascii.is_empty() && ascii.len() <= DOMAIN_BYTES_MAX, "{ascii:?} is no length");
    assert!(
        ascii.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')),
        "{ascii:?} has other signs than letters, digits and hyphens"
    );
    assert!(
        ascii.split('.').all(|label| (1..=63).contains(&label.len())),
        "{ascii:?} has a label that is no label"
    );
    for spelling in [ascii, &domain.to_unicode(), &format!("{ascii}."), &ascii.to_uppercase()] {
        assert_eq!(spelling.parse(), Ok(domain.clone()), "{spelling:?}");
    }
    assert!(!domain.is_below(&domain));
    if let Some(parent) = domain.parent() {
        assert!(domain.is_below(&parent) && !parent.is_below(&domain));
    }
}

/// An address that is written reads back as the same address, part for part.
pub fn check_jid(data: &[u8]) {
    let Some(jid) = str::from_utf8(data).ok().and_then(|text| text.parse::<Jid>().ok()) else {
        return;
    };
    let text = jid.to_string();
    assert_eq!(text.parse(), Ok(jid.clone()), "{text:?}");
    check_domain(jid.domain().as_str().as_bytes());
    for part in [jid.local(), jid.resource()].into_iter().flatten() {
        assert!((1..=PART_BYTES_MAX).contains(&part.len()), "{part:?} is no length");
        assert!(!part.contains(char::is_control), "{part:?} has control characters");
    }

    let bare = jid.to_bare();
    assert!(bare.is_bare() && bare.same_bare(&jid));
    let account = match jid.local() {
        Some(local) => {
            assert!(!local.contains(['@', '/', '"', '&', '\'', ':', '<', '>', ' ']), "{local:?}");
            Jid::of_account(local, jid.domain()).expect("a part that was taken once")
        }
        None => Jid::of_domain(jid.domain().clone()),
    };
    assert_eq!(account, bare);
    if let Some(resource) = jid.resource() {
        assert_eq!(bare.with_resource(resource), Ok(jid.clone()), "{resource:?}");
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::replay;

    use super::*;

    #[test]
    fn corpus_of_domains_still_holds() {
        replay("domain", check_domain);
    }

    #[test]
    fn corpus_of_addresses_still_holds() {
        replay("jid", check_jid);
    }
}
