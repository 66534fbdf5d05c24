use std::ops::Range;

use bytes::BytesMut;
use gatehouse_types::StreamLimits;
use minidom::Element;

use super::world::limits;
use crate::StreamError;
use crate::framing::{ContentNamespace, Frame, Framer, StreamHeader, write_element, write_header};

/// Bytes are the same frames however they are cut; what was read is written and read as the same;
/// no frame is out of bounds.
pub fn check_framer(data: &[u8]) {
    for content in [ContentNamespace::Client, ContentNamespace::Server] {
        let mut bytes = BytesMut::new();
        write_header(&mut bytes, content, &StreamHeader::default());
        let header = bytes.len();
        bytes.extend_from_slice(data);
        check_bytes(content, data, 0..data.len());
        // Half the time of a fuzzer would go into finding a header.
        check_bytes(content, &bytes, header..bytes.len());
    }
}

fn check_bytes(content: ContentNamespace, data: &[u8], cuts: Range<usize>) {
    let whole = frames(content, [data]);
    assert_eq!(frames(content, data.chunks(1)), whole, "byte by byte");
    for cut in [cuts.start, cuts.start.midpoint(cuts.end), cuts.end.saturating_sub(1)] {
        let (one, two) = data.split_at(cut.min(data.len()));
        assert_eq!(frames(content, [one, two]), whole, "cut at {cut}");
    }
    assert!(whole.0.len() <= data.len());
    for frame in &whole.0 {
        if let Frame::Element(element) = frame {
            check_bounds(element, &limits(), 2);
            check_round_trip(content, element);
        }
    }
}

/// The frames that `parts` hold, and how they end.
fn frames<'a>(
    content: ContentNamespace,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Option<StreamError>) {
    let mut framer = Framer::new(&limits(), content);
    let mut frames = Vec::new();
    for part in parts {
        framer.push(part);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame.built()),
                Ok(None) => break,
                Err(error) => {
                    framer.push(b"<stream:stream>");
                    assert_eq!(framer.next_frame(), Err(error.clone()), "dead is dead");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

fn check_bounds(element: &Element, limits: &StreamLimits, depth: usize) {
    assert!(depth <= limits.depth_max, "too deep");
    assert!(element.attrs().into_iter().count() <= limits.attributes_max, "too many attributes");
    assert!(element.children().count() <= limits.children_max, "too many children");
    assert!(element.text().len() <= limits.unauthenticated_element_bytes_max, "too long");
    assert_ne!(element.ns(), crate::ns::SERVER, "there is one content namespace inside");
    for child in element.children() {
        check_bounds(child, limits, depth + 1);
    }
}

fn check_round_trip(content: ContentNamespace, element: &Element) {
    let mut out = BytesMut::new();
    write_header(&mut out, content, &StreamHeader::default());
    write_element(&mut out, content, element);
    let limits = StreamLimits {
        // References and namespace declarations make it longer.
        unauthenticated_element_bytes_max: 1 << 20,
        attributes_max: 1 << 10,
        ..StreamLimits::default()
    };
    let mut framer = Framer::new(&limits, content);
    framer.push(&out);
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
    let read = framer.next_frame().unwrap().and_then(Frame::into_element);
    assert_eq!(read.as_ref(), Some(element), "{out:?}");
    assert!(!framer.has_leftover());
}
