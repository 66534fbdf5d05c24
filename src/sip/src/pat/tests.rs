use proptest::prelude::*;

use super::*;

const OLD: &[u8] = &[1; 32];
const NEW: &[u8] = &[2; 32];

fn keys() -> TokenKeys {
    TokenKeys::derive(&[NEW]).unwrap()
}

fn dialog() -> DialogToken {
    DialogToken {
        node: "core-1".into(),
        contact: "sip:romeo@core-1.inside.test:5062;transport=tls".into(),
    }
}

fn back() -> ReturnToken {
    ReturnToken {
        node: "core-1".into(),
        vias: vec!["SIP/2.0/TLS 10.0.0.1:5062;branch=z9hG4bKa".into(), "SIP/2.0/TCP b".into()],
    }
}

#[test]
fn tokens_come_back() {
    let keys = keys();
    let text = keys.seal_dialog(&dialog(), "partner.test", [3; 12]).unwrap();
    assert_eq!(keys.open_dialog(&text, "partner.test"), Ok(dialog()));
    assert_eq!(keys.open_dialog(&text, "Partner.TEST"), Ok(dialog()), "domains have no case");
    assert!(text.len() < 140, "{} characters", text.len());

    let text = keys.seal_return(&back(), "partner.test", [3; 12]).unwrap();
    assert_eq!(keys.open_return(&text, "partner.test"), Ok(back()));
    // RFC 3261 section 25.1: a branch is a token, a user part takes unreserved characters.
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
}

#[test]
fn any_change_of_any_bit_is_refused() {
    let keys = keys();
    let text = keys.seal_dialog(&dialog(), "partner.test", [3; 12]).unwrap();
    let token = URL_SAFE_NO_PAD.decode(&text).unwrap();
    for bit in 0..token.len() * 8 {
        let mut changed = token.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = URL_SAFE_NO_PAD.encode(changed);
        assert_eq!(keys.open_dialog(&changed, "partner.test"), Err(InvalidToken), "bit {bit}");
    }
    // The text has one form only: no bit of it is free either.
    for bit in 0..text.len() * 8 {
        let mut changed = text.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = String::from_utf8_lossy(&changed).into_owned();
        assert_eq!(keys.open_dialog(&changed, "partner.test"), Err(InvalidToken), "text {bit}");
    }
    for length in 0..text.len() {
        assert_eq!(keys.open_dialog(&text[..length], "partner.test"), Err(InvalidToken));
    }
    assert_eq!(keys.open_dialog(&format!("{text}A"), "partner.test"), Err(InvalidToken));
    assert_eq!(keys.open_dialog(&format!("{text}="), "partner.test"), Err(InvalidToken));
}

#[test]
fn a_token_is_for_one_partner_one_purpose_and_one_secret() {
    let keys = keys();
    let text = keys.seal_dialog(&dialog(), "partner.test", [3; 12]).unwrap();
    assert_eq!(keys.open_dialog(&text, "other.test"), Err(InvalidToken));
    assert_eq!(keys.open_dialog(&text, ""), Err(InvalidToken));
    assert_eq!(keys.open_return(&text, "partner.test"), Err(InvalidToken));
    let others = TokenKeys::derive(&[OLD]).unwrap();
    assert_eq!(others.open_dialog(&text, "partner.test"), Err(InvalidToken));
}

#[test]
fn keys_rotate_without_a_lost_dialog() {
    let before = TokenKeys::derive(&[OLD]).unwrap();
    let during = TokenKeys::derive(&[NEW, OLD]).unwrap();
    let after = TokenKeys::derive(&[NEW]).unwrap();
    let old = before.seal_dialog(&dialog(), "partner.test", [3; 12]).unwrap();
    assert_eq!(during.open_dialog(&old, "partner.test"), Ok(dialog()));
    assert_eq!(after.open_dialog(&old, "partner.test"), Err(InvalidToken));
    let new = during.seal_dialog(&dialog(), "partner.test", [3; 12]).unwrap();
    assert_eq!(after.open_dialog(&new, "partner.test"), Ok(dialog()));
}

#[test]
fn what_is_too_long_is_not_sealed() {
    let keys = keys();
    let long = |what| Err(TokenTooLong { what });
    let token = DialogToken { node: "n".repeat(65), ..dialog() };
    assert_eq!(keys.seal_dialog(&token, "p", [0; 12]), long("name of the node"));
    let token = DialogToken { contact: "c".repeat(513), ..dialog() };
    assert_eq!(keys.seal_dialog(&token, "p", [0; 12]), long("Contact"));
    let token = ReturnToken { vias: vec!["v".repeat(1025)], ..back() };
    assert_eq!(keys.seal_return(&token, "p", [0; 12]), long("list of Vias"));
    let token = ReturnToken { vias: vec!["v".into(); 9], ..back() };
    assert_eq!(keys.seal_return(&token, "p", [0; 12]), long("list of Vias"));
    // At the bound it still opens: the bound of the text leaves room.
    let token = ReturnToken { node: "n".repeat(64), vias: vec!["v".repeat(128); 8] };
    let text = keys.seal_return(&token, "p", [0; 12]).unwrap();
    assert_eq!(keys.open_return(&text, "p"), Ok(token));
}

#[test]
fn secrets_have_bounds_and_stay_secret() {
    assert_eq!(TokenKeys::derive(&[]).unwrap_err(), InvalidSecrets::Count);
    assert_eq!(TokenKeys::derive(&[NEW; 9]).unwrap_err(), InvalidSecrets::Count);
    assert_eq!(TokenKeys::derive(&[&[1; 31]]).unwrap_err(), InvalidSecrets::TooShort);
    assert_eq!(format!("{:?}", keys()), "TokenKeys { keys: [TokenKey(..)] }");
}

proptest! {
    #[test]
    fn nothing_forged_opens(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_token(&data);
        check_token(URL_SAFE_NO_PAD.encode(&data).as_bytes());
    }
}
