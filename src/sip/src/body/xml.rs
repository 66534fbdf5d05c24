//! XML from strangers, before a tree is built of it: what has no place in a presence document is
//! refused by name, and depth and size are bounded, so that nothing can make the reader work or
//! recurse for long.

use minidom::Element;

/// Elements inside elements.
const DEPTH_MAX: usize = 16;
/// Elements and attributes together.
const PARTS_MAX: usize = 2048;
const BYTES_MAX: usize = 64 * 1024;

/// Reads one document. Elements outside any namespace get `outside` as theirs. The XML declaration
/// is dropped with whatever encoding it claims: the bytes must be UTF-8.
pub(super) fn read(body: &[u8], outside: &'static str) -> Result<Element, &'static str> {
    if body.len() > BYTES_MAX {
        return Err("longer than 64 KiB");
    }
    let text = std::str::from_utf8(body).map_err(|_| "not UTF-8")?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = match text.strip_prefix("<?xml ") {
        Some(rest) => rest.split_once("?>").ok_or("an XML declaration without end")?.1,
        None => text,
    };
    let text = scan(text)?;
    let prefixes = (None::<String>, outside.to_owned());
    Element::from_reader_with_prefixes(text.trim().as_bytes(), prefixes)
        .map_err(|_| "not well-formed XML")
}

/// Writes text where text or an attribute stands.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // XML 1.0 has no way to write these.
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// Walks over the tags: bounds, no DTD, no processing instruction. Comments are taken out.
fn scan(text: &str) -> Result<String, &'static str> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    let (mut depth, mut parts, mut ended) = (0_usize, 0_usize, false);
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        if let Some(comment) = tag.strip_prefix("<!--") {
            rest = comment.split_once("-->").ok_or("a comment without end")?.1;
            continue;
        }
        if tag.starts_with("<![CDATA[") {
            let end = tag.find("]]>").ok_or("a CDATA section without end")?;
            let (section, after) = tag.split_at_checked(end + 3).unwrap_or((tag, ""));
            out.push_str(section);
            rest = after;
            continue;
        }
        if tag.starts_with("<!") {
            return Err("a document type, which is not allowed");
        }
        if tag.starts_with("<?") {
            return Err("a processing instruction, which is not allowed");
        }
        let end = tag_end(tag).ok_or("a tag without end")?;
        let (whole, after) = tag.split_at_checked(end + 1).unwrap_or((tag, ""));
        parts += 1 + whole.matches('=').count();
        if whole.starts_with("</") {
            depth = depth.saturating_sub(1);
        } else if !whole.ends_with("/>") {
            depth += 1;
        }
        if depth > DEPTH_MAX || parts > PARTS_MAX {
            return Err("too many or too deeply nested elements");
        }
        // The tree's builder stops where the first element ends.
        if ended {
            return Err("something after the document");
        }
        ended = depth == 0;
        out.push_str(whole);
        rest = after;
    }
    if !rest.trim().is_empty() {
        return Err("not well-formed XML");
    }
    Ok(out)
}

/// Where the `>` of this tag stands, quotes respected.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}
