//! XML one token at a time, each from bytes that hold all of it.
//!
//! What a token is, and whether it is well-formed, depends on nothing but its own bytes: see
//! [`Hunt`] for how we know that they are all there.

use std::borrow::Cow;

use memchr::{memchr, memchr3, memmem};

use super::fault::Fault;
use super::name::{Name, name, name_end};

/// The longest name, and the longest value of an attribute once read, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8192;

/// Attributes of a tag that are looked at before the limit of the stream is asked, which is lower.
const ATTRIBUTES_MAX: usize = 4096;

/// A place among the bytes of an element.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// `name='value'` in a start tag, well-formed on its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) name: Name,
    /// Between the quotes.
    pub(super) value: Span,
    /// From the white space before the name to the closing quote.
    pub(super) whole: Span,
    /// The value is what stands there: no references, no white space but spaces.
    pub(super) is_plain: bool,
    /// No carriage return stands in the value.
    pub(super) is_tidy: bool,
}

/// What stands in an element.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    /// `<a ...>`, or `<a .../>`, which is an end tag too. The attributes went elsewhere.
    Start { name: Name, is_empty: bool },
    /// `</a>`
    End { name: Span },
    /// Text without CDATA sections; `is_tidy` if no carriage return stands in it.
    Text { content: Span, is_tidy: bool },
    /// The inside of `<![CDATA[...]]>`.
    Cdata { content: Span },
}

/// Finds where a token ends without judging it, and goes on where it stopped: bytes may come one
/// by one.
///
/// A token is judged when all of it is there, not before: otherwise, what we say of a broken one
/// would depend on how the bytes were cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hunt {
    kind: Kind,
    /// All before is done with.
    at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Up to a `>` outside quotes.
    Tag { quote: Option<u8> },
    /// Up to the `<` of the next token.
    Text,
    /// Up to `]]>`.
    Cdata,
}

impl Hunt {
    /// For the token that starts at `at`; `None` if not even its kind is known yet.
    pub(super) fn new(bytes: &[u8], at: usize) -> Option<Self> {
        let (kind, beginning) = match bytes.get(at..at + 2) {
            Some(b"<!") => (Kind::Cdata, CDATA.len()),
            Some(b"<?") => (Kind::Tag { quote: None }, DECLARATION.len()),
            Some([b'<', _]) => (Kind::Tag { quote: None }, 1),
            None if bytes.get(at..)? == b"<" => return None,
            _ => (Kind::Text, 0),
        };
        let at = at + beginning;
        (at <= bytes.len()).then_some(Self { kind, at })
    }

    /// Where the token ends, if `bytes` go so far. They may grow until the next call.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.kind {
            Kind::Tag { .. } => self.tag_end(bytes),
            Kind::Text => {
                let found = memchr(b'<', bytes.get(self.at..)?);
                let end = found.map(|after| self.at + after);
                self.at = end.unwrap_or(bytes.len());
                end
            }
            Kind::Cdata => {
                let found = memmem::find(bytes.get(self.at..)?, CDATA_END);
                let end = found.map(|after| self.at + after + CDATA_END.len());
                // The end may have begun.
                let seen = self.at.max(bytes.len().saturating_sub(2));
                self.at = end.unwrap_or(seen);
                end
            }
        }
    }

    fn tag_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let Kind::Tag { quote } = &mut self.kind else { return None };
        loop {
            let rest = bytes.get(self.at..)?;
            let found = match *quote {
                Some(quote) => memchr(quote, rest),
                None => memchr3(b'>', b'\'', b'"', rest),
            };
            let Some(after) = found else {
                self.at = bytes.len();
                return None;
            };
            self.at += after + 1;
            *quote = match (*quote, rest.get(after)) {
                (None, Some(b'>')) => return Some(self.at),
                (None, found) => found.copied(),
                (Some(_), _) => None,
            };
        }
    }
}

const DECLARATION: &[u8] = b"<?xml";
const CDATA: &[u8] = b"<![CDATA[";
const CDATA_END: &[u8] = b"]]>";

