//! The string behind a capabilities hash (XEP-0115, section 5).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_xmpp::{Element, ns};

use super::DATA;

/// True if `info`, an answer of service discovery, has the hash `ver`. False for a hash that is not
/// known, and for what section 5.4 calls ill-formed.
pub(super) fn is_proved(info: &Element, hash: &str, ver: &str) -> bool {
    let algorithm = match hash {
        "sha-1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha-256" => &digest::SHA256,
        _ => return false,
    };
    verification_string(info)
        .is_some_and(|text| STANDARD.encode(digest::digest(algorithm, text.as_bytes())) == ver)
}

/// `None` if `info` is ill-formed, or if other contents could have the same string.
fn verification_string(info: &Element) -> Option<String> {
    let mut parts = Vec::new();
    for identity in info.children().filter(|child| child.is("identity", ns::DISCO_INFO)) {
        let [category, kind, name] =
            ["category", "type", "name"].map(|name| identity.attr(name).unwrap_or_default());
        let lang = identity.attr_ns(ns::XML, "lang").unwrap_or_default();
        // A slash in one part would make it another part.
        if [category, kind, lang].iter().any(|part| part.contains('/')) {
            return None;
        }
        parts.push(format!("{category}/{kind}/{lang}/{name}"));
    }
    let mut features: Vec<String> = info
        .children()
        .filter(|child| child.is("feature", ns::DISCO_INFO))
        .map(|feature| feature.attr("var").unwrap_or_default().to_owned())
        .collect();
    let mut forms = Vec::new();
    for form in info.children().filter(|child| child.is("x", DATA)) {
        forms.extend(form_parts(form)?);
    }
    for list in [&mut parts, &mut features] {
        list.sort();
        if list.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return None;
        }
    }
    forms.sort_by(|one, other| one.first().cmp(&other.first()));
    if forms.windows(2).any(|pair| matches!(pair, [one, two] if one.first() == two.first())) {
        return None;
    }
    parts.append(&mut features);
    parts.extend(forms.into_iter().flatten());
    let mut text = String::new();
    for part in parts {
        // It ends each part.
        if part.contains('<') {
            return None;
        }
        text += &part;
        text.push('<');
    }
    Some(text)
}

/// The parts of one form, its type first. Nothing for a form without a type, `None` for one that is
/// ill-formed.
fn form_parts(form: &Element) -> Option<Option<Vec<String>>> {
    let values = |field: &Element| -> Vec<String> {
        let mut values: Vec<String> =
            field.children().filter(|child| child.is("value", DATA)).map(Element::text).collect();
        values.sort();
        values
    };
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    let mut kind = None;
    for field in form.children().filter(|child| child.is("field", DATA)) {
        let name = field.attr("var").unwrap_or_default();
        if name != "FORM_TYPE" {
            fields.push((name.to_owned(), values(field)));
        } else if field.attr("type") == Some("hidden") {
            let mut types = values(field);
            types.dedup();
            let [one] = types.as_slice() else { return None };
            kind = Some(one.clone());
        }
    }
    let Some(kind) = kind else { return Some(None) };
    fields.sort();
    let mut parts = vec![kind];
    for (name, values) in fields {
        parts.push(name);
        parts.extend(values);
    }
    Some(Some(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(inside: &str) -> Element {
        let text = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{inside}</query>");
        text.parse().unwrap()
    }

    const SIMPLE: &str = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
        <feature var='http://jabber.org/protocol/caps'/>\
        <feature var='http://jabber.org/protocol/disco#info'/>\
        <feature var='http://jabber.org/protocol/disco#items'/>\
        <feature var='http://jabber.org/protocol/muc'/>";

    /// The examples of XEP-0115, sections 5.2 and 5.3.
    #[test]
    fn examples_of_the_specification() {
        assert!(is_proved(&info(SIMPLE), "sha-1", "QgayPKawpkPSDYmwT/WM94uAlu0="));
        let complex = "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
            <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>\
            <feature var='http://jabber.org/protocol/caps'/>\
            <feature var='http://jabber.org/protocol/disco#info'/>\
            <feature var='http://jabber.org/protocol/disco#items'/>\
            <feature var='http://jabber.org/protocol/muc'/>\
            <x xmlns='jabber:x:data' type='result'>\
            <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
            <field var='ip_version'><value>ipv4</value><value>ipv6</value></field>\
            <field var='os'><value>Mac</value></field>\
            <field var='os_version'><value>10.5.1</value></field>\
            <field var='software'><value>Psi</value></field>\
            <field var='software_version'><value>0.11</value></field></x>";
        assert!(is_proved(&info(complex), "sha-1", "q07IKJEyjvHSyhy//CH0CxmKi8w="));
    }

    #[test]
    fn what_does_not_match_is_not_believed() {
        let ver = "QgayPKawpkPSDYmwT/WM94uAlu0=";
        let more = format!("{SIMPLE}<feature var='urn:example+notify'/>");
        assert!(!is_proved(&info(&more), "sha-1", ver));
        assert!(!is_proved(&info(SIMPLE), "md5", ver));
        let twice = format!("{SIMPLE}<feature var='http://jabber.org/protocol/muc'/>");
        assert!(!is_proved(&info(&twice), "sha-1", ver));
        // The same string, made of other parts.
        let joined = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
            <feature var='http://jabber.org/protocol/caps&lt;http://jabber.org/protocol/disco#info'/>\
            <feature var='http://jabber.org/protocol/disco#items'/>\
            <feature var='http://jabber.org/protocol/muc'/>";
        assert!(!is_proved(&info(joined), "sha-1", ver));
        let moved = SIMPLE.replace("type='pc' name='Exodus 0.9.1'", "type='pc//Exodus 0.9.1'");
        assert!(!is_proved(&info(&moved), "sha-1", ver));
    }
}
