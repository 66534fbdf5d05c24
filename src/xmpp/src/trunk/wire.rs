//! The elements of the trunk's stream, read and written.

use bytes::BytesMut;
use gatehouse_types::Domain;
use minidom::Element;
use rxml::{Namespace, NcNameStr, xml_ncname};

use super::{ANNOUNCED_MAX, accepting, dialling};
use crate::framing::{ContentNamespace, write_element};
use crate::{Stanza, StreamCondition, StreamError, ns};

pub(in crate::trunk) fn write(out: &mut BytesMut, element: &Element) {
    write_element(out, ContentNamespace::Server, element);
}

/// Writes a stanza, and the id under which it is logged as an attribute of its start tag.
pub(in crate::trunk) fn write_stanza(out: &mut BytesMut, stanza: &Stanza) {
    let id = (!stanza.trace().is_none())
        .then(|| format!(" xmlns:gh-trace='{}' gh-trace:trace='{}'", ns::TRACE, stanza.trace()));
    stanza.write(out, id.as_deref());
}

pub(in crate::trunk) fn write_request(out: &mut BytesMut) {
    write(out, &Element::bare("r", ns::SM));
}

pub(in crate::trunk) fn write_ack(out: &mut BytesMut, h: u32) {
    write(out, &with(Element::bare("a", ns::SM), &[(xml_ncname!("h"), &h.to_string())]));
}

/// Features before authentication: nothing but EXTERNAL, which will succeed.
pub(in crate::trunk) fn mechanisms() -> Element {
    let external = Element::builder("mechanism", ns::SASL).append("EXTERNAL").build();
    features(Element::builder("mechanisms", ns::SASL).append(external).build())
}

/// Features after authentication: XEP-0198, and what is ours.
pub(in crate::trunk) fn management() -> Element {
    let mut features = features(Element::bare("sm", ns::SM));
    features.append_child(Element::bare("trunk", ns::TRUNK));
    features
}

/// True if the features of an acceptor say that it understands what is ours.
pub(in crate::trunk) fn offers_ours(element: &Element) -> bool {
    element.is("features", ns::STREAM) && element.has_child("trunk", ns::TRUNK)
}

fn features(feature: Element) -> Element {
    Element::builder("features", ns::STREAM).append(feature).build()
}

/// The domains that the dialling node serves.
pub(in crate::trunk) fn announcement(domains: &[Domain]) -> Element {
    let domains = domains
        .iter()
        .map(|domain| Element::builder("domain", ns::TRUNK).append(domain.as_str()).build());
    Element::builder("announce", ns::TRUNK).append_all(domains).build()
}

/// Stanzas that were handled while an earlier one is open.
pub(in crate::trunk) fn beyond(number: u32, len: u32) -> Element {
    let (number, len) = (number.to_string(), len.to_string());
    let attributes = [(xml_ncname!("number"), &*number), (xml_ncname!("len"), &*len)];
    with(Element::bare("beyond", ns::TRUNK), &attributes)
}

/// Stanzas that are not sent again after a resume.
pub(in crate::trunk) fn skip(len: u32) -> Element {
    with(Element::bare("skip", ns::TRUNK), &[(xml_ncname!("len"), &len.to_string())])
}

/// The number of the stanza that the error which follows is about.
pub(in crate::trunk) fn refused(number: u32) -> Element {
    with(Element::bare("refused", ns::TRUNK), &[(xml_ncname!("number"), &number.to_string())])
}

/// EXTERNAL with an empty authorization identity (RFC 6120, section 9.2.2; XEP-0178).
pub(in crate::trunk) fn auth() -> Element {
    let mut auth = with(Element::bare("auth", ns::SASL), &[(xml_ncname!("mechanism"), "EXTERNAL")]);
    auth.append_text("=");
    auth
}

pub(in crate::trunk) fn success() -> Element {
    Element::bare("success", ns::SASL)
}

pub(in crate::trunk) fn auth_failure(condition: &str) -> Element {
    Element::builder("failure", ns::SASL).append(Element::bare(condition, ns::SASL)).build()
}

