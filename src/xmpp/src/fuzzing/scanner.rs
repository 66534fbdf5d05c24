use bytes::BytesMut;
use gatehouse_types::StreamLimits;

use super::world::limits;
use crate::framing::oracle::Oracle;
use crate::framing::{ContentNamespace, Frame, Framer, RawStanza, StreamHeader, write_header};
use crate::{Stanza, StreamError};

const BOTH: [ContentNamespace; 2] = [ContentNamespace::Client, ContentNamespace::Server];

/// Our own reader of XML and `rxml` take the same, and see the same in it. What goes out as it came
/// is what its tree would be.
pub fn check_scanner(data: &[u8]) {
    for content in BOTH {
        let mut bytes = BytesMut::new();
        write_header(&mut bytes, content, &StreamHeader::default());
        bytes.extend_from_slice(data);
        for limits in [limits(), StreamLimits::default()] {
            check(content, &limits, data);
            check(content, &limits, &bytes);
        }
    }
}

/// Why ours may refuse what `rxml` takes:
///
/// - It reads carriage returns that stand alone in attributes in a way of its own.
/// - It has the prefix of the fifth edition of XML 1.0, of which we look at all of a name.
/// - It lets `xmlns:xml`, which says nothing new, stand in a tag twice.
const STRICTER: [&str; 3] = [
    "a carriage return stands alone in an attribute",
    "a name has letters that not every XML parser takes",
    "an attribute stands in a tag twice",
];

/// What is refused before it is complete: however it goes on, it would be.
const HOPELESS: [&str; 2] =
    ["processing instructions are not used", "comments and DTDs are not used"];

/// True for what `rxml` itself reads wrongly: behind a `]` in a CDATA section, it takes a carriage
/// return for what it is not (XML 1.0, section 2.11).
fn is_misread(data: &[u8]) -> bool {
    let holds = |part: &[u8]| data.windows(part.len()).any(|it| it == part);
    holds(b"<![CDATA[") && holds(b"]\r")
}

fn check(content: ContentNamespace, limits: &StreamLimits, data: &[u8]) {
    let mut ours = Framer::new(limits, content);
    ours.push(data);
    let (frames, end) = frames(|| {
        let frame = ours.next_frame();
        if let Ok(Some(Frame::Stanza(stanza))) = &frame {
            check_passing_on(limits, stanza);
        }
        frame
    });
    let mut oracle = Oracle::new(limits, content);
    oracle.push(data);
    let (want, want_end) = self::frames(|| oracle.next_frame());

    if is_misread(data) {
        return;
    }
    let known = want.get(..frames.len());
    assert_eq!(Some(&*frames), known, "we take nothing that it does not");
    let is_stricter = end
        .as_ref()
        .is_err_and(|error| STRICTER.iter().any(|text| error.text.as_deref() == Some(text)));
    if is_stricter {
        return;
    }
    assert_eq!(frames, want, "and all that it does: {end:?}");
    match (end, want_end) {
        // We judge a token when it is complete.
        (Ok(()), Err(error)) => assert!(ours.has_leftover(), "{error}"),
        // We do not wait for the rest.
        (Err(error), Ok(())) if HOPELESS.iter().any(|text| error.text.as_deref() == Some(text)) => {
        }
        (Err(error), Ok(())) => panic!("only we refuse this: {error}"),
        _ => {}
    }
}

/// What is known of a stanza without its tree, and how it is written without it, are as if there
/// were no other way.
fn check_passing_on(limits: &StreamLimits, raw: &RawStanza) {
    let whole = raw.clone().into_element();
    let Ok(mut stanza) = Stanza::from_raw(raw.clone()) else {
        assert!(Stanza::from_element(whole).is_err(), "an address is malformed");
        return;
    };
    let mut built = Stanza::from_element(whole).unwrap();
    stanza.adopt_trace();
    built.adopt_trace();
    assert_eq!((stanza.kind(), stanza.id()), (built.kind(), built.id()));
    assert_eq!((stanza.type_(), stanza.trace()), (built.type_(), built.trace()));
    assert!(stanza.weight() >= built.weight(), "it is not lighter than its tree");
    let payloads: Vec<_> = stanza.payloads().collect();
    assert_eq!(payloads.len(), built.element().children().count());
    for (payload, child) in payloads.into_iter().zip(built.element().children()) {
        assert!(payload.is(child.name(), &child.ns()), "{payload:?} is {child:?}");
    }
    for next in BOTH {
        let mut out = BytesMut::new();
        write_header(&mut out, next, &StreamHeader::default());
        stanza.write(&mut out, None);
        // References may be written in more than one way.
        let limits = StreamLimits {
            unauthenticated_element_bytes_max: limits.unauthenticated_element_bytes_max + 4096,
            ..limits.clone()
        };
        let mut oracle = Oracle::new(&limits, next);
        oracle.push(&out);
        let (frames, end) = frames(|| oracle.next_frame());
        let text = String::from_utf8_lossy(&out);
        assert_eq!(end, Ok(()), "{text}");
        assert_eq!(frames.get(1..), Some(&[Frame::Element(built.to_element())][..]), "{text}");
    }
}

/// All there are, and whether it ends well.
fn frames(
    mut next: impl FnMut() -> Result<Option<Frame>, StreamError>,
) -> (Vec<Frame>, Result<(), StreamError>) {
    let mut frames = Vec::new();
    loop {
        match next() {
            Ok(Some(frame)) => frames.push(frame.built()),
            Ok(None) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        }
    }
}