/// The token at `at` and where it ends; `None` if `bytes` end before it does. The attributes of a
/// start tag replace those in `attributes`.
pub(super) fn token(
    bytes: &[u8],
    at: usize,
    attributes: &mut Vec<Attribute>,
) -> Result<Option<(Token, usize)>, Fault> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'<'), Some(b'/')) => end_tag(bytes, at),
        (Some(b'<'), Some(b'!')) => cdata(bytes, at),
        (Some(b'<'), Some(b'?')) => Err(INSTRUCTION),
        (Some(b'<'), Some(_)) => start_tag(bytes, at, attributes),
        (Some(b'<'), None) | (None, _) => Ok(None),
        (Some(_), _) => text(bytes, at),
    }
}

const INSTRUCTION: Fault = Fault::restricted("processing instructions are not used").hopeless();

fn start_tag(
    bytes: &[u8],
    at: usize,
    attributes: &mut Vec<Attribute>,
) -> Result<Option<(Token, usize)>, Fault> {
    attributes.clear();
    let Some(name) = name(bytes, at + 1)? else { return Ok(None) };
    let Some((end, is_empty)) = rest_of_tag(bytes, name.span().end, attributes)? else {
        return Ok(None);
    };
    Ok(Some((Token::Start { name, is_empty }, end)))
}

/// Attributes and the end of a start tag; true if it was `/>`.
fn rest_of_tag(
    bytes: &[u8],
    mut at: usize,
    attributes: &mut Vec<Attribute>,
) -> Result<Option<(usize, bool)>, Fault> {
    loop {
        let start = at;
        at = skip_spaces(bytes, at);
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'>'), _) => return Ok(Some((at + 1, false))),
            (Some(b'/'), Some(b'>')) => return Ok(Some((at + 2, true))),
            (None, _) | (Some(b'/'), None) => return Ok(None),
            _ if at == start => return Err(Fault::malformed("white space is missing in a tag")),
            _ => {}
        }
        let Some(attribute) = attribute(bytes, start, at)? else { return Ok(None) };
        at = attribute.whole.end;
        if attributes.len() >= ATTRIBUTES_MAX {
            return Err(Fault::too_long("a tag has more attributes than any may have"));
        }
        attributes.push(attribute);
    }
}

fn attribute(bytes: &[u8], start: usize, at: usize) -> Result<Option<Attribute>, Fault> {
    let Some(name) = name(bytes, at)? else { return Ok(None) };
    let at = skip_spaces(bytes, name.span().end);
    match bytes.get(at) {
        Some(b'=') => {}
        Some(_) => return Err(Fault::malformed("an attribute has no value")),
        None => return Ok(None),
    }
    let at = skip_spaces(bytes, at + 1);
    let quote = match bytes.get(at) {
        Some(quote @ (b'\'' | b'"')) => *quote,
        Some(_) => return Err(Fault::malformed("the value of an attribute is not in quotes")),
        None => return Ok(None),
    };
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let Some(len) = memchr(quote, rest) else { return Ok(None) };
    let value = Span { start: at + 1, end: at + 1 + len };
    let (is_plain, is_tidy) = check_value(value.of(bytes))?;
    let whole = Span { start, end: value.end + 1 };
    Ok(Some(Attribute { name, value, whole, is_plain, is_tidy }))
}

fn end_tag(bytes: &[u8], at: usize) -> Result<Option<(Token, usize)>, Fault> {
    // That it is the name of the start tag is for the caller to say, and that was judged.
    let name = Span { start: at + 2, end: name_end(bytes, at + 2) };
    match bytes.get(skip_spaces(bytes, name.end)) {
        None => Ok(None),
        Some(b'>') => Ok(Some((Token::End { name }, skip_spaces(bytes, name.end) + 1))),
        Some(_) => Err(Fault::malformed("an end tag holds nothing but a name")),
    }
}

fn cdata(bytes: &[u8], at: usize) -> Result<Option<(Token, usize)>, Fault> {
    let rest = bytes.get(at..).unwrap_or_default();
    if !rest.iter().zip(CDATA).all(|(byte, want)| byte == want) {
        return Err(Fault::restricted("comments and DTDs are not used").hopeless());
    }
    let inside = rest.get(CDATA.len()..).unwrap_or_default();
    let Some(len) = memmem::find(inside, CDATA_END) else { return Ok(None) };
    let start = at + CDATA.len();
    let content = Span { start, end: start + len };
    check_characters(content.of(bytes))?;
    Ok(Some((Token::Cdata { content }, content.end + CDATA_END.len())))
}

