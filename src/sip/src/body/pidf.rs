//! Presence documents (RFC 3863), both dialects read, one written.

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

/// Reads a document of at most 64 KiB; entities, DTDs and processing instructions are refused; a
/// UTF-16 label over UTF-8 bytes is taken.
pub fn parse(body: &[u8]) -> Result<Pidf, InvalidPidf> {
    let _ = body;
    todo!()
}

/// Writes a document that Lync, SIPE and RFC 3863 readers understand: activity `busy` or `away`
/// inside `<status>` in the 2004 namespace and as RPID person, `<show>` for RFC 8048 readers.
pub fn write(document: &Pidf) -> String {
    let _ = document;
    todo!()
}
