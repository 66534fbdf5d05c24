//! The text of a message, out of what a partner's client sends.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use gatehouse_sip::{ContentType, Status};

/// Why a body is not read, with what it is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// A media type or charset that we do not read: 415 with Accept.
    #[error("a media type that is not read")]
    Type,
    /// Longer than the limit: 413.
    #[error("longer than the limit")]
    TooLong,
    /// Not what its type says: 400.
    #[error("not what its type says")]
    Malformed,
}

impl BodyError {
    /// What the request is answered.
    pub fn status(self) -> Status {
        match self {
            Self::Type => Status::of(415),
            Self::TooLong => Status::of(413),
            Self::Malformed => Status::of(400),
        }
    }
}

/// What we read, for Accept in a 415.
pub const ACCEPT: &str = "text/plain, text/html, multipart/alternative, \
    application/im-iscomposing+xml";

const DEPTH_MAX: usize = 3;
const PARTS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 2048;

/// The text of a body: of `text/plain`, of `text/html` without its marks, of the best part of a
/// `multipart/alternative` or `related`. RTF and anything else is refused. Fonts (`msgr`) are left
/// out. No control characters but tab and line ends, so that it fits into XML.
///
/// # Errors
/// If there is no text that we can read, or more than `bytes_max`.
pub fn text(
    content_type: &ContentType,
    body: &[u8],
    bytes_max: usize,
) -> Result<String, BodyError> {
    // Marks and encodings take room, too; nobody needs eight times the text for them.
    if body.len() > bytes_max.saturating_mul(8) {
        return Err(BodyError::TooLong);
    }
    let text = read(content_type, body, DEPTH_MAX)?;
    let text: String = text
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .chars()
        .filter(|sign| !sign.is_control() || matches!(sign, '\n' | '\t'))
        .filter(|sign| !matches!(sign, '\u{fffe}' | '\u{ffff}'))
        .collect();
    if text.len() > bytes_max { Err(BodyError::TooLong) } else { Ok(text) }
}

fn read(content_type: &ContentType, body: &[u8], depth: usize) -> Result<String, BodyError> {
    match content_type.essence.as_str() {
        "text/plain" => charset(content_type, body),
        "text/html" => Ok(html_to_text(&charset(content_type, body)?)),
        "multipart/alternative" | "multipart/related" | "multipart/mixed" if depth > 0 => {
            multipart(content_type, body, depth - 1)
        }
        _ => Err(BodyError::Type),
    }
}

fn charset(content_type: &ContentType, body: &[u8]) -> Result<String, BodyError> {
    let charset = content_type.params.get("charset").unwrap_or("utf-8").to_ascii_lowercase();
    match charset.as_str() {
        "utf-8" | "utf8" | "us-ascii" | "" => {
            let text = std::str::from_utf8(body).map_err(|_| BodyError::Malformed)?;
            Ok(text.trim_start_matches('\u{feff}').to_owned())
        }
        "iso-8859-1" | "latin1" => Ok(body.iter().copied().map(char::from).collect()),
        "windows-1252" | "cp1252" => Ok(body.iter().copied().map(windows_1252).collect()),
        _ => Err(BodyError::Type),
    }
}

/// What Windows puts where Latin-1 has control characters.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    let high = byte.checked_sub(0x80).and_then(|at| HIGH.get(usize::from(at)));
    high.copied().unwrap_or_else(|| char::from(byte))
}

/// The best part that can be read: plain text before marked-up text before anything nested.
fn multipart(content_type: &ContentType, body: &[u8], depth: usize) -> Result<String, BodyError> {
    let boundary = content_type.params.get("boundary").unwrap_or_default();
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(BodyError::Malformed);
    }
    let mut best: Option<(u8, String)> = None;
    for part in parts(body, boundary) {
        let Some((content_type, content)) = part_content(part) else { continue };
        let rank = match content_type.essence.as_str() {
            "text/plain" => 0,
            "text/html" => 1,
            _ => 2,
        };
        if best.as_ref().is_none_or(|(known, _)| rank < *known)
            && let Ok(text) = read(&content_type, &content, depth)
        {
            best = Some((rank, text));
        }
    }
    best.map(|(_, text)| text).ok_or(BodyError::Type)
}

/// What stands between the boundaries (RFC 2046 section 5.1.1), at most [`PARTS_MAX`].
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let (mut parts, mut start, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let bare = line.trim_ascii_end();
        let rest = bare.strip_prefix(delimiter.as_bytes());
        if let Some(rest @ (b"" | b"--")) = rest {
            if let Some(start) = start {
                let part: &[u8] = body.get(start..at).unwrap_or_default();
                let part = part.strip_suffix(b"\n").unwrap_or(part);
                parts.push(part.strip_suffix(b"\r").unwrap_or(part));
            }
            start = rest.is_empty().then_some(at + line.len());
            if start.is_none() || parts.len() == PARTS_MAX {
                break;
            }
        }
        at += line.len();
    }
    parts
}

