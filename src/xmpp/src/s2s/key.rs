use gatehouse_types::Domain;
use minidom::Element;
use rxml::xml_ncname;

use crate::{ErrorKind, StanzaCondition, StreamCondition, StreamError, ns};

/// A dialback element: `db:result` or `db:verify` (XEP-0220).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct KeyElement {
    pub(super) kind: KeyKind,
    pub(super) from: Domain,
    pub(super) to: Domain,
    /// `id`, on `db:verify` only.
    pub(super) id: Option<String>,
    pub(super) content: KeyContent,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KeyKind {
    Result,
    Verify,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum KeyContent {
    /// A question.
    Key(String),
    /// `type='valid'`
    Valid,
    /// `type='invalid'`
    Invalid,
    /// `type='error'`
    Error(StanzaCondition, String),
}

impl KeyKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Verify => "verify",
        }
    }
}

impl KeyElement {
    /// Reads `element`; `None` if it is no dialback element.
    pub(super) fn read(element: &Element) -> Option<Result<Self, StreamError>> {
        if !element.has_ns(ns::DIALBACK) {
            return None;
        }
        let kind = match element.name() {
            "result" => KeyKind::Result,
            "verify" => KeyKind::Verify,
            _ => return None,
        };
        Some(Self::read_as(kind, element))
    }

    fn read_as(kind: KeyKind, element: &Element) -> Result<Self, StreamError> {
        // Without both domains there is nobody to answer: the stream ends (XEP-0220).
        let address = |name: &'static str| {
            element.attr(name).and_then(|text| text.parse::<Domain>().ok()).ok_or_else(|| {
                let text = format!("`{name}` of db:{} is missing or no domain", kind.as_str());
                StreamError::new(StreamCondition::ImproperAddressing, text)
            })
        };
        let (from, to) = (address("from")?, address("to")?);
        let content = match element.attr("type") {
            None => KeyContent::Key(element.text().trim().to_owned()),
            Some("valid") => KeyContent::Valid,
            Some("invalid") => KeyContent::Invalid,
            Some("error") => read_error(element),
            Some(_) => {
                let text = format!("`type` of db:{} is unknown", kind.as_str());
                return Err(StreamError::new(StreamCondition::BadFormat, text));
            }
        };
        Ok(Self { kind, from, to, id: element.attr("id").map(str::to_owned), content })
    }

    /// The answer to this element, addresses swapped.
    pub(super) fn answer(&self, content: KeyContent) -> Self {
        Self {
            kind: self.kind,
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
            content,
        }
    }

    pub(super) fn to_element(&self) -> Element {
        let mut builder = Element::builder(self.kind.as_str(), ns::DIALBACK)
            .attr(xml_ncname!("from").to_owned(), self.from.to_unicode().as_ref())
            .attr(xml_ncname!("to").to_owned(), self.to.to_unicode().as_ref());
        if let Some(id) = &self.id {
            builder = builder.attr(xml_ncname!("id").to_owned(), id.as_str());
        }
        let type_ = xml_ncname!("type").to_owned();
        match &self.content {
            KeyContent::Key(key) => builder.append(key.as_str()).build(),
            KeyContent::Valid => builder.attr(type_, "valid").build(),
            KeyContent::Invalid => builder.attr(type_, "invalid").build(),
            KeyContent::Error(condition, text) => builder
                .attr(type_, "error")
                .append(crate::stanza::error_element(error_kind(*condition), *condition, text))
                .build(),
        }
    }
}

/// Only a lack of room passes by itself.
fn error_kind(condition: StanzaCondition) -> ErrorKind {
    match condition {
        StanzaCondition::ResourceConstraint => ErrorKind::Wait,
        _ => ErrorKind::Cancel,
    }
}

fn read_error(element: &Element) -> KeyContent {
    let error = element.children().find(|child| child.name() == "error");
    let parts = || error.into_iter().flat_map(Element::children);
    let named = |child: &&Element| child.has_ns(ns::STANZA_ERRORS) && child.name() != "text";
    let condition = parts().find(named).map_or(StanzaCondition::UndefinedCondition, |child| {
        StanzaCondition::from_name(child.name())
    });
    let text = parts()
        .find(|child| child.is("text", ns::STANZA_ERRORS))
        .map(|child| crate::stream::readable(&child.text()))
        .unwrap_or_default();
    KeyContent::Error(condition, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Result<KeyElement, StreamCondition>> {
        let text = text.replacen(' ', " xmlns='jabber:server:dialback' ", 1);
        KeyElement::read(&text.parse().unwrap())
            .map(|result| result.map_err(|error| error.condition))
    }

    #[test]
    fn what_is_written_reads_back() {
        for kind in [KeyKind::Result, KeyKind::Verify] {
            for content in [
                KeyContent::Key("abc".into()),
                KeyContent::Valid,
                KeyContent::Invalid,
                KeyContent::Error(StanzaCondition::ItemNotFound, "not here".into()),
            ] {
                let element = KeyElement {
                    kind,
                    from: "b\u{fc}cher.example".parse().unwrap(),
                    to: "b.example".parse().unwrap(),
                    id: (kind == KeyKind::Verify).then(|| "17".to_owned()),
                    content,
                };
                assert_eq!(KeyElement::read(&element.to_element()), Some(Ok(element)));
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        use StreamCondition::{BadFormat, ImproperAddressing};
        for (text, want) in [
            ("<other />", None),
            ("<result to='b.example'>k</result>", Some(Err(ImproperAddressing))),
            ("<result from='a.example'>k</result>", Some(Err(ImproperAddressing))),
            ("<verify from='a@a.example' to='b.example'>k</verify>", Some(Err(ImproperAddressing))),
            ("<result from='a.example' to='192.0.2.1'>k</result>", Some(Err(ImproperAddressing))),
            ("<result from='a.example' to='b.example' type='x'/>", Some(Err(BadFormat))),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        assert_eq!(KeyElement::read(&Element::bare("result", "urn:other")), None);
    }
}
