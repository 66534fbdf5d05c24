//! Session descriptions of IM sessions (`m=message … sip null`, MS-CONFIM); others are told apart
//! and refused.

/// What an offer or answer asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImSession {
    /// Media types that may be sent, from `a=accept-types`; empty means any.
    pub accept_types: Vec<String>,
}

impl ImSession {
    /// True if the other side takes this media type; `*` and `text/*` count (RFC 4975).
    pub fn accepts(&self, essence: &str) -> bool {
        let (kind, _) = essence.split_once('/').unwrap_or((essence, ""));
        self.accept_types.is_empty()
            || self.accept_types.iter().any(|accepted| {
                accepted == "*"
                    || accepted.eq_ignore_ascii_case(essence)
                    || accepted.strip_suffix("/*").is_some_and(|all| all.eq_ignore_ascii_case(kind))
            })
    }
}

/// Why an offer cannot be taken: answer 488.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum SdpError {
    #[error("not a session description: {0}")]
    Malformed(&'static str),
    #[error("no m=message line")]
    NoMessage,
    #[error("media other than messages")]
    OtherMedia,
}

const BYTES_MAX: usize = 8 * 1024;
const TYPES_MAX: usize = 64;

/// Reads at most 8 KiB. Media that are switched off (port 0) are passed over.
///
/// # Errors
/// No session description, or not one of an IM session.
pub fn parse(body: &[u8]) -> Result<ImSession, SdpError> {
    if body.len() > BYTES_MAX {
        return Err(SdpError::Malformed("longer than 8 KiB"));
    }
    let text = std::str::from_utf8(body).map_err(|_| SdpError::Malformed("not UTF-8"))?;
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if lines.next().map(str::trim_end) != Some("v=0") {
        return Err(SdpError::Malformed("it does not begin with v=0"));
    }
    // Attributes before the first m-line hold for all media (RFC 8866 section 5.13).
    let (mut place, mut found) = (Place::Session, false);
    let mut accept_types = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (kind, value) = line.split_once('=').ok_or(SdpError::Malformed("a line without ="))?;
        match kind {
            "m" => {
                place = media(value)?;
                found |= place == Place::Message;
            }
            "a" if place != Place::Off => {
                if let Some(types) = value.strip_prefix("accept-types:") {
                    let room = TYPES_MAX.saturating_sub(accept_types.len());
                    // A media type is made of tokens: what else stands there is none.
                    let types = types.split_ascii_whitespace().filter(|one| is_word(one));
                    let types = types.take(room);
                    accept_types.extend(types.map(str::to_ascii_lowercase));
                }
            }
            _ if kind.len() != 1 => return Err(SdpError::Malformed("a type of several letters")),
            _ => {}
        }
    }
    if found { Ok(ImSession { accept_types }) } else { Err(SdpError::NoMessage) }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Session,
    Message,
    Off,
}

/// `message 5060 sip null`; older Microsoft clients write `x-ms-message`.
fn media(value: &str) -> Result<Place, SdpError> {
    let mut words = value.split_ascii_whitespace();
    let (Some(kind), Some(port), Some(protocol)) = (words.next(), words.next(), words.next())
    else {
        return Err(SdpError::Malformed("an m-line with fewer than three words"));
    };
    let port = port.split('/').next().unwrap_or_default();
    let port: u16 = port.parse().map_err(|_| SdpError::Malformed("a port that is none"))?;
    let is_message =
        kind.eq_ignore_ascii_case("message") || kind.eq_ignore_ascii_case("x-ms-message");
    match (is_message, protocol.eq_ignore_ascii_case("sip"), port) {
        (_, _, 0) => Ok(Place::Off),
        (true, true, _) => Ok(Place::Message),
        // `m=message … TCP/MSRP` is RFC 4975: another protocol.
        _ => Err(SdpError::OtherMedia),
    }
}

/// What we offer. No address of ours is in it: `host` is the public name of the edge.
pub fn offer(host: &str, accept_types: &[&str]) -> String {
    write(host, "null", accept_types)
}

/// What we answer: as the offer, with our user's address in the m-line.
pub fn answer(host: &str, user: &str, accept_types: &[&str]) -> String {
    write(host, &clean(user), accept_types)
}

