use bytes::Bytes;

use super::Limits;
use crate::grammar::number;
use crate::uri::TOO_LONG;
use crate::{HeaderName, Headers, Message, Method, Start, Status, Uri, Via};

/// Start line and headers.
#[derive(Debug)]
pub(super) struct Head {
    start: Start,
    headers: Headers,
}

/// Why a head is refused.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) why: &'static str,
    pub(super) status: Status,
    /// Where this message ends is not certain.
    pub(super) breaks: bool,
    pub(super) answer: Option<Box<Message>>,
}

impl Fault {
    /// Breaks the stream.
    pub(super) fn new(why: &'static str, status: Status) -> Self {
        Self { why, status, breaks: true, answer: None }
    }

    /// Breaks the stream; 400.
    pub(super) fn bad(why: &'static str) -> Self {
        Self::new(why, Status::of(400))
    }

    /// Spoils only this message.
    fn unusable(why: &'static str, status: Status) -> Self {
        Self { breaks: false, ..Self::new(why, status) }
    }

    /// With the answer, if this was a request that can be answered.
    pub(super) fn answered(mut self, head: &Bytes) -> Self {
        self.answer = answer(head, self.status).map(Box::new);
        self
    }
}

/// Where the head ends: behind the first empty line, whatever its lines end with (a bare LF is
/// refused later, together with its head). No empty line ends before `from`.
pub(super) fn end(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(next) = data.get(at..)?.iter().position(|byte| *byte == b'\n') {
        let after = at + next + 1;
        match data.get(after..)? {
            [b'\n', ..] => return Some(after + 1),
            [b'\r', b'\n', ..] => return Some(after + 2),
            _ => at = after,
        }
    }
    None
}

/// One line of a head without its end, and where it begins.
type Line = (usize, usize);

/// The lines of a head, continuation lines apart; the empty one at the end is left out.
fn lines(head: &[u8]) -> Result<Vec<Line>, Fault> {
    let mut lines = Vec::with_capacity(24);
    let mut start = 0;
    let mut before = b' ';
    for (at, byte) in head.iter().enumerate() {
        match (*byte, before) {
            (b'\n', b'\r') => {
                lines.push((start, at - 1));
                start = at + 1;
            }
            (b'\n', _) => return Err(Fault::bad("a bare LF")),
            (_, b'\r') => return Err(Fault::bad("a bare CR")),
            (0, before) if before != b'\\' => return Err(Fault::bad("a NUL")),
            _ => {}
        }
        before = *byte;
    }
    if lines.pop().is_none_or(|(start, end)| start != end) || start != head.len() {
        return Err(Fault::bad("the head has no end"));
    }
    Ok(lines)
}

impl Head {
    /// The header fields of a whole head, the empty line included.
    pub(super) fn headers(head: &Bytes, limits: &Limits) -> Result<Headers, Fault> {
        let lines = lines(head)?;
        headers(head, lines.get(1..).unwrap_or_default(), limits)
    }

    /// With the start line, the first of the head.
    pub(super) fn new(head: &Bytes, headers: Headers) -> Result<Self, Fault> {
        let first = head.iter().position(|byte| *byte == b'\r').unwrap_or_default();
        let start = start(head.get(..first).unwrap_or_default())?;
        Ok(Self { start, headers })
    }

    pub(super) fn with_body(self, body: Bytes) -> Message {
        Message { start: self.start, headers: self.headers, body }
    }
}

/// Header fields from their lines.
fn headers(head: &Bytes, lines: &[Line], limits: &Limits) -> Result<Headers, Fault> {
    if lines.len() > limits.headers_max {
        return Err(Fault::bad("too many header lines"));
    }
    let mut headers = Headers::default();
    let mut rest = lines.iter().copied().peekable();
    while let Some((start, mut end)) = rest.next() {
        let mut folded = false;
        while let Some((_, more)) = rest
            .next_if(|(start, end)| start < end && matches!(head.get(*start), Some(b' ' | b'\t')))
        {
            (folded, end) = (true, more);
        }
        let line = head.slice(start..end);
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| Fault::bad("a line without colon"))?;
        // White space may stand before the colon, but none at the start of the first line.
        let name = line.get(..colon).map(trim).unwrap_or_default();
        let name = if line.starts_with(b" ") || line.starts_with(b"\t") { &[] } else { name };
        let name = str::from_utf8(name).ok().and_then(HeaderName::parse);
        let name = name.ok_or_else(|| Fault::bad("a header name that is none"))?;
        headers.push_read(name, value(&line, colon + 1, folded));
    }
    Ok(headers)
}

