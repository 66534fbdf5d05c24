//! A partner's side of SIP: lines of text, so that it shares no code with what it tests.

const HEAD_END: &[u8] = b"\r\n\r\n";

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    start: String,
    headers: Vec<(String, String)>,
}

impl Text {
    /// The first message of `heard`, which loses it; none while it is not there whole. Keep-alives
    /// before it are dropped, and a question whether we live is counted in `pings`.
    pub(crate) fn take(heard: &mut Vec<u8>, pings: &mut usize) -> Option<Self> {
        while heard.starts_with(b"\r\n") {
            if heard.starts_with(HEAD_END) {
                *pings += 1;
                heard.drain(..HEAD_END.len());
            } else if heard.len() == 2 || heard.as_slice() == b"\r\n\r" {
                // Half a question, or the answer to one of ours: what follows tells.
                return None;
            } else {
                heard.drain(..2);
            }
        }
        let length = message_length(heard)?;
        let message: Vec<u8> = heard.drain(..length).collect();
        let text = String::from_utf8_lossy(&message);
        let (head, _body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self { start, headers: lines.filter_map(header).collect() })
    }

    /// The status code, if it is a response.
    pub(crate) fn code(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method, if it is a request.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The first header of this name, which is written in small letters.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// The branch of the topmost Via.
    pub(crate) fn branch(&self) -> Option<&str> {
        parameter(self.first("via")?, "branch")
    }

    /// The tag of From or To.
    pub(crate) fn tag(&self, name: &str) -> Option<&str> {
        let (_, parameters) = self.first(name)?.split_once('>')?;
        parameter(parameters, "tag")
    }

    /// What stands between the brackets of the Contact.
    pub(crate) fn contact(&self) -> Option<&str> {
        let (_, rest) = self.first("contact")?.split_once('<')?;
        rest.split_once('>').map(|(uri, _)| uri)
    }

    /// The answer to it, with `more` lines and a body.
    pub(crate) fn answer(&self, status: &str, tag: &str, more: &str, body: &str) -> String {
        let mut answer = format!("SIP/2.0 {status}\r\n");
        for name in ["via", "from", "to", "call-id", "cseq"] {
            for value in self.all(name) {
                answer += &format!("{name}: {value}");
                if name == "to" && self.tag("to").is_none() {
                    answer += &format!(";tag={tag}");
                }
                answer += "\r\n";
            }
        }
        answer + more + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }
}

fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').skip(1).find_map(|one| {
        let (key, value) = one.split_once('=')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// How long the first message is, if it is there whole.
pub(crate) fn message_length(heard: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let end = heard.windows(4).position(|window| window == HEAD_END)? + 4;
    let head = heard.get(..end)?;
    let at = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    let length = at.and_then(|at| {
        let line = head.get(at + NAME.len()..)?.split(|byte| *byte == b'\r').next()?;
        std::str::from_utf8(line).ok()?.trim().parse::<usize>().ok()
    });
    let whole = end + length.unwrap_or(0);
    (heard.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "INVITE sip:bob@them.example SIP/2.0\r\n\
        Via: SIP/2.0/TLS sip.ours.example:5061;branch=z9hG4bKx\r\n\
        From: <sip:alice@ours.example;x=y>;tag=f\r\nTo: <sip:bob@them.example>\r\n\
        Call-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:TOKEN@sip.ours.example:5061>;+sip.instance=x\r\n\
        Content-Length: 3\r\n\r\nabc";

    #[test]
    fn a_message_is_read_however_it_is_cut() {
        let stream = format!("\r\n\r\n\r\n{REQUEST}").into_bytes();
        for cut in 0..stream.len() {
            let (mut heard, mut pings) = (Vec::new(), 0);
            let (one, two) = stream.split_at(cut);
            heard.extend_from_slice(one);
            assert!(Text::take(&mut heard, &mut pings).is_none(), "cut at {cut}");
            heard.extend_from_slice(two);
            let text = Text::take(&mut heard, &mut pings).unwrap();
            assert_eq!((text.method(), text.branch()), ("INVITE", Some("z9hG4bKx")));
            assert_eq!((heard.len(), pings), (0, 1), "cut at {cut}");
        }
    }

    #[test]
    fn headers_are_found_and_answered() {
        let mut heard = REQUEST.as_bytes().to_vec();
        let text = Text::take(&mut heard, &mut 0).unwrap();
        assert_eq!((text.tag("from"), text.tag("to"), text.code()), (Some("f"), None, None));
        assert_eq!(text.contact(), Some("sip:TOKEN@sip.ours.example:5061"));
        let mut answer =
            text.answer("200 OK", "t", "Contact: <sip:bob@them.example>\r\n", "").into();
        let answer = Text::take(&mut answer, &mut 0).unwrap();
        assert_eq!((answer.code(), answer.tag("to")), (Some(200), Some("t")));
        assert_eq!((answer.branch(), answer.first("cseq")), (text.branch(), Some("1 INVITE")));
    }
}
