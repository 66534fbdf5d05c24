//! The settings of a node, read and written as a form (XEP-0060, section 16.4.4).

use gatehouse_store::{PepAccess, PepConfig};
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, StanzaCondition};

use super::{DATA, Denial, ITEMS_MAX};
use crate::refusal::Refusal;
use crate::xml;

const CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";

/// What a node is like unless its owner says otherwise (XEP-0163, section 3).
pub(super) const DEFAULT: PepConfig =
    PepConfig { access: PepAccess::Presence, max_items: 1, persist: true, send_last: true };

/// Settings that a form names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Wishes {
    access: Option<PepAccess>,
    max_items: Option<u64>,
    persist: Option<bool>,
    send_last: Option<bool>,
}

impl Wishes {
    /// Of a submitted form. Settings that we do not have are ignored, values that we do not have are
    /// refused: who asks for a narrower circle than there is must not get a wider one.
    pub(super) fn read(form: &Element) -> Result<Self, Denial> {
        let mut wishes = Self::default();
        for field in form.children().filter(|child| child.is("field", DATA)) {
            let value = field.children().find(|child| child.is("value", DATA)).map(Element::text);
            let value = value.unwrap_or_default();
            match field.attr("var").unwrap_or_default() {
                "pubsub#access_model" => {
                    let access = PepAccess::from_name(&value);
                    wishes.access = Some(access.ok_or_else(|| unsupported(&value))?);
                }
                "pubsub#max_items" if value == "max" => wishes.max_items = Some(ITEMS_MAX),
                "pubsub#max_items" => {
                    let number = value.parse::<u64>().map_err(|_| unsupported(&value))?;
                    wishes.max_items = Some(number.clamp(1, ITEMS_MAX));
                }
                "pubsub#persist_items" => wishes.persist = Some(flag(&value)?),
                "pubsub#send_last_published_item" => {
                    wishes.send_last = Some(match value.as_str() {
                        "never" => false,
                        "on_sub" | "on_sub_and_presence" => true,
                        _ => return Err(unsupported(&value)),
                    });
                }
                _ => {}
            }
        }
        Ok(wishes)
    }

    /// `config` with what is asked for.
    pub(super) fn apply(self, config: PepConfig) -> PepConfig {
        PepConfig {
            access: self.access.unwrap_or(config.access),
            max_items: self.max_items.unwrap_or(config.max_items),
            persist: self.persist.unwrap_or(config.persist),
            send_last: self.send_last.unwrap_or(config.send_last),
        }
    }

    /// True if `config` is as asked for (XEP-0060, section 7.1.5).
    pub(super) fn hold_for(self, config: PepConfig) -> bool {
        self.apply(config) == config
    }
}

/// The form that shows `config`.
pub(super) fn form(config: PepConfig) -> Element {
    let mut form = xml::element("x", DATA);
    xml::set(&mut form, xml_ncname!("type"), "form");
    let number = config.max_items.to_string();
    let flag = |yes| if yes { "1" } else { "0" };
    let last = if config.send_last { "on_sub_and_presence" } else { "never" };
    for (name, kind, value) in [
        ("FORM_TYPE", "hidden", CONFIG),
        ("pubsub#access_model", "list-single", config.access.as_str()),
        ("pubsub#max_items", "text-single", &number),
        ("pubsub#persist_items", "boolean", flag(config.persist)),
        ("pubsub#send_last_published_item", "list-single", last),
    ] {
        let mut field = xml::element("field", DATA);
        xml::set(&mut field, xml_ncname!("var"), name);
        xml::set(&mut field, xml_ncname!("type"), kind);
        field.append_child(xml::text("value", DATA, value));
        form.append_child(field);
    }
    form
}

fn flag(value: &str) -> Result<bool, Denial> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(unsupported(value)),
    }
}

fn unsupported(value: &str) -> Denial {
    let value: String = value.chars().take(80).collect();
    Refusal::modify(
        StanzaCondition::NotAcceptable,
        format!("`{value}` is not a value that this setting can have here."),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(fields: &[(&str, &str)]) -> Result<Wishes, Denial> {
        let mut form = xml::element("x", DATA);
        for (name, value) in fields {
            let mut field = xml::element("field", DATA);
            xml::set(&mut field, xml_ncname!("var"), *name);
            field.append_child(xml::text("value", DATA, value));
            form.append_child(field);
        }
        Wishes::read(&form)
    }

    #[test]
    fn what_is_asked_for_is_taken() {
        let bookmarks = wishes(&[
            ("pubsub#persist_items", "true"),
            ("pubsub#max_items", "max"),
            ("pubsub#send_last_published_item", "never"),
            ("pubsub#access_model", "whitelist"),
            ("pubsub#title", "bookmarks"),
        ])
        .unwrap();
        let config = bookmarks.apply(DEFAULT);
        let want = PepConfig {
            access: PepAccess::Whitelist,
            max_items: ITEMS_MAX,
            persist: true,
            send_last: false,
        };
        assert_eq!(config, want);
        assert!(bookmarks.hold_for(config) && !bookmarks.hold_for(DEFAULT));
        // The form says the same.
        assert_eq!(Wishes::read(&form(config)).unwrap().apply(DEFAULT), config);
    }

    #[test]
    fn what_we_do_not_have_is_refused() {
        for (name, value) in [
            ("pubsub#access_model", "roster"),
            ("pubsub#access_model", "authorize"),
            ("pubsub#max_items", "many"),
            ("pubsub#persist_items", "perhaps"),
            ("pubsub#send_last_published_item", "sometimes"),
        ] {
            assert!(wishes(&[(name, value)]).is_err(), "{name} {value}");
        }
        let many = wishes(&[("pubsub#max_items", "1000000")]).unwrap();
        assert_eq!(many.apply(DEFAULT).max_items, ITEMS_MAX);
        assert!(wishes(&[]).unwrap().hold_for(DEFAULT));
    }
}
