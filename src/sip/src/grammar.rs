//! Characters and words of RFC 3261, section 25.1, as far as more than one header needs them.

/// True for the characters of a `token`.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// True if this is one token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// True for the bytes that end a line, or a string in somebody's C: they never stand in a value.
pub(crate) fn breaks_lines(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// White space inside a header that was unfolded.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Without white space on both sides.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Splits off a leading quoted string: what it says, and what follows the closing quote. `None` if
/// there is no closing quote, or a line break.
pub(crate) fn quoted(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix('"')?;
    let mut said = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((said, rest.get(at + 1..)?)),
            '\r' | '\n' | '\0' => return None,
            '\\' => match chars.next()?.1 {
                '\r' | '\n' | '\0' => return None,
                escaped => said.push(escaped),
            },
            c => said.push(c),
        }
    }
    None
}

/// Writes a quoted string that [`quoted`] reads back. What breaks lines is left out.
pub(crate) fn write_quoted(f: &mut impl std::fmt::Write, text: &str) -> std::fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '\r' | '\n' | '\0' => {}
            '"' | '\\' | '\x01'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f' => {
                f.write_char('\\')?;
                f.write_char(c)?;
            }
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// The value of `%XX` at the start of these bytes.
pub(crate) fn percent(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// Writes text, `%XX` for each byte that `keep` does not keep.
pub(crate) fn write_encoded(
    f: &mut impl std::fmt::Write,
    text: &str,
    keep: impl Fn(u8) -> bool,
) -> std::fmt::Result {
    for byte in text.bytes() {
        if keep(byte) {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

/// A number of at most `max`; `None` for signs, other characters, and anything larger.
pub(crate) fn number(text: &str, max: u32) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number <= max)
}

/// Seconds; a number too large for us is the largest one.
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// Splits at `separator` where it stands outside of quotes and angle brackets. An unclosed quote or
/// bracket takes the rest.
pub(crate) fn split_outside(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        // Most values are no lists: a search for one byte is far cheaper than the loop below.
        if !text.as_bytes().contains(&separator) {
            rest = None;
            return Some(text);
        }
        let (mut in_quotes, mut in_brackets, mut escaped) = (false, false, false);
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_quotes => escaped = true,
                b'"' if !in_brackets => in_quotes = !in_quotes,
                b'<' if !in_quotes => in_brackets = true,
                b'>' if !in_quotes => in_brackets = false,
                byte if byte == separator && !in_quotes && !in_brackets => {
                    rest = text.get(at + 1..);
                    return text.get(..at);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text)
    })
}