fn text(bytes: &[u8], at: usize) -> Result<Option<(Token, usize)>, Fault> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(len) = memchr(b'<', rest) else { return Ok(None) };
    let content = Span { start: at, end: at + len };
    let is_tidy = check_text(content.of(bytes))?;
    Ok(Some((Token::Text { content, is_tidy }, content.end)))
}

/// `<?xml ...?>` at the very beginning, and where it ends; `None` if `bytes` end before it does.
pub(super) fn declaration(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    if !bytes.iter().zip(DECLARATION).all(|(byte, want)| byte == want) {
        return Err(INSTRUCTION);
    }
    let mut at = DECLARATION.len();
    let mut before = 0;
    loop {
        let start = at;
        at = skip_spaces(bytes, at);
        match (bytes.get(at), bytes.get(at + 1)) {
            (None, _) | (Some(b'?'), None) => return Ok(None),
            (Some(b'?'), Some(b'>')) if before > 0 => return Ok(Some(at + 2)),
            _ if at == start => return Err(Fault::malformed("an XML declaration is malformed")),
            _ => {}
        }
        let Some(attribute) = attribute(bytes, start, at)? else { return Ok(None) };
        let value = attribute_text(attribute.value.of(bytes));
        before = match (attribute.name.span().of(bytes), before) {
            (b"version", 0) if value == "1.0" => 1,
            (b"version", 0) => return Err(Fault::restricted("only XML 1.0 is used")),
            (b"encoding", 1) if value.eq_ignore_ascii_case("utf-8") => 2,
            (b"encoding", 1) => return Err(Fault::ENCODING),
            (b"standalone", 2) if value.eq_ignore_ascii_case("yes") => 3,
            (b"standalone", 2) => return Err(Fault::restricted("documents are standalone")),
            _ => return Err(Fault::malformed("an XML declaration is malformed")),
        };
        at = attribute.whole.end;
    }
}

/// White space as XML has it.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn skip_spaces(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_space(**byte)).count()
}

/// True if these bytes mean what they are wherever they stand: printable ASCII without what XML
/// reserves in text. Most text is, so this is made to be quick: no way out of the loop.
fn is_simple(bytes: &[u8]) -> bool {
    let is_special = |byte: u8| {
        (byte.wrapping_sub(0x20) >= 0x60) | (byte == b'&') | (byte == b'<') | (byte == b']')
    };
    !bytes.iter().fold(false, |found, byte| found | is_special(*byte))
}

/// Judges what stands in quotes: whether it is plain, and whether it is tidy.
fn check_value(bytes: &[u8]) -> Result<(bool, bool), Fault> {
    let too_long = Err(Fault::too_long("the value of an attribute is too long"));
    if is_simple(bytes) {
        return if bytes.len() <= TOKEN_BYTES_MAX { Ok((true, true)) } else { too_long };
    }
    check_characters(bytes)?;
    let (mut at, mut len, mut is_plain, mut is_tidy) = (0, 0, true, true);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'<' => return Err(Fault::malformed("`<` stands in the value of an attribute")),
            b'&' => {
                let (character, end) = reference(bytes, at)?;
                (at, len, is_plain) = (end, len + character.len_utf8(), false);
                continue;
            }
            // `rxml` reads the others in a way of its own.
            b'\r' if bytes.get(at + 1) != Some(&b'\n') => {
                return Err(Fault::malformed("a carriage return stands alone in an attribute"));
            }
            b'\r' => (len, is_plain, is_tidy) = (len.wrapping_sub(1), false, false),
            b'\t' | b'\n' => is_plain = false,
            _ => {}
        }
        at += 1;
        len = len.wrapping_add(1);
    }
    if len > TOKEN_BYTES_MAX { too_long } else { Ok((is_plain, is_tidy)) }
}

/// Judges text; true if it is tidy.
fn check_text(bytes: &[u8]) -> Result<bool, Fault> {
    if is_simple(bytes) {
        return Ok(true);
    }
    check_characters(bytes)?;
    if memmem::find(bytes, CDATA_END).is_some() {
        return Err(Fault::malformed("`]]>` stands in text"));
    }
    let mut at = 0;
    while let Some(after) = memchr(b'&', bytes.get(at..).unwrap_or_default()) {
        (_, at) = reference(bytes, at + after)?;
    }
    Ok(memchr(b'\r', bytes).is_none())
}

