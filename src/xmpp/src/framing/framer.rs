use std::fmt;

use bytes::{Buf as _, BytesMut};
use gatehouse_types::{StreamLimits, spare};

use super::bounds::Bounds;
use super::fault::{Fault, over_limit};
use super::raw::Checked;
use super::scan::{Header, Scan, Taken};
use super::scope::{Scope, Uri};
use super::token::{Attribute, Token, attribute_text, declaration, is_space, token};
use super::tree::tree;
use super::{ContentNamespace, Frame, Leftover, RawStanza, StreamHeader};
use crate::{StreamCondition, StreamError, ns};

/// Cuts a stream into frames, however the bytes are cut.
pub struct Framer {
    bounds: Bounds,
    content: ContentNamespace,
    /// What belongs to no frame yet. An element stays until it is complete.
    input: BytesMut,
    /// Between elements: the next byte that counts is a `<`.
    between: bool,
    phase: Phase,
    scan: Scan,
    dialback_declared: bool,
}

#[derive(Debug)]
enum Phase {
    /// The stream header comes next; the XML declaration before it took so many bytes, if it came.
    Header { declaration: usize },
    /// Inside the stream element, whose name is written like this.
    Stream { name: Box<[u8]> },
    /// The header was `<stream:stream/>`, header and footer at once.
    Empty,
    /// After the footer.
    Over,
    /// After an error.
    Dead(StreamError),
}

const START: Phase = Phase::Header { declaration: 0 };

impl Framer {
    /// Starts before the stream header. Elements may have
    /// [`unauthenticated_element_bytes_max`](StreamLimits) bytes until
    /// [`set_element_bytes_max`](Self::set_element_bytes_max) says otherwise.
    pub fn new(limits: &StreamLimits, content: ContentNamespace) -> Self {
        let bounds = Bounds::new(limits);
        Self {
            scan: Scan::new(&bounds),
            bounds,
            content,
            input: BytesMut::new(),
            between: true,
            phase: START,
            dialback_declared: false,
        }
    }

    /// Takes bytes from the peer. They are kept until `next_frame` has used them.
    pub fn push(&mut self, data: &[u8]) {
        if matches!(self.phase, Phase::Header { .. } | Phase::Stream { .. }) {
            if self.input.capacity() == 0 {
                self.input = spare::take();
            }
            self.input.extend_from_slice(data);
        }
    }

