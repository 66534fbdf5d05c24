use bytes::{Buf as _, BytesMut};
use gatehouse_types::StreamLimits;
use minidom::Element;
use rxml::error::EndOrError;
use rxml::{AttrMap, Error, Namespace, NcName, Parse as _, RawEvent, RawParser};

use super::fault::{over_limit, stream_error};
use super::scope::Scope;
use crate::framing::{ContentNamespace, Frame, StreamHeader};
use crate::{StreamCondition, StreamError, ns};

/// Cuts a stream into frames.
pub(crate) struct Oracle {
    bounds: Bounds,
    content: ContentNamespace,
    parser: RawParser,
    /// What the parser has not seen yet.
    input: BytesMut,
    /// Bytes that the parser has taken since the last frame, keepalives not counted.
    used: usize,
    /// Bytes that the current first-level element needs beyond those when it is written again: a
    /// prefix may stand for a name that is very long.
    owed: usize,
    /// Between elements: the next byte that counts is a `<`.
    between: bool,
    phase: Phase,
    scope: Scope,
    head: Option<Head>,
    /// The open elements below the stream element, outermost first.
    open: Vec<Open>,
    /// Elements in the current first-level element.
    elements: usize,
}

#[derive(Debug)]
struct Bounds {
    header_bytes_max: usize,
    element_bytes_max: usize,
    depth_max: usize,
    attributes_max: usize,
    children_max: usize,
    elements_max: usize,
    declarations_max: usize,
}

#[derive(Debug)]
enum Phase {
    /// The stream header comes next.
    Header,
    /// Inside the stream element.
    Stream,
    /// After the footer.
    Over,
    /// After an error.
    Dead(StreamError),
}

/// A start tag that is not complete.
struct Head {
    prefix: Option<NcName>,
    name: NcName,
    attributes: Vec<(Option<NcName>, NcName, String)>,
    /// Attributes and namespace declarations.
    len: usize,
}

struct Open {
    element: Element,
    namespace: Namespace<'static>,
    children: usize,
    /// Namespace declarations that this element needs when it is written again.
    declarations: usize,
}

impl Oracle {
    /// Starts before the stream header. Elements may have
    /// [`unauthenticated_element_bytes_max`](StreamLimits) bytes until
    /// [`set_element_bytes_max`](Self::set_element_bytes_max) says otherwise.
    pub(crate) fn new(limits: &StreamLimits, content: ContentNamespace) -> Self {
        Self {
            bounds: Bounds {
                header_bytes_max: limits.unauthenticated_element_bytes_max,
                element_bytes_max: limits.unauthenticated_element_bytes_max,
                depth_max: limits.depth_max,
                attributes_max: limits.attributes_max,
                children_max: limits.children_max,
                elements_max: limits.elements_max,
                declarations_max: limits.declarations_max,
            },
            content,
            parser: RawParser::new(),
            input: BytesMut::new(),
            used: 0,
            owed: 0,
            between: true,
            phase: Phase::Header,
            scope: Scope::new(limits.declarations_max),
            head: None,
            open: Vec::new(),
            elements: 0,
        }
    }

    /// Takes bytes from the peer. They are kept until `next_frame` has used them.
    pub(crate) fn push(&mut self, data: &[u8]) {
        if matches!(self.phase, Phase::Header | Phase::Stream) {
            self.input.extend_from_slice(data);
        }
    }

