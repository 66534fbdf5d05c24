use std::fmt;

/// A status code, 100 to 699 (RFC 3261 section 7.2).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Status(u16);

impl Status {
    /// `None` outside 100 to 699.
    pub fn new(code: u16) -> Option<Self> {
        (100..=699).contains(&code).then_some(Self(code))
    }

    /// For codes known when the program is written.
    ///
    /// # Panics
    /// Outside 100 to 699, so at build time when used in a `const`.
    pub const fn of(code: u16) -> Self {
        assert!(code >= 100 && code <= 699, "a status code is 100 to 699");
        Self(code)
    }

    /// The number.
    pub fn code(self) -> u16 {
        self.0
    }

    /// 100 to 199.
    pub fn is_provisional(self) -> bool {
        self.0 < 200
    }

    /// 200 to 299.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }

    /// 200 and up.
    pub fn is_final(self) -> bool {
        self.0 >= 200
    }

    /// The default reason phrase; empty for a code nobody registered.
    pub fn reason(self) -> &'static str {
        todo!()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
