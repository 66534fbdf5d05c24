use bytes::BytesMut;
use gatehouse_types::StreamLimits;
use minidom::Element;

use super::key::{KeyContent, KeyElement};
use crate::dialback::DialbackSecret;
use crate::framing::{ContentNamespace, Frame, Framer, StreamHeader, write_element, write_header};

/// A dialback element that is understood is written as one that means the same, and so is the
/// answer to it; no key is good but the one that we made.
pub fn check_dialback(data: &[u8]) {
    let secret = DialbackSecret::new(b"s3cr3tf0rd14lb4ck".to_vec());
    for element in elements(data) {
        let Some(Ok(key)) = KeyElement::read(&element) else { continue };
        check_round_trip(&key);
        for content in [KeyContent::Valid, KeyContent::Invalid] {
            let answer = key.answer(content);
            assert_eq!((&answer.from, &answer.to), (&key.to, &key.from));
            check_round_trip(&answer);
        }
        let KeyContent::Key(text) = &key.content else { continue };
        let id = key.id.as_deref().unwrap_or_default();
        let ours = secret.key(&key.to, &key.from, id);
        assert!(secret.is_valid(&ours, &key.to, &key.from, id));
        assert_eq!(secret.is_valid(text, &key.to, &key.from, id), *text == ours);
    }
}

fn check_round_trip(key: &KeyElement) {
    let mut out = BytesMut::new();
    write_element(&mut out, ContentNamespace::Server, &key.to_element());
    let read: Vec<_> = elements(&out).iter().map(KeyElement::read).collect();
    assert_eq!(read, [Some(Ok(key.clone()))]);
}

/// The first-level elements of `data`, as on a stream.
fn elements(data: &[u8]) -> Vec<Element> {
    let mut out = BytesMut::new();
    write_header(&mut out, ContentNamespace::Server, &StreamHeader::default());
    out.extend_from_slice(data);
    let limits =
        StreamLimits { unauthenticated_element_bytes_max: 1 << 20, ..StreamLimits::default() };
    let mut framer = Framer::new(&limits, ContentNamespace::Server);
    framer.push(&out);
    let frames = std::iter::from_fn(|| framer.next_frame().ok().flatten());
    frames.filter_map(Frame::into_element).collect()
}
