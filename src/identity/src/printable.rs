/// `text` with everything that could move a cursor, hide other text or turn it around replaced by
/// U+FFFD, which no domain name can contain; cut after `chars_max` characters.
pub fn printable(text: &str, chars_max: usize) -> String {
    let mut safe: String = text
        .chars()
        .take(chars_max)
        .map(|c| if c.is_control() || is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(chars_max).is_some() {
        safe.push(char::REPLACEMENT_CHARACTER);
    }
    safe
}

/// Format characters: zero width, line and paragraph separators, and the bidirectional controls.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_letters_replaces_tricks_and_cuts() {
        assert_eq!(printable("bücher.example", 20), "bücher.example");
        assert_eq!(printable("a\nb\u{200b}c", 20), "a\u{fffd}b\u{fffd}c");
        assert_eq!(printable("abcdef", 3), "abc\u{fffd}");
        assert_eq!(printable("abc", 3), "abc");
    }
}
