//! The trunk's stream, both ends: TLS, SASL EXTERNAL, XEP-0198, stanzas of many domains.

/// One end of a trunk stream.
pub struct TrunkEnd {}

/// What a trunk machine tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum TrunkEvent {}
