//! Names, with or without a prefix.

use super::fault::Fault;
use super::token::{Span, TOKEN_BYTES_MAX};

/// `local` or `prefix:local`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    whole: Span,
    /// Where `local` starts.
    local: usize,
}

impl Name {
    /// All of it.
    pub(super) fn span(self) -> Span {
        self.whole
    }

    pub(super) fn local(self) -> Span {
        Span { start: self.local, ..self.whole }
    }

    pub(super) fn prefix(self) -> Option<Span> {
        let end = self.local.checked_sub(1).filter(|end| *end > self.whole.start)?;
        Some(Span { start: self.whole.start, end })
    }
}

/// The name at `at`; `None` if it might go on behind the end of `bytes`.
///
/// We read the fifth edition of XML 1.0 where it agrees with the fourth, which expat and with it
/// most servers follow: what we pass on must not break their streams.
pub(super) fn name(bytes: &[u8], at: usize) -> Result<Option<Name>, Fault> {
    let whole = Span { start: at, end: name_end(bytes, at) };
    if whole.end >= bytes.len() {
        return Ok(None);
    }
    let text = whole.of(bytes);
    if text.len() > TOKEN_BYTES_MAX {
        return Err(Fault::too_long("a name is too long"));
    }
    let colon = memchr::memchr(b':', text);
    let local = colon.map_or(at, |colon| at + colon + 1);
    let parts = match colon {
        None => (text, None),
        Some(colon) => (text.get(..colon).unwrap_or_default(), text.get(colon + 1..)),
    };
    if !is_part(parts.0) || !parts.1.is_none_or(is_part) {
        return Err(Fault::malformed("a name is malformed"));
    }
    if !text.is_ascii() {
        let text = std::str::from_utf8(text).map_err(|_| Fault::ENCODING)?;
        if !text.chars().all(|character| character.is_ascii() || is_letter(character)) {
            return Err(Fault::malformed("a name has letters that not every XML parser takes"));
        }
    }
    Ok(Some(Name { whole, local }))
}

/// The end of what may be a name.
pub(super) fn name_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_name_byte(**byte)).count()
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' | 0x80..)
}

/// True if a name without a colon may look like this, as far as ASCII goes.
fn is_part(part: &[u8]) -> bool {
    let start = part.first();
    start.is_some_and(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..))
        && !part.contains(&b':')
}

/// The letters outside ASCII that people use, of those that the fourth edition has.
fn is_letter(character: char) -> bool {
    matches!(character,
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
}
