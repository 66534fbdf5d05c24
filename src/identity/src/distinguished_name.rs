use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::printable::printable;

/// Longest text of one name, in characters.
const TEXT_CHARS_MAX: usize = 500;

/// `name` as RFC 4514 writes it: most specific part first, special characters escaped.
pub(crate) fn text(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    printable(&parts.join(","), TEXT_CHARS_MAX)
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let kind = oid2sn(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), short_name);
    match attribute.as_str() {
        Ok(value) => format!("{kind}={}", escape(value)),
        // RFC 4514, section 2.4: a value that is no text is written as the hex of its DER.
        Err(_) => {
            let hex: String =
                attribute.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{kind}=#{hex}")
        }
    }
}

/// RFC 4514, section 3, has short names of its own for these.
fn short_name(name: &str) -> String {
    match name {
        "commonName" => "CN",
        "countryName" => "C",
        "localityName" => "L",
        "stateOrProvinceName" => "ST",
        "organizationName" => "O",
        "organizationalUnitName" => "OU",
        "domainComponent" => "DC",
        "userId" => "UID",
        other => other,
    }
    .to_owned()
}

/// RFC 4514, section 2.4.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (c == '#' && at == 0)
            || (c == ' ' && (at == 0 || at == last));
        if special {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