/// Refuses what is not UTF-8 and what is no character of XML (XML 1.0, section 2.2).
fn check_characters(bytes: &[u8]) -> Result<(), Fault> {
    let is_control = |byte: u8| (byte < 0x20) & (byte != b'\t') & (byte != b'\n') & (byte != b'\r');
    if !bytes.is_ascii() {
        if std::str::from_utf8(bytes).is_err() {
            return Err(Fault::ENCODING);
        }
        // U+FFFE and U+FFFF.
        let is_none = |at: usize| matches!(bytes.get(at..at + 3), Some([_, 0xbf, 0xbe | 0xbf]));
        if memchr::memchr_iter(0xef, bytes).any(is_none) {
            return Err(Fault::NO_CHARACTER);
        }
    }
    if bytes.iter().fold(false, |found, byte| found | is_control(*byte)) {
        return Err(Fault::NO_CHARACTER);
    }
    Ok(())
}

/// The character that the `&...;` at `at` stands for, and where it ends.
fn reference(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    /// Digits of a character reference, and more than any name has.
    const LEN_MAX: usize = 8;
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let len = rest.iter().take(LEN_MAX + 3).take_while(|byte| **byte != b';').count();
    let malformed = Fault::malformed("a reference is malformed");
    if rest.get(len) != Some(&b';') {
        return Err(malformed);
    }
    let name = rest.get(..len).unwrap_or_default();
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).ok()?;
        let is_number = digits.len() <= LEN_MAX && digits.chars().all(|it| it.is_digit(radix));
        let number = is_number.then(|| u32::from_str_radix(digits, radix).ok()).flatten()?;
        char::from_u32(number).filter(|character| is_character(*character))
    };
    let character = match name {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x', digits @ ..] => number(digits, 16).ok_or(malformed)?,
        [b'#', digits @ ..] => number(digits, 10).ok_or(malformed)?,
        [] => return Err(malformed),
        _ if name_end(name, 0) == name.len() => {
            return Err(Fault::restricted("only the entities of XML itself are used"));
        }
        _ => return Err(malformed),
    };
    Ok((character, at + 1 + len + 1))
}

fn is_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

/// What text that [`token`] took says: references resolved, line ends as XML has them.
pub(super) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    resolved(bytes, |at, _| match bytes.get(at) {
        Some(b'&') => reference(bytes, at).ok(),
        Some(b'\r') => line_end(bytes, at, '\n'),
        _ => None,
    })
}

/// The same for the inside of a CDATA section.
pub(super) fn cdata_of(bytes: &[u8]) -> Cow<'_, str> {
    resolved(bytes, |at, byte| if byte == b'\r' { line_end(bytes, at, '\n') } else { None })
}

/// The same for the value of an attribute, whose white space is all spaces.
pub(super) fn attribute_text(bytes: &[u8]) -> Cow<'_, str> {
    resolved(bytes, |at, byte| match byte {
        b'&' => reference(bytes, at).ok(),
        b'\r' => line_end(bytes, at, ' '),
        b'\t' | b'\n' => Some((' ', at + 1)),
        _ => None,
    })
}

fn line_end(bytes: &[u8], at: usize, instead: char) -> Option<(char, usize)> {
    let more = usize::from(bytes.get(at + 1) == Some(&b'\n'));
    Some((instead, at + 1 + more))
}

/// The text with what `instead` says, and how far that goes, in place of single bytes.
fn resolved(bytes: &[u8], instead: impl Fn(usize, u8) -> Option<(char, usize)>) -> Cow<'_, str> {
    if is_simple(bytes) {
        return String::from_utf8_lossy(bytes);
    }
    let (mut out, mut done, mut at) = (String::new(), 0, 0);
    while let Some(byte) = bytes.get(at) {
        let Some((character, end)) = instead(at, *byte) else {
            at += 1;
            continue;
        };
        out.push_str(&String::from_utf8_lossy(bytes.get(done..at).unwrap_or_default()));
        out.push(character);
        (done, at) = (end, end);
    }
    let rest = String::from_utf8_lossy(bytes.get(done..).unwrap_or_default());
    if done == 0 {
        return rest;
    }
    out.push_str(&rest);
    Cow::Owned(out)
}
