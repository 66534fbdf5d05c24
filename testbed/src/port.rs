//! The well-known ports plus 10000: peers are found by SRV records, so any port will do, and these
//! leave room for an XMPP server that this machine may run anyway. SIP keeps its own.

/// Clients, STARTTLS.
pub(crate) const C2S: u16 = 15222;
/// Clients, direct TLS.
pub(crate) const C2S_DIRECT_TLS: u16 = 15223;
/// Servers, STARTTLS.
pub(crate) const S2S: u16 = 15269;
/// Servers, direct TLS.
pub(crate) const S2S_DIRECT_TLS: u16 = 15270;
/// Core to edge.
pub(crate) const TRUNK: u16 = 15275;
/// Core to edge, by way of a link that can be cut.
pub(crate) const LINK: u16 = 15276;
/// Our metrics and status.
pub(crate) const ADMIN: u16 = 15280;
/// SIP in the clear, inside. The well-known port: a row of the policy that names a host names no
/// port.
pub(crate) const SIP: u16 = 5060;
/// SIP over TLS, with partners.
pub(crate) const SIPS: u16 = 5061;
/// The name server.
pub(crate) const DNS: u16 = 15053;
/// Held while an address block is in use.
pub(crate) const CLAIM: u16 = 15999;

/// Those that somebody else might hold on all addresses.
pub(crate) const ALL: [u16; 7] = [C2S, C2S_DIRECT_TLS, S2S, S2S_DIRECT_TLS, TRUNK, ADMIN, DNS];