/// Without the white space of SIP on both sides. A form feed is none: nobody else would take
/// `Content-Length` with one for a Content-Length.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The value behind the colon: a slice of what was received, or a copy where lines were folded.
fn value(line: &Bytes, from: usize, folded: bool) -> Bytes {
    let raw = line.get(from..).unwrap_or_default();
    if !folded && !raw.contains(&0) {
        return line.slice_ref(trim(raw));
    }
    let mut value = Vec::with_capacity(raw.len());
    let mut in_fold = false;
    for byte in trim(raw) {
        match byte {
            b'\r' | b'\n' => {
                while value.last().is_some_and(|last| matches!(last, b' ' | b'\t')) {
                    value.pop();
                }
                in_fold = true;
            }
            b' ' | b'\t' if in_fold => {}
            byte => {
                if std::mem::take(&mut in_fold) {
                    value.push(b' ');
                }
                match byte {
                    // Behind a backslash it is legal, and nobody needs it.
                    0 => value.extend_from_slice("\u{fffd}".as_bytes()),
                    byte => value.push(*byte),
                }
            }
        }
    }
    Bytes::from(value)
}

/// The one Content-Length of a head; `None` if there is none.
pub(super) fn content_length(headers: &Headers) -> Result<Option<usize>, Fault> {
    let mut values = headers.get_all(&HeaderName::ContentLength);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::bad("two Content-Length"));
    }
    let length = number(&value, u32::MAX).and_then(|length| usize::try_from(length).ok());
    length.map(Some).ok_or_else(|| Fault::bad("Content-Length is no number"))
}

/// The first line. What does not even look like SIP breaks the stream.
fn start(line: &[u8]) -> Result<Start, Fault> {
    let bad = |why| Fault::unusable(why, Status::of(400));
    let is_sip = |word: &[u8]| word.get(..4).is_some_and(|it| it.eq_ignore_ascii_case(b"SIP/"));
    if is_sip(line) {
        return response(&String::from_utf8_lossy(line)).ok_or_else(|| bad("a bad status line"));
    }
    let last = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    if !is_sip(last) {
        return Err(Fault::bad("another protocol"));
    }
    let line = str::from_utf8(line).map_err(|_| bad("the request line is not UTF-8"))?;
    let mut words = line.split(' ');
    let (Some(method), Some(uri), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("a request line that has not three words"));
    };
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(Fault::unusable("another version of SIP", Status::of(505)));
    }
    let method = Method::parse(method).ok_or_else(|| bad("no method"))?;
    match Uri::parse(uri) {
        Ok(uri) => Ok(Start::Request { method, uri }),
        Err(invalid) if invalid.why == TOO_LONG => {
            Err(Fault::unusable("the Request-URI is too long", Status::of(414)))
        }
        Err(_) => Err(bad("the Request-URI is no URI")),
    }
}

fn response(line: &str) -> Option<Start> {
    let (version, rest) = line.split_once(' ')?;
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let code = number(code, 699).filter(|_| code.len() == 3)?;
    let status = u16::try_from(code).ok().and_then(Status::new)?;
    let good = version.eq_ignore_ascii_case("SIP/2.0") && !reason.contains('\0');
    good.then(|| Start::Response { status, reason: reason.to_owned() })
}

/// The answer to a head that is at fault: made from the lines that can be read. None for a
/// response, for ACK, and where one of the headers that every answer repeats is not there.
fn answer(head: &Bytes, status: Status) -> Option<Message> {
    let mut request = Message {
        start: Start::Response { status, reason: String::new() },
        headers: Headers::default(),
        body: Bytes::new(),
    };
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let first = lines.next()?;
    let is_sip = |word: &[u8]| word.get(..4).is_some_and(|it| it.eq_ignore_ascii_case(b"SIP/"));
    if is_sip(first) || first.starts_with(b"ACK ") {
        return None;
    }
    let mut last: Option<(HeaderName, String)> = None;
    for line in lines.chain([&b""[..]]) {
        let text = String::from_utf8_lossy(line);
        match &mut last {
            Some((_, value)) if text.starts_with([' ', '\t']) => {
                value.push(' ');
                value.push_str(text.trim());
            }
            _ => {
                if let Some((name, value)) = last.take() {
                    // A value that breaks lines is not repeated.
                    let _ = request.headers.push(name, value);
                }
                last = text.split_once(':').and_then(|(name, value)| {
                    Some((HeaderName::parse(name.trim_end())?, value.trim().to_owned()))
                });
            }
        }
    }
    let headers = &request.headers;
    let needed = [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq];
    let readable = needed.iter().all(|name| headers.count(name) > 0)
        && headers.list(&HeaderName::Via).first().is_some_and(|via| Via::parse(via).is_ok());
    readable.then(|| {
        let mut answer = Message::response_to(&request, status, None);
        let mut seen = Vec::new();
        answer.headers.retain(|header| {
            let first = header.name == HeaderName::Via || !seen.contains(&header.name);
            seen.push(header.name.clone());
            first
        });
        answer
    })
}
