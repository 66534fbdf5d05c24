//! Typing, in its two forms on the wire: `application/im-iscomposing+xml` in a MESSAGE (RFC 3994)
//! and Microsoft's `KeyboardActivity` in an INFO.

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

/// Reads either form; `None` if it is neither.
pub fn parse(content_type: &str, body: &[u8]) -> Option<Composing> {
    let _ = (content_type, body);
    todo!()
}

/// Writes the standard form.
pub fn iscomposing(state: Composing) -> String {
    let _ = state;
    todo!()
}

/// Writes Microsoft's form.
pub fn keyboard_activity(state: Composing) -> String {
    let _ = state;
    todo!()
}
