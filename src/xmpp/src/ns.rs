//! Namespaces, by the names the field uses.

/// Content namespace of client streams; also what every stanza inside this program is in.
pub const CLIENT: &str = "jabber:client";
/// Content namespace of server-to-server streams; mapped to [`CLIENT`] by the framing.
pub const SERVER: &str = "jabber:server";
/// `stream:stream`, `stream:features`, `stream:error`.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Conditions inside `stream:error`.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions inside a stanza's `error`.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Extended SASL (XEP-0388).
pub const SASL2: &str = "urn:xmpp:sasl:2";
/// Binding within a log-in (XEP-0386).
pub const BIND2: &str = "urn:xmpp:bind:0";
/// Tokens for log-ins (XEP-0484).
pub const FAST: &str = "urn:xmpp:fast:0";
/// SASL channel-binding types (XEP-0440).
pub const SASL_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// Resource binding.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Session establishment of RFC 3921; optional no-op.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Dialback elements (XEP-0220).
pub const DIALBACK: &str = "jabber:server:dialback";
/// Dialback stream feature (XEP-0220).
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// Bidirectional S2S streams (XEP-0288): what initiators ask for.
pub const BIDI: &str = "urn:xmpp:bidi";
/// The same as a feature of a stream. ejabberd 24.12 has the other one there.
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// Stream management (XEP-0198).
pub const SM: &str = "urn:xmpp:sm:3";
/// Client state indication (XEP-0352).
pub const CSI: &str = "urn:xmpp:csi:0";
/// Stream limits (XEP-0478).
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// Carbons (XEP-0280).
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// Forwarded stanzas (XEP-0297).
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// Rosters.
pub const ROSTER: &str = "jabber:iq:roster";
/// Roster versioning stream feature.
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// Subscription pre-approval stream feature (RFC 6121, section 3.4).
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
/// Service discovery (XEP-0030).
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// Service discovery (XEP-0030).
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// Ping (XEP-0199).
pub const PING: &str = "urn:xmpp:ping";
/// Software version (XEP-0092).
pub const VERSION: &str = "jabber:iq:version";
/// vcard-temp (XEP-0054).
pub const VCARD: &str = "vcard-temp";
/// Blocking (XEP-0191).
pub const BLOCKING: &str = "urn:xmpp:blocking";
/// Blocking errors (XEP-0191).
pub const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
/// Delayed delivery (XEP-0203).
pub const DELAY: &str = "urn:xmpp:delay";
/// Ours: the attribute in which the trunk carries [`TraceId`](gatehouse_types::TraceId). Other
/// servers take no notice of it (RFC 6120, section 8.4).
pub const TRACE: &str = "urn:gatehouse:trace:0";
/// Ours: what the two ends of the trunk tell each other besides XEP-0198.
pub const TRUNK: &str = "urn:gatehouse:trunk:0";
/// The XML namespace, for `xml:lang`.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
