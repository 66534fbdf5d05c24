//! SIP to XMPP and back: addresses, presence, IM sessions, typing, errors; one profile per kind of
//! partner.
//!
//! Owns: what a message of one protocol means in the other (RFC 7247, 7572, 7573, 8048, and
//! Microsoft's ways), and the state that this needs. Does not own: sockets, clocks, stores,
//! policy, transactions. Only this crate knows both protocols.