/// The type of one part, and its content with the transfer encoding undone.
fn part_content(part: &[u8]) -> Option<(ContentType, Vec<u8>)> {
    let (mut type_, mut encoding, mut at) = ("text/plain".to_owned(), String::new(), 0);
    for line in part.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let line = std::str::from_utf8(line).ok()?.trim();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            match name.trim().to_ascii_lowercase().as_str() {
                "content-type" => type_ = value.trim().to_owned(),
                "content-transfer-encoding" => encoding = value.trim().to_ascii_lowercase(),
                _ => {}
            }
        }
    }
    let content = part.get(at..).unwrap_or_default();
    let content = match encoding.as_str() {
        "base64" => decode_base64(content)?,
        "quoted-printable" => decode_quoted_printable(content),
        _ => content.to_vec(),
    };
    Some((ContentType::parse(&type_).ok()?, content))
}

fn decode_base64(content: &[u8]) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let dense: Vec<u8> =
        content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(dense).ok()
}

fn decode_quoted_printable(content: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut out, mut rest) = (Vec::with_capacity(content.len()), content);
    loop {
        rest = match rest {
            [] => return out,
            [b'=', b'\r', b'\n', tail @ ..] | [b'=', b'\n', tail @ ..] => tail,
            [b'=', high, low, tail @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
                let value = |byte| digit(byte).unwrap_or_default();
                out.push(value(*high) * 16 + value(*low));
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
        };
    }
}

/// The text of marked-up text: tags out, blocks on lines of their own, entities resolved.
fn html_to_text(html: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(html.len()), html);
    while let Some(at) = rest.find(['<', '&', '\r', '\n', '\t', ' ']) {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        rest = match tail.as_bytes().first() {
            Some(b'<') => after_tag(tail, &mut out),
            Some(b'&') => after_entity(tail, &mut out),
            _ => {
                if !out.is_empty() && !out.ends_with([' ', '\n']) {
                    out.push(' ');
                }
                tail.get(1..).unwrap_or_default()
            }
        };
    }
    out.push_str(rest);
    out.trim().to_owned()
}

fn after_tag<'a>(tail: &'a str, out: &mut String) -> &'a str {
    if let Some(comment) = tail.strip_prefix("<!--") {
        return comment.split_once("-->").map_or("", |(_, rest)| rest);
    }
    // A lone `<` is text. Looking no further keeps the work linear.
    let end = tail.bytes().take(TAG_BYTES_MAX).position(|byte| byte == b'>');
    let Some((tag, rest)) = end.and_then(|end| Some((tail.get(1..end)?, tail.get(end + 1..)?)))
    else {
        out.push('<');
        return tail.get(1..).unwrap_or_default();
    };
    let closes = tag.starts_with('/');
    let name = tag.trim_start_matches('/').split(|sign: char| !sign.is_ascii_alphanumeric()).next();
    let name = name.unwrap_or_default().to_ascii_lowercase();
    match name.as_str() {
        // What stands in these is not for people.
        "head" | "script" | "style" | "title" if !closes => {
            let end = format!("</{name}");
            let mut windows = rest.as_bytes().windows(end.len());
            let at = windows.position(|window| window.eq_ignore_ascii_case(end.as_bytes()));
            let at = at.unwrap_or(rest.len());
            return rest.get(at..).unwrap_or_default().split_once('>').map_or("", |(_, rest)| rest);
        }
        "br" => out.push('\n'),
        "p" | "div" | "li" | "tr" | "ul" | "ol" | "table" | "blockquote" | "pre" | "h1" | "h2"
        | "h3" | "h4" | "h5" | "h6" => {
            let kept = out.trim_end_matches(' ').len();
            out.truncate(kept);
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
        }
        _ => {}
    }
    rest
}