    /// The next whole frame, or `None` if more bytes are needed. After an error the stream is dead.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        let result = match &self.phase {
            Phase::Dead(error) => return Err(error.clone()),
            Phase::Over => return Ok(None),
            Phase::Header | Phase::Stream => self.advance(),
        };
        match &result {
            Ok(Some(Frame::Footer)) => self.stop(Phase::Over),
            Err(error) => self.stop(Phase::Dead(error.clone())),
            Ok(_) => {}
        }
        result
    }

    /// Forgets the document read so far.
    fn stop(&mut self, phase: Phase) {
        self.parser = RawParser::new();
        self.used = 0;
        self.owed = 0;
        self.between = true;
        self.scope = Scope::new(self.bounds.declarations_max);
        self.head = None;
        self.open = Vec::new();
        self.elements = 0;
        match phase {
            Phase::Over | Phase::Dead(_) => self.input = BytesMut::new(),
            Phase::Header | Phase::Stream => {}
        }
        self.phase = phase;
    }

    fn advance(&mut self) -> Result<Option<Frame>, StreamError> {
        // `<stream:stream/>` is a footer too, and that may be known already.
        if self.between
            && let Ok(Some(RawEvent::ElementFoot(_))) = self.parser.parse(&mut &b""[..], false)
        {
            return Ok(Some(Frame::Footer));
        }
        loop {
            if self.between && !self.skip_spaces()? {
                return Ok(None);
            }
            // One byte over the limit is enough to know. The parser sees no more, so that the
            // outcome does not depend on how the bytes were cut.
            let window = self.bytes_max().saturating_add(1).saturating_sub(self.used + self.owed);
            let mut rest = self.input.get(..window).unwrap_or(&self.input);
            let before = rest.len();
            let outcome = self.parser.parse(&mut rest, false);
            let taken = before - rest.len();
            self.input.advance(taken);
            self.used += taken;
            self.check_bytes()?;

            match outcome {
                Ok(Some(event)) => {
                    let frame = self.step(event)?;
                    if frame.is_some() {
                        return Ok(frame);
                    }
                }
                Ok(None) | Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(error)) => return Err(stream_error(error)),
            }
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

    fn bytes_max(&self) -> usize {
        match self.phase {
            Phase::Header => self.bounds.header_bytes_max,
            _ => self.bounds.element_bytes_max,
        }
    }

    fn check_bytes(&self) -> Result<(), StreamError> {
        let max = self.bytes_max();
        if self.used + self.owed <= max {
            return Ok(());
        }
        let what = match self.phase {
            Phase::Header => "the stream header",
            _ => "the element",
        };
        Err(over_limit(what, max, "bytes"))
    }

    fn step(&mut self, event: RawEvent) -> Result<Option<Frame>, StreamError> {
        match event {
            RawEvent::XmlDeclaration(..) => {
                self.between = true;
                Ok(None)
            }
            RawEvent::ElementHeadOpen(_, (prefix, name)) => {
                self.open_head(prefix, name)?;
                Ok(None)
            }
            RawEvent::Attribute(_, (prefix, name), value) => {
                self.add_attribute(prefix, name, value)?;
                Ok(None)
            }
            RawEvent::ElementHeadClose(_) => self.close_head(),
            RawEvent::ElementFoot(_) => Ok(self.close_element()),
            RawEvent::Text(_, text) => {
                if let Some(open) = self.open.last_mut() {
                    open.element.append_text(text);
                }
                Ok(None)
            }
        }
    }

    fn open_head(&mut self, prefix: Option<NcName>, name: NcName) -> Result<(), StreamError> {
        check_name(&name)?;
        if matches!(self.phase, Phase::Stream) {
            // The stream element and the new one count too.
            if self.open.len() + 2 > self.bounds.depth_max {
                return Err(over_limit("the stream", self.bounds.depth_max, "levels of elements"));
            }
            self.elements += 1;
            if self.elements > self.bounds.elements_max {
                return Err(over_limit("the stanza", self.bounds.elements_max, "elements"));
            }
        }
        if let Some(parent) = self.open.last_mut() {
            parent.children += 1;
            if parent.children > self.bounds.children_max {
                return Err(over_limit("an element", self.bounds.children_max, "children"));
            }
        }
        self.scope.open();
        self.head = Some(Head { prefix, name, attributes: Vec::new(), len: 0 });
        Ok(())
    }

    fn add_attribute(
        &mut self,
        prefix: Option<NcName>,
        name: NcName,
        value: String,
    ) -> Result<(), StreamError> {
        let Some(head) = &mut self.head else {
            return Ok(());
        };
        head.len += 1;
        if head.len > self.bounds.attributes_max {
            return Err(over_limit("an element", self.bounds.attributes_max, "attributes"));
        }
        match &prefix {
            None if name == "xmlns" => self.scope.declare(None, value),
            Some(xmlns) if *xmlns == "xmlns" => self.scope.declare(Some(name), value),
            _ => {
                check_name(&name)?;
                head.attributes.push((prefix, name, value));
                Ok(())
            }
        }
    }

    fn close_head(&mut self) -> Result<Option<Frame>, StreamError> {
        let Some(head) = self.head.take() else {
            return Ok(None);
        };
        let mut attributes = AttrMap::new();
        for (prefix, name, value) in head.attributes {
            let namespace = self.scope.of_attribute(prefix.as_ref()).map_err(stream_error)?;
            if attributes.insert(namespace, name, value).is_some() {
                return Err(stream_error(Error::DuplicateAttribute));
            }
        }
        let namespace = self.scope.of_element(head.prefix.as_ref()).map_err(stream_error)?;
        if matches!(self.phase, Phase::Header) {
            self.check_header(namespace, &head.name)?;
            self.phase = Phase::Stream;
            self.used = 0;
            self.owed = 0;
            self.between = true;
            return Ok(Some(Frame::Header(header(attributes))));
        }
        if *namespace == ns::XML {
            // Legal, but it means nothing and no declaration can bring it back: XML 1.0 has only
            // attributes there.
            let text = "an element cannot be in the namespace of XML itself";
            return Err(StreamError::new(StreamCondition::BadNamespacePrefix, text));
        }
        let is_content = *namespace == ns::CLIENT || *namespace == ns::SERVER;
        if is_content && self.open.is_empty() && *namespace != self.content.as_str() {
            // RFC 6120, section 4.8.2: a stream has one content namespace, in both directions.
            let text = format!("stanzas on this stream are in {}", self.content.as_str());
            return Err(StreamError::new(StreamCondition::InvalidNamespace, text));
        }
        if self.open.is_empty() && *namespace == ns::STREAM && head.name == "stream" {
            // COMPAT(ejabberd, 24.12): falling back from direct TLS, it may say its header twice.
            let text = "a stream cannot hold a stream: the header came twice";
            return Err(StreamError::new(StreamCondition::BadFormat, text));
        }
        let namespace =
            if is_content { Namespace::from_str(ns::CLIENT) } else { namespace.clone() };
        let (declarations, owed) = self.to_declare(&namespace, &attributes);
        self.owed += owed;
        self.check_bytes()?;
        let attributes_max = self.bounds.attributes_max;
        if attributes.iter().count() + declarations > attributes_max {
            return Err(over_limit("an element", attributes_max, "attributes"));
        }
        let in_force: usize = self.open.iter().map(|open| open.declarations).sum();
        if in_force + declarations > self.bounds.declarations_max {
            let max = self.bounds.declarations_max;
            return Err(over_limit("a stanza", max, "namespace declarations"));
        }
        let mut element = Element::bare(head.name, namespace.as_str());
        *element.attrs_mut() = attributes;
        self.open.push(Open { element, namespace, children: 0, declarations });
        Ok(None)
    }

    /// The namespaces that must be declared on the new element when it is written again, and how
    /// many bytes that adds. Whoever reads it next must not find it too long because of us.
    fn to_declare(&self, namespace: &str, attributes: &AttrMap) -> (usize, usize) {
        /// ` xmlns:ns10=''`
        const SYNTAX_LEN: usize = 13;
        let around = self.open.last().map_or(ns::CLIENT, |open| open.namespace.as_str());
        let mut names: Vec<&str> = Vec::new();
        if namespace != around {
            names.push(namespace);
        }
        let mut before = "";
        for ((namespace, _), _) in attributes.iter() {
            let qualified = !namespace.is_none() && *namespace != ns::XML;
            if qualified && before != namespace.as_str() {
                before = namespace.as_str();
                names.push(before);
            }
        }
        let owed = names
            .iter()
            .filter(|name| !self.scope.declares_here(name))
            .map(|name| name.len() + SYNTAX_LEN)
            .sum();
        (names.len(), owed)
    }

    fn close_element(&mut self) -> Option<Frame> {
        self.scope.close();
        let Some(Open { element, .. }) = self.open.pop() else {
            return Some(Frame::Footer);
        };
        if let Some(parent) = self.open.last_mut() {
            parent.element.append_child(element);
            return None;
        }
        self.used = 0;
        self.owed = 0;
        self.between = true;
        self.elements = 0;
        Some(Frame::Element(element))
    }

    fn check_header(&self, namespace: &str, name: &str) -> Result<(), StreamError> {
        let invalid = |text: String| StreamError::new(StreamCondition::InvalidNamespace, text);
        if namespace != ns::STREAM {
            return Err(invalid(format!("the stream element must be in {}", ns::STREAM)));
        }
        if name != "stream" {
            let text = "a stream starts with the element `stream`";
            return Err(StreamError::new(StreamCondition::BadFormat, text));
        }
        let content = self.content.as_str();
        match self.scope.of_element(None) {
            Ok(default) if *default == content => Ok(()),
            _ => Err(invalid(format!("the default namespace of this stream must be {content}"))),
        }
    }
}

