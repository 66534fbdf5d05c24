use super::ScramHash;

/// What a client may choose from, best first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mechanism {
    ScramSha256Plus,
    ScramSha1Plus,
    ScramSha256,
    ScramSha1,
    Plain,
}

/// Whether a mechanism ties itself to the TLS connection below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Binding {
    Bound,
    Unbound,
}

const ALL: [Mechanism; 5] = [
    Mechanism::ScramSha256Plus,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha256,
    Mechanism::ScramSha1,
    Mechanism::Plain,
];

impl Mechanism {
    /// What is offered on a TLS connection with this keying material, best first.
    pub(crate) fn offered(exporter: Option<&[u8; 32]>) -> impl Iterator<Item = Self> {
        let can_bind = exporter.is_some();
        ALL.into_iter().filter(move |mechanism| can_bind || mechanism.binding() == Binding::Unbound)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }

    pub(super) fn binding(self) -> Binding {
        match self {
            Self::ScramSha256Plus | Self::ScramSha1Plus => Binding::Bound,
            Self::ScramSha256 | Self::ScramSha1 | Self::Plain => Binding::Unbound,
        }
    }

    /// The hash that the client and we must have in common; PLAIN goes with any.
    pub(super) fn hash(self) -> Option<ScramHash> {
        match self {
            Self::ScramSha256Plus | Self::ScramSha256 => Some(ScramHash::Sha256),
            Self::ScramSha1Plus | Self::ScramSha1 => Some(ScramHash::Sha1),
            Self::Plain => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(exporter: Option<&[u8; 32]>) -> String {
        Mechanism::offered(exporter).map(Mechanism::name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn plus_needs_keying_material() {
        assert_eq!(
            names(Some(&[7; 32])),
            "SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1 PLAIN"
        );
        assert_eq!(names(None), "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN");
    }
}