    /// The next whole frame, or `None` if more bytes are needed. After an error the stream is dead.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        let result = match &self.phase {
            Phase::Dead(error) => return Err(error.clone()),
            Phase::Over => return Ok(None),
            Phase::Empty => Ok(Some(Frame::Footer)),
            Phase::Header { declaration } => self.header(*declaration),
            Phase::Stream { .. } => self.advance(),
        };
        match &result {
            Ok(Some(Frame::Footer)) => self.stop(Phase::Over),
            Err(error) => self.stop(Phase::Dead(error.clone())),
            // Who waits for the rest keeps no more than what came.
            Ok(None) => spare::fit(&mut self.input),
            Ok(_) => {}
        }
        result
    }

    /// True if bytes wait that belong to no finished frame: a STARTTLS or SASL step refuses them.
    /// White space between elements belongs to none and does no harm.
    pub fn has_leftover(&self) -> bool {
        matches!(self.phase, Phase::Header { declaration: 1.. })
            || !self.input.iter().all(|byte| is_space(*byte))
    }

    /// True if the stream header bound a prefix to `jabber:server:dialback`: how servers said that
    /// they know dialback before there were stream features (XEP-0220).
    pub fn dialback_declared(&self) -> bool {
        self.dialback_declared
    }

    /// Expects a new stream header next (after TLS, after SASL). Leftover bytes are dropped after
    /// TLS and kept after SASL.
    pub fn restart(&mut self, leftover: Leftover) {
        self.stop(START);
        match leftover {
            Leftover::Drop => self.input.clear(),
            Leftover::Keep => {}
        }
    }

    /// Changes the byte limit of one element.
    pub fn set_element_bytes_max(&mut self, bytes: usize) {
        self.bounds.element_bytes_max = bytes;
    }

    /// Forgets the document read so far.
    fn stop(&mut self, phase: Phase) {
        self.between = true;
        self.scan = Scan::new(&self.bounds);
        match phase {
            Phase::Header { .. } => self.dialback_declared = false,
            Phase::Over | Phase::Dead(_) => self.input = BytesMut::new(),
            Phase::Stream { .. } | Phase::Empty => {}
        }
        self.phase = phase;
    }

    fn header(&mut self, mut before: usize) -> Result<Option<Frame>, StreamError> {
        let max = self.bounds.header_bytes_max;
        let too_long = || over_limit("the stream header", max, "bytes");
        loop {
            if self.between && !self.skip_spaces()? {
                return Ok(None);
            }
            if before > 0 || !self.input.starts_with(b"<?") {
                break;
            }
            let declaration =
                |bytes: &[u8], _, _: &mut Vec<_>| Ok(declaration(bytes)?.map(|end| ((), end)));
            match self.scan.take(&self.input, max, declaration)? {
                Taken::Token(((), end)) => {
                    before = end;
                    self.scan = Scan::new(&self.bounds);
                    self.input.advance(end);
                    self.phase = Phase::Header { declaration: end };
                    self.between = true;
                }
                Taken::More => return Ok(None),
                Taken::TooLong => return Err(too_long()),
            }
        }
        let left = max.saturating_sub(before);
        let header = match self.scan.header(&self.input, left, &self.bounds)? {
            Taken::Token(header) => header,
            Taken::More => return Ok(None),
            Taken::TooLong => return Err(too_long()),
        };
        let Header { name, uri, is_empty, end } = header;
        let local = name.local().of(&self.input);
        check_header(self.content, &self.scan.scope, &self.input, uri, local)?;
        let said = said(&self.input, self.scan.attributes());
        self.dialback_declared = self.scan.scope.declares(&self.input, ns::DIALBACK);
        self.scan.scope.keep(&self.input);
        self.phase = match is_empty {
            true => Phase::Empty,
            false => Phase::Stream { name: name.span().of(&self.input).into() },
        };
        self.input.advance(end);
        self.between = true;
        Ok(Some(Frame::Header(said)))
    }

    fn advance(&mut self) -> Result<Option<Frame>, StreamError> {
        if self.between && !self.skip_spaces()? {
            // Most streams are silent most of the time.
            if self.input.is_empty() {
                self.scan.shrink();
            }
            return Ok(None);
        }
        if self.input.starts_with(b"</") {
            return self.footer();
        }
        let Some(len) = self.scan.element(&self.input, &self.bounds, self.content)? else {
            return Ok(None);
        };
        self.between = true;
        let frame = self.frame(len);
        self.input.advance(len);
        // What was judged can be built.
        frame.map(Some).ok_or_else(|| StreamCondition::InternalServerError.into())
    }

    /// Of the complete element at the beginning of the input.
    fn frame(&mut self, len: usize) -> Option<Frame> {
        let bytes = self.input.get(..len)?;
        if let Some(checked) = Checked::new(bytes, self.content, &self.scan.notes) {
            return Some(Frame::Stanza(RawStanza::checked(checked)));
        }
        let element = tree(bytes, &mut self.scan.scope)?;
        Some(RawStanza::tree(element).map_or_else(Frame::Element, Frame::Stanza))
    }

    fn footer(&mut self) -> Result<Option<Frame>, StreamError> {
        let max = self.bounds.element_bytes_max;
        let (found, _) = match self.scan.take(&self.input, max, token)? {
            Taken::Token(found) => found,
            Taken::More => return Ok(None),
            Taken::TooLong => return Err(over_limit("the element", max, "bytes")),
        };
        match (&self.phase, found) {
            (Phase::Stream { name: open }, Token::End { name })
                if **open == *name.of(&self.input) =>
            {
                Ok(Some(Frame::Footer))
            }
            _ => Err(Fault::malformed("an end tag has the wrong name").into()),
        }
    }

    /// Drops the white space between two elements; false if nothing else is there yet.
    fn skip_spaces(&mut self) -> Result<bool, StreamError> {
        let spaces = self.input.iter().take_while(|byte| is_space(**byte)).count();
        self.input.advance(spaces);
        match *self.input {
            [] | [b'<'] => Ok(false),
            [b'<', b'!', ..] => {
                let text = "a stream holds neither comments, nor DTDs, nor CDATA between elements";
                Err(StreamError::new(StreamCondition::RestrictedXml, text))
            }
            [b'<', ..] => {
                self.between = false;
                Ok(true)
            }
            _ => {
                let text = "only white space may stand between the elements of a stream";
                Err(StreamError::new(StreamCondition::NotWellFormed, text))
            }
        }
    }
}

impl fmt::Debug for Framer {
    // Neither the input nor what was read of an element: they may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer")
            .field("phase", &self.phase)
            .field("content", &self.content)
            .field("waiting", &self.input.len())
            .finish_non_exhaustive()
    }
}

fn check_header(
    content: ContentNamespace,
    scope: &Scope,
    bytes: &[u8],
    uri: Uri,
    local: &[u8],
) -> Result<(), StreamError> {
    let invalid = |text: String| StreamError::new(StreamCondition::InvalidNamespace, text);
    if scope.name(uri, bytes) != ns::STREAM.as_bytes() {
        return Err(invalid(format!("the stream element must be in {}", ns::STREAM)));
    }
    if local != b"stream" {
        let text = "a stream starts with the element `stream`";
        return Err(StreamError::new(StreamCondition::BadFormat, text));
    }
    let default = scope.of_element(bytes, None)?;
    if scope.name(default, bytes) != content.as_str().as_bytes() {
        let content = content.as_str();
        return Err(invalid(format!("the default namespace of this stream must be {content}")));
    }
    Ok(())
}

/// What the attributes of a stream header say.
fn said(bytes: &[u8], attributes: &[Attribute]) -> StreamHeader {
    let said = |name: &[u8]| {
        let is_it = |attribute: &&Attribute| attribute.name.span().of(bytes) == name;
        let found = attributes.iter().find(is_it)?;
        Some(attribute_text(found.value.of(bytes)).into_owned())
    };
    StreamHeader {
        from: said(b"from"),
        to: said(b"to"),
        id: said(b"id"),
        version: said(b"version"),
        // No other prefix can stand for that of XML itself.
        lang: said(b"xml:lang"),
    }
}