fn write(host: &str, user: &str, accept_types: &[&str]) -> String {
    let host = clean(host);
    let types: Vec<_> = accept_types.iter().map(|one| clean(one)).collect();
    format!(
        "v=0\r\no=- 0 0 IN IP4 {host}\r\ns=session\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
         m=message 5060 sip {user}\r\na=accept-types:{}\r\n",
        types.join(" ")
    )
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A word of a line: never the start of another.
fn clean(word: &str) -> String {
    word.chars().filter(|one| !one.is_control() && !one.is_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LYNC: &str = "v=0\r\no=- 0 0 IN IP4 198.51.100.57\r\ns=session\r\n\
        c=IN IP4 198.51.100.57\r\nt=0 0\r\nm=message 5060 sip null\r\n\
        a=accept-types:text/plain multipart/alternative image/gif text/rtf text/html\r\n";

    fn media_of(line: &str) -> Result<ImSession, SdpError> {
        parse(format!("v=0\r\no=- 0 0 IN IP4 h\r\ns=-\r\nt=0 0\r\n{line}").as_bytes())
    }

    #[test]
    fn an_im_offer_of_lync_is_read() {
        let session = parse(LYNC.as_bytes()).unwrap();
        assert_eq!(session.accept_types.len(), 5);
        assert!(session.accepts("text/plain") && session.accepts("TEXT/HTML"));
        assert!(!session.accepts("application/im-iscomposing+xml"));
        let answered = LYNC.replace("sip null", "sip sip:alice@partner.test");
        assert_eq!(parse(answered.as_bytes()), Ok(session));
    }

    #[test]
    fn media_are_told_apart() {
        let any = Ok(ImSession { accept_types: vec![] });
        for (lines, expected) in [
            ("m=message 5060 sip null", any.clone()),
            ("m=x-ms-message 5060 sip null\r\n", any.clone()),
            ("m=message 5060 sip null\nm=audio 0 RTP/AVP 0\n", any),
            ("m=audio 49170 RTP/AVP 0\r\n", Err(SdpError::OtherMedia)),
            ("m=message 5060 sip null\r\nm=audio 9 RTP/AVP 0\r\n", Err(SdpError::OtherMedia)),
            ("m=message 7654 TCP/MSRP *\r\n", Err(SdpError::OtherMedia)),
            ("m=applicationsharing 1 TCP/RTP/AVP 127\r\n", Err(SdpError::OtherMedia)),
            ("m=message 0 sip null\r\n", Err(SdpError::NoMessage)),
            ("", Err(SdpError::NoMessage)),
            ("m=message\r\n", Err(SdpError::Malformed("an m-line with fewer than three words"))),
            ("m=message 70000 sip null", Err(SdpError::Malformed("a port that is none"))),
            ("junk", Err(SdpError::Malformed("a line without ="))),
        ] {
            assert_eq!(media_of(lines), expected, "{lines}");
        }
        assert!(matches!(parse(b""), Err(SdpError::Malformed(_))));
        assert!(matches!(parse(&[b'v'; 9000]), Err(SdpError::Malformed(_))));
        assert!(matches!(parse(b"\xff"), Err(SdpError::Malformed(_))));
    }

    #[test]
    fn wildcards_accept() {
        let session = media_of("m=message 1 sip null\r\na=accept-types:text/*\r\n").unwrap();
        assert!(session.accepts("text/plain") && !session.accepts("image/gif"));
        let session = media_of("m=message 1 sip null\r\na=accept-types:*\r\n").unwrap();
        assert!(session.accepts("image/gif"));
    }

    #[test]
    fn what_we_write_we_read_and_nothing_slips_in() {
        let offered = offer("sip.ours.test", &["text/plain", "text/html"]);
        assert_eq!(
            offered,
            "v=0\r\no=- 0 0 IN IP4 sip.ours.test\r\ns=session\r\nc=IN IP4 sip.ours.test\r\n\
             t=0 0\r\nm=message 5060 sip null\r\na=accept-types:text/plain text/html\r\n"
        );
        assert!(parse(offered.as_bytes()).unwrap().accepts("text/html"));
        let answered = answer("h", "sip:a@b\r\nm=audio 1 RTP/AVP 0", &["text/plain"]);
        assert!(answered.contains("m=message 5060 sip sip:a@bm=audio1RTP/AVP0\r\n"));
        assert!(parse(answered.as_bytes()).is_ok());
    }
}
