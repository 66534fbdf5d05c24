//! Typing, in its two forms on the wire: `application/im-iscomposing+xml` in a MESSAGE (RFC 3994)
//! and Microsoft's `KeyboardActivity` in an INFO.

use super::xml;

/// What the other side does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Composing {
    /// Typing.
    Active,
    /// Not typing.
    Idle,
}

/// Media type of the standard form.
pub const ISCOMPOSING: &str = "application/im-iscomposing+xml";
/// Media type of Microsoft's form.
pub const KEYBOARD: &str = "application/xml";

const NAMESPACE: &str = "urn:ietf:params:xml:ns:im-iscomposing";
const NONE: &str = "";

/// Reads either form; `None` if it is neither.
pub fn parse(content_type: &str, body: &[u8]) -> Option<Composing> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(ISCOMPOSING) {
        let root = xml::read(body, NAMESPACE).ok()?;
        let state = root.is("isComposing", NAMESPACE).then(|| root.get_child("state", NAMESPACE));
        return match state??.text().trim() {
            "active" => Some(Composing::Active),
            // RFC 3994 section 3.3: what is not known is read as idle.
            _ => Some(Composing::Idle),
        };
    }
    if essence.eq_ignore_ascii_case(KEYBOARD) {
        let root = xml::read(body, NONE).ok()?;
        if root.name() != "KeyboardActivity" {
            return None;
        }
        let status = root.children().find(|child| child.name() == "status")?;
        return match status.attr("status")? {
            "type" => Some(Composing::Active),
            "idle" => Some(Composing::Idle),
            _ => None,
        };
    }
    None
}

/// Writes the standard form.
pub fn iscomposing(state: Composing) -> String {
    let state = match state {
        Composing::Active => "active",
        Composing::Idle => "idle",
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <isComposing xmlns=\"{NAMESPACE}\"><state>{state}</state></isComposing>"
    )
}

/// Writes Microsoft's form.
pub fn keyboard_activity(state: Composing) -> String {
    let status = match state {
        Composing::Active => "type",
        Composing::Idle => "idle",
    };
    format!(
        "<?xml version=\"1.0\"?>\r\n<KeyboardActivity>\r\n  <status status=\"{status}\" />\r\n\
         </KeyboardActivity>\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_as_written() {
        for state in [Composing::Active, Composing::Idle] {
            let text = iscomposing(state);
            assert_eq!(parse(ISCOMPOSING, text.as_bytes()), Some(state));
            let text = keyboard_activity(state);
            assert_eq!(parse("Application/XML; charset=utf-8", text.as_bytes()), Some(state));
        }
    }

    #[test]
    fn forms_of_others_are_read() {
        let rfc3994 = br#"<?xml version="1.0" encoding="UTF-8"?>
            <isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"
               xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
               xsi:schemaLocation="urn:ietf:params:xml:ns:im-composing iscomposing.xsd">
               <state>active</state><contenttype>text/plain</contenttype><refresh>90</refresh>
            </isComposing>"#;
        assert_eq!(parse(ISCOMPOSING, rfc3994), Some(Composing::Active));
        let lync = br#"<?xml version="1.0"?><KeyboardActivity> <status status="type" /></KeyboardActivity>"#;
        assert_eq!(parse(KEYBOARD, lync), Some(Composing::Active));
    }

    #[test]
    fn what_is_neither_is_not_read() {
        assert_eq!(parse("text/plain", iscomposing(Composing::Idle).as_bytes()), None);
        assert_eq!(parse(KEYBOARD, b"<other><status status='type'/></other>"), None);
        assert_eq!(parse(KEYBOARD, b"<KeyboardActivity/>"), None);
        assert_eq!(
            parse(KEYBOARD, b"<KeyboardActivity><status status='x'/></KeyboardActivity>"),
            None
        );
        assert_eq!(
            parse(ISCOMPOSING, b"<isComposing xmlns='other'><state>active</state></isComposing>"),
            None
        );
        assert_eq!(parse(ISCOMPOSING, b""), None);
        assert_eq!(parse(ISCOMPOSING, b"<!DOCTYPE a><isComposing/>"), None);
    }
}