pub(in crate::trunk) fn enable(seconds: u64) -> Element {
    let seconds = seconds.to_string();
    let attributes = [(xml_ncname!("resume"), "true"), (xml_ncname!("max"), &*seconds)];
    with(Element::bare("enable", ns::SM), &attributes)
}

pub(in crate::trunk) fn enabled(id: &str, seconds: u64) -> Element {
    let seconds = seconds.to_string();
    let attributes =
        [(xml_ncname!("id"), id), (xml_ncname!("resume"), "true"), (xml_ncname!("max"), &*seconds)];
    with(Element::bare("enabled", ns::SM), &attributes)
}

/// `resume` or `resumed`.
pub(in crate::trunk) fn resume(name: &str, id: &str, h: u32) -> Element {
    let h = h.to_string();
    let attributes = [(xml_ncname!("previd"), id), (xml_ncname!("h"), &*h)];
    with(Element::bare(name, ns::SM), &attributes)
}

pub(in crate::trunk) fn failed() -> Element {
    Element::builder("failed", ns::SM)
        .append(Element::bare("item-not-found", ns::STANZA_ERRORS))
        .build()
}

/// What an acceptor hears.
pub(in crate::trunk) fn heard_by_acceptor(element: &Element) -> accepting::Heard {
    use accepting::{Heard, Wish};
    match (element.name(), element.ns().as_str()) {
        ("auth", ns::SASL) if element.attr("mechanism") == Some("EXTERNAL") => {
            // Another identity than the certificate's is not for the asking.
            match element.text().as_str() {
                "" | "=" => Heard::External,
                _ => Heard::OtherMechanism,
            }
        }
        ("auth", ns::SASL) => Heard::OtherMechanism,
        ("enable", ns::SM) => Heard::Session(Wish::New),
        ("resume", ns::SM) => match (element.attr("previd"), number(element, "h")) {
            (Some(id), Some(h)) => Heard::Session(Wish::Old { id: id.to_owned(), h }),
            _ => Heard::Other,
        },
        _ => Heard::Other,
    }
}

/// What a dialler hears.
pub(in crate::trunk) fn heard_by_dialler(element: &Element) -> dialling::Heard {
    use dialling::Heard;
    match (element.name(), element.ns().as_str()) {
        ("features", ns::STREAM) => Heard::Features {
            external: element.get_child("mechanisms", ns::SASL).is_some_and(|mechanisms| {
                mechanisms.children().any(|mechanism| mechanism.text() == "EXTERNAL")
            }),
            management: element.has_child("sm", ns::SM),
        },
        ("success", ns::SASL) => Heard::Success,
        ("failure", ns::SASL) => Heard::AuthenticationFailure {
            condition: element
                .children()
                .map(Element::name)
                .find(|name| *name != "text")
                .map_or_else(
                    || "no reason given".to_owned(),
                    |name| name.chars().take(80).collect(),
                ),
        },
        ("resumed", ns::SM) => match number(element, "h") {
            Some(h) => Heard::Resumed { h },
            None => Heard::Other,
        },
        ("enabled", ns::SM) => Heard::Enabled {
            id: matches!(element.attr("resume"), Some("true" | "1"))
                .then(|| element.attr("id"))
                .flatten()
                .map(ToOwned::to_owned),
        },
        ("failed", ns::SM) => Heard::Failed { h: number(element, "h") },
        _ => Heard::Other,
    }
}

/// What either end hears on an open stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::trunk) enum Signal {
    Request,
    Ack {
        h: u32,
    },
    /// Handled out of turn.
    Beyond {
        number: u32,
        len: u32,
    },
    /// Not sent again.
    Skip {
        len: u32,
    },
    /// It will refuse this one.
    Refused {
        number: u32,
    },
    /// The domains that it serves.
    Announcement(Vec<Domain>),
    /// In the namespace of stream management or in ours, but nothing we know.
    Malformed,
    /// Something else: a stanza, perhaps.
    None,
}

