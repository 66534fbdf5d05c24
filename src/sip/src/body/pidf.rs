//! Presence documents (RFC 3863), both dialects read, one written.

use minidom::Element;

use super::xml;

/// What a presence document says of one person.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pidf {
    /// The `entity` attribute as received, scheme or not.
    pub entity: String,
    /// At least one, if the person is there at all.
    pub tuples: Vec<Tuple>,
    /// Activities of the person (RFC 4480 `dm:person`), which hold for every tuple.
    pub activities: Vec<String>,
    /// Display name, where the document has one.
    pub display_name: Option<String>,
    /// Notes outside tuples.
    pub notes: Vec<String>,
}

/// One way to reach the person.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tuple {
    /// Its `id`.
    pub id: String,
    /// `open` or `closed`; absent is neither.
    pub open: Option<bool>,
    /// Activities inside `<status>` (the 2004 draft, Microsoft) in lower case: `busy`, `away`.
    pub activities: Vec<String>,
    /// `<show xmlns='jabber:client'>` inside `<status>` (RFC 8048).
    pub show: Option<String>,
    /// Contact priority in thousandths, 0 to 1000.
    pub priority: Option<u16>,
    /// Notes.
    pub notes: Vec<String>,
}

/// Why a document was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("presence document: {0}")]
pub struct InvalidPidf(pub String);

/// The media type.
pub const PIDF: &str = "application/pidf+xml";

const NS: &str = "urn:ietf:params:xml:ns:pidf";
const RPID_2004: &str = "urn:ietf:params:xml:ns:pidf:status:rpid-status";
const RPID: &str = "urn:ietf:params:xml:ns:pidf:rpid";
const PERSON: &str = "urn:ietf:params:xml:ns:pidf:data-model";
const CIPID: &str = "urn:ietf:params:xml:ns:pidf:cipid";
const XMPP: &str = "jabber:client";

const TUPLES_MAX: usize = 32;
const ITEMS_MAX: usize = 16;
const TEXT_MAX: usize = 1024;

/// Reads a document of at most 64 KiB; entities, DTDs and processing instructions are refused; a
/// UTF-16 label over UTF-8 bytes is taken. At most 32 tuples are kept, and 16 of each list.
///
/// # Errors
/// Not a presence document, or one that breaks these rules.
pub fn parse(body: &[u8]) -> Result<Pidf, InvalidPidf> {
    let root = xml::read(body, NS).map_err(|why| InvalidPidf(why.to_owned()))?;
    if !root.is("presence", NS) {
        return Err(InvalidPidf("the first element is not presence".to_owned()));
    }
    let mut document =
        Pidf { entity: cut(root.attr("entity").unwrap_or_default()), ..Pidf::default() };
    for child in root.children() {
        match child.name() {
            "tuple" if child.ns() == NS && document.tuples.len() < TUPLES_MAX => {
                document.tuples.push(tuple(child));
            }
            "note" => push(&mut document.notes, child.text()),
            "person" if child.ns() == PERSON => {
                collect_activities(child, &mut document.activities);
                // RFC 4479: notes of the person are notes of the document.
                for note in child.children().filter(|child| child.name() == "note") {
                    push(&mut document.notes, note.text());
                }
            }
            // Some writers leave the person out.
            "activities" => activity_list(child, &mut document.activities),
            "display-name" => {
                let name = child.text();
                let name = name.trim();
                document.display_name = (!name.is_empty()).then(|| cut(name));
            }
            _ => {}
        }
    }
    Ok(document)
}

fn tuple(element: &Element) -> Tuple {
    let mut tuple = Tuple { id: cut(element.attr("id").unwrap_or_default()), ..Tuple::default() };
    for child in element.children() {
        match child.name() {
            "status" if child.ns() == NS => status(child, &mut tuple),
            "note" => push(&mut tuple.notes, child.text()),
            "contact" => tuple.priority = child.attr("priority").and_then(thousandths),
            // RFC 4480 allows activities in a tuple, and others put them there.
            "activities" => activity_list(child, &mut tuple.activities),
            _ => {}
        }
    }
    tuple
}

fn status(element: &Element, tuple: &mut Tuple) {
    for child in element.children() {
        match child.name() {
            "basic" => {
                tuple.open = match child.text().trim().to_ascii_lowercase().as_str() {
                    "open" => Some(true),
                    "closed" => Some(false),
                    _ => None,
                };
            }
            "activities" => activity_list(child, &mut tuple.activities),
            "show" if child.ns() == XMPP => {
                let show = child.text().trim().to_ascii_lowercase();
                tuple.show = (!show.is_empty()).then(|| cut(&show));
            }
            // SIPE reads a note here, so somebody writes it.
            "note" => push(&mut tuple.notes, child.text()),
            _ => {}
        }
    }
}