fn header(mut attributes: AttrMap) -> StreamHeader {
    let lang = attributes.remove(ns::XML, "lang");
    let mut plain = |name: &str| attributes.remove("", name);
    StreamHeader {
        from: plain("from"),
        to: plain("to"),
        id: plain("id"),
        version: plain("version"),
        lang,
    }
}

/// Refuses names that others would not take: `rxml` follows the fifth edition of XML 1.0, expat and
/// with it most servers the fourth, which has fewer letters. What we pass on must not break their
/// streams. These are the letters of the fourth that people use.
fn check_name(name: &NcName) -> Result<(), StreamError> {
    let known = |character: char| {
        character.is_ascii()
            || matches!(character,
                // Latin, Greek, Cyrillic
                '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{131}'
                | '\u{134}'..='\u{13e}' | '\u{141}'..='\u{148}' | '\u{14a}'..='\u{17e}'
                | '\u{38e}'..='\u{3a1}' | '\u{3a3}'..='\u{3ce}'
                | '\u{401}'..='\u{40c}' | '\u{40e}'..='\u{44f}'
                | '\u{451}'..='\u{45c}' | '\u{45e}'..='\u{481}'
                // Hebrew, Arabic
                | '\u{5d0}'..='\u{5ea}' | '\u{621}'..='\u{63a}' | '\u{641}'..='\u{64a}'
                // Hiragana, Katakana, Han, Hangul
                | '\u{3041}'..='\u{3094}' | '\u{30a1}'..='\u{30fa}'
                | '\u{4e00}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7a3}')
    };
    if name.chars().all(known) {
        return Ok(());
    }
    let text = "a name has letters that not every XML parser takes";
    Err(StreamError::new(StreamCondition::NotWellFormed, text))
}

/// White space as XML has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