pub(in crate::trunk) fn signal(element: &Element) -> Signal {
    match (element.name(), element.ns().as_str()) {
        ("r", ns::SM) => Signal::Request,
        ("a", ns::SM) => number(element, "h").map_or(Signal::Malformed, |h| Signal::Ack { h }),
        (_, ns::SM) => Signal::Malformed,
        (name, ns::TRUNK) => ours(name, element).unwrap_or(Signal::Malformed),
        _ => Signal::None,
    }
}

fn ours(name: &str, element: &Element) -> Option<Signal> {
    Some(match name {
        "beyond" => {
            Signal::Beyond { number: number(element, "number")?, len: number(element, "len")? }
        }
        "skip" => Signal::Skip { len: number(element, "len")? },
        "refused" => Signal::Refused { number: number(element, "number")? },
        "announce" => {
            let names: Vec<_> = element.children().take(ANNOUNCED_MAX + 1).collect();
            if names.len() > ANNOUNCED_MAX {
                return None;
            }
            let domains = names.into_iter().map(|name| {
                name.is("domain", ns::TRUNK).then(|| name.text().parse().ok()).flatten()
            });
            Signal::Announcement(domains.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// A `<stream:error/>` from the peer.
pub(in crate::trunk) fn stream_error(element: &Element) -> Option<StreamError> {
    if !element.is("error", ns::STREAM) {
        return None;
    }
    let condition = element
        .children()
        .find(|child| child.ns() == ns::STREAM_ERRORS && child.name() != "text")
        .map_or(StreamCondition::UndefinedCondition, |child| {
            StreamCondition::from_name(child.name())
        });
    let text = element
        .get_child("text", ns::STREAM_ERRORS)
        .map(|text| text.text().chars().take(200).collect());
    Some(StreamError { condition, text })
}

fn with(mut element: Element, attributes: &[(&NcNameStr, &str)]) -> Element {
    for (name, value) in attributes {
        element.set_attr(Namespace::NONE, (*name).to_owned(), *value);
    }
    element
}

fn number(element: &Element, attribute: &str) -> Option<u32> {
    element.attr(attribute)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use gatehouse_types::{StreamId, StreamLimits, TraceId};

    use super::*;
    use crate::framing::{Frame, Framer, write_header};

    fn stanza(text: &str) -> Stanza {
        Stanza::from_element(text.parse().unwrap()).unwrap()
    }

    /// What the other end reads.
    fn carried(stanza: &Stanza) -> Stanza {
        let mut out = BytesMut::new();
        write_header(&mut out, ContentNamespace::Server, &Default::default());
        write_stanza(&mut out, stanza);
        let mut framer = Framer::new(&StreamLimits::default(), ContentNamespace::Server);
        framer.push(&out);
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
        let Ok(Some(Frame::Stanza(raw))) = framer.next_frame() else { panic!("{out:?}") };
        let mut read = Stanza::from_raw(raw).unwrap();
        read.adopt_trace();
        read
    }

    #[test]
    fn the_id_crosses_and_leaves_nothing_behind() {
        let trace = TraceId::of(&StreamId::from_random([9; 16]), 3);
        for text in [
            "<message xmlns='jabber:client' from='a@b.example' to='c@d.example'><body>x</body></message>",
            "<presence xmlns='jabber:client' from='a@b.example'/>",
            "<iq xmlns='jabber:client' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        ] {
            let mut sent = stanza(text);
            assert!(carried(&sent).trace().is_none());
            sent.set_trace(trace);
            let read = carried(&sent);
            assert_eq!((read.trace(), &read), (trace, &sent));
        }
    }

    #[test]
    fn an_id_from_outside_is_taken_out() {
        let text = "<message xmlns='jabber:client' xmlns:t='urn:gatehouse:trace:0' t:trace='0123456789abcdef'/>";
        let mut forged = stanza(text);
        let trace = TraceId::of(&StreamId::from_random([9; 16]), 1);
        forged.set_trace(trace);
        assert_eq!(carried(&forged).trace(), trace);
        assert_eq!(forged, stanza("<message xmlns='jabber:client'/>"));
    }
}