fn collect_activities(element: &Element, into: &mut Vec<String>) {
    for child in element.children().filter(|child| child.name() == "activities") {
        activity_list(child, into);
    }
}

/// `<activity>busy</activity>` (2004) and `<busy/>` (RFC 4480) alike.
fn activity_list(element: &Element, into: &mut Vec<String>) {
    for child in element.children() {
        match child.name() {
            "activity" => push(into, child.text().to_ascii_lowercase()),
            "note" | "unknown" => {}
            // RFC 4480: `other` holds free text; the element itself says nothing.
            "other" => push(into, child.text().to_ascii_lowercase()),
            name => push(into, name.to_ascii_lowercase()),
        }
    }
}

fn push(list: &mut Vec<String>, text: String) {
    let text = text.trim();
    if list.len() < ITEMS_MAX && !text.is_empty() {
        list.push(cut(text));
    }
}

/// At most so much of a text, at a character.
fn cut(text: &str) -> String {
    let end = text.char_indices().map(|(at, one)| at + one.len_utf8());
    let end = end.take_while(|end| *end <= TEXT_MAX).last().unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// `0.8` is 800; RFC 3863 allows three digits after the point.
fn thousandths(text: &str) -> Option<u16> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: u16 = if whole.is_empty() { 0 } else { whole.parse().ok().filter(|n| *n <= 1)? };
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    Some(whole * 1000 + fraction).filter(|value| *value <= 1000)
}

/// Writes a document that Lync, SIPE and RFC 3863 readers understand: activity `busy` or `away`
/// inside `<status>` in the 2004 namespace and as RPID person, `<show>` for RFC 8048 readers.
/// Activities that are no XML names are left out of the RPID form.
pub fn write(document: &Pidf) -> String {
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"{NS}\" \
         xmlns:ep=\"{RPID_2004}\" xmlns:dm=\"{PERSON}\" xmlns:rpid=\"{RPID}\" \
         xmlns:ci=\"{CIPID}\" entity=\"{}\">",
        xml::escape(&document.entity)
    );
    for tuple in &document.tuples {
        write_tuple(&mut out, tuple, &document.activities);
    }
    for note in &document.notes {
        out += &format!("<note>{}</note>", xml::escape(note));
    }
    write_person(&mut out, document);
    if let Some(name) = &document.display_name {
        out += &format!("<ci:display-name>{}</ci:display-name>", xml::escape(name));
    }
    out + "</presence>"
}

fn write_tuple(out: &mut String, tuple: &Tuple, of_person: &[String]) {
    *out += &format!("<tuple id=\"{}\"><status>", xml::escape(&tuple.id));
    if let Some(open) = tuple.open {
        *out += if open { "<basic>open</basic>" } else { "<basic>closed</basic>" };
    }
    let activities = if tuple.activities.is_empty() { of_person } else { &tuple.activities };
    if !activities.is_empty() {
        *out += "<ep:activities>";
        for activity in activities {
            *out += &format!("<ep:activity>{}</ep:activity>", xml::escape(activity));
        }
        *out += "</ep:activities>";
    }
    if let Some(show) = &tuple.show {
        *out += &format!("<show xmlns=\"{XMPP}\">{}</show>", xml::escape(show));
    }
    *out += "</status>";
    if let Some(priority) = tuple.priority {
        // The contact may be empty where only its priority matters (RFC 8048 section 5.2.2).
        let priority = priority.min(1000);
        *out += &format!("<contact priority=\"{}.{:03}\"/>", priority / 1000, priority % 1000);
    }
    for note in &tuple.notes {
        *out += &format!("<note>{}</note>", xml::escape(note));
    }
    *out += "</tuple>";
}

fn write_person(out: &mut String, document: &Pidf) {
    let of_tuple = document.tuples.first().map(|tuple| tuple.activities.as_slice());
    let activities = if document.activities.is_empty() {
        of_tuple.unwrap_or_default()
    } else {
        &document.activities
    };
    let names: Vec<_> = activities.iter().filter(|name| is_name(name)).collect();
    if names.is_empty() {
        return;
    }
    *out += "<dm:person id=\"p1\"><rpid:activities>";
    for name in names {
        *out += &format!("<rpid:{name}/>");
    }
    *out += "</rpid:activities></dm:person>";
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

#[cfg(test)]
mod tests;