fn after_entity<'a>(tail: &'a str, out: &mut String) -> &'a str {
    let end = tail.bytes().take(10).position(|byte| byte == b';');
    let name = end.and_then(|end| Some((tail.get(1..end)?, tail.get(end + 1..)?)));
    let sign = name.and_then(|(name, _)| match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    });
    match (sign, name) {
        (Some(sign), Some((_, rest))) => {
            out.push(sign);
            rest
        }
        _ => {
            out.push('&');
            tail.get(1..).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_sip::Params;

    use super::*;

    fn of_type(essence: &str, params: &[(&str, &str)]) -> ContentType {
        let mut all = Params::default();
        for (name, value) in params {
            all.set(name, Some(value));
        }
        ContentType { essence: essence.to_owned(), params: all }
    }

    fn plain(body: &[u8], charset: &str) -> Result<String, BodyError> {
        text(&of_type("text/plain", &[("charset", charset)]), body, 100)
    }

    #[test]
    fn charsets() {
        assert_eq!(plain("grün\r\n\u{1}x".as_bytes(), "UTF-8"), Ok("grün\nx".to_owned()));
        assert_eq!(plain(b"gr\xfcn", "iso-8859-1"), Ok("grün".to_owned()));
        assert_eq!(plain(b"\x80 5", "windows-1252"), Ok("€ 5".to_owned()));
        assert_eq!(plain(b"gr\xfcn", "utf-8"), Err(BodyError::Malformed));
        assert_eq!(plain(b"x", "utf-7"), Err(BodyError::Type));
    }

    #[test]
    fn fonts_are_left_out_and_other_types_refused() {
        let with_font = of_type("text/plain", &[("msgr", "WAAtAE0ATQBTAC0ASQBNAC0ARgBvAHIA")]);
        assert_eq!(text(&with_font, b"hi", 100), Ok("hi".to_owned()));
        for essence in ["text/rtf", "image/gif", "application/x-ms-ink", "text/x-msmsgsinvite"] {
            assert_eq!(text(&of_type(essence, &[]), b"hi", 100), Err(BodyError::Type), "{essence}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let plain = of_type("text/plain", &[]);
        assert!(text(&plain, &[b'x'; 100], 100).is_ok());
        assert_eq!(text(&plain, &[b'x'; 101], 100), Err(BodyError::TooLong));
        assert_eq!(text(&of_type("text/html", &[]), &[b'<'; 801], 100), Err(BodyError::TooLong));
    }

    #[test]
    fn marks_are_taken_out() {
        for (html, want) in [
            ("<DIV style=\"font-size:10pt\">hello <b>you</b></DIV>", "hello you"),
            ("<p>one</p><p>two</p>", "one\ntwo"),
            (
                "one<br/>two &lt;3 &amp; &#x263A; &#65;&nbsp;&unknown; & so",
                "one\ntwo <3 & ☺ A &unknown; & so",
            ),
            ("<html><head><title>x</title></head><body>a\r\n  b<!-- c --></body></html>", "a b"),
            ("<script>alert('x')</script>safe<style>p{}</style>", "safe"),
            ("1 < 2", "1 < 2"),
            ("<script>never ends", ""),
        ] {
            assert_eq!(html_to_text(html), want, "{html}");
        }
    }

    #[test]
    fn the_best_alternative_is_taken() {
        let alternative = of_type("multipart/alternative", &[("boundary", "b1")]);
        let body = "preamble\r\n--b1\r\nContent-Type: text/rtf\r\n\r\n{\\rtf1 hi}\r\n--b1\r\n\
            Content-Type: text/html; charset=utf-8\r\n\r\n<b>hi</b> there\r\n--b1\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\
            \r\n\r\ngr=C3=BC=\r\nn\r\n--b1--\r\nepilogue";
        assert_eq!(text(&alternative, body.as_bytes(), 100), Ok("grün".to_owned()));
        let html_only = body.replace("text/plain", "text/calendar");
        assert_eq!(text(&alternative, html_only.as_bytes(), 100), Ok("hi there".to_owned()));
        let rtf_only = html_only.replace("text/html", "image/gif");
        assert_eq!(text(&alternative, rtf_only.as_bytes(), 100), Err(BodyError::Type));
        let encoded = "--b1\nContent-Transfer-Encoding: base64\n\naGVs\r\nbG8\n--b1--";
        assert_eq!(text(&alternative, encoded.as_bytes(), 100), Ok("hello".to_owned()));
        for broken in ["", "--b1", "--b1\r\n", "--b1--", "--b1\r\n--b1--", "--b1\r\n\r\n--b1"] {
            let _ = text(&alternative, broken.as_bytes(), 100);
        }
        assert_eq!(text(&of_type("multipart/mixed", &[]), b"", 100), Err(BodyError::Malformed));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            let mut body = "x".to_owned();
            let mut inner = "text/plain".to_owned();
            for level in 0..levels {
                body = format!(
                    "--b{level}\r\nContent-Type: {inner}\r\n\r\n{body}\r\n--b{level}--\r\n"
                );
                inner = format!("multipart/related; boundary=b{level}");
            }
            let boundary = format!("b{}", levels - 1);
            let outer = of_type("multipart/related", &[("boundary", &boundary)]);
            text(&outer, body.as_bytes(), 1000)
        };
        assert_eq!(nested(3), Ok("x".to_owned()));
        assert_eq!(nested(4), Err(BodyError::Type));
    }
}
