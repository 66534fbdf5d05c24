//! What a probe found, in words for people and fields for machines. Every text that comes from
//! outside is printable and short.

use serde::Serialize;

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeReport {
    /// The partner.
    pub domain: String,
    /// The domain of ours that asked.
    #[serde(rename = "as")]
    pub as_domain: String,
    /// What the policy says that the partner speaks: `xmpp`, `sip`, `xmpp, then sip` or `none`.
    pub policy_protocol: &'static str,
    /// XMPP, if it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xmpp: Option<ProtocolReport>,
    /// SIP, if it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip: Option<ProtocolReport>,
    /// The end of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took_ms: u64,
}

/// Whether it would work.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// True if messages would go both ways.
    pub works: bool,
    /// By which protocol, if it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    /// Whose turn it is, if it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// One sentence.
    pub text: String,
}

/// One protocol.
#[derive(Clone, Debug, Serialize)]
pub struct ProtocolReport {
    /// What our policy says.
    pub policy: PolicyReport,
    /// What DNS says.
    pub dns: DnsReport,
    /// Each host, in the order in which it would be tried.
    pub targets: Vec<TargetReport>,
    /// Our side, seen with the partner's eyes.
    pub own: Vec<OwnCheck>,
    /// What stands out, the worst first.
    pub findings: Vec<Finding>,
    /// True if messages would go from us to the partner.
    pub outbound: bool,
    /// True if messages would come from the partner to us, as far as that can be told from here.
    pub inbound: bool,
}

/// What our policy says about the pair of domains. The same rule holds in both directions.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyReport {
    /// Yes or no.
    pub allowed: bool,
    /// The rule (XMPP) or row (SIP) that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How a SIP partner is found and trusted: `open`, `enhanced`, `direct`, `provider`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// The same in a sentence.
    pub text: String,
}

/// What DNS says.
#[derive(Clone, Debug, Serialize)]
pub struct DnsReport {
    /// The services that were asked about.
    pub srv: Vec<SrvReport>,
    /// Where the targets come from: `srv`, `fallback`, `policy` or `nowhere`.
    pub source: &'static str,
}

/// What DNS says about one SRV name.
#[derive(Clone, Debug, Serialize)]
pub struct SrvReport {
    /// The whole name.
    pub name: String,
    /// `found`, `absent`, `refused` (a record with target `.`) or `failed`.
    pub state: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The records.
    pub records: Vec<SrvLine>,
}

/// One SRV record.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are those of RFC 2782")]
pub struct SrvLine {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub host: String,
}

/// One host to dial.
#[derive(Clone, Debug, Serialize)]
pub struct TargetReport {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `STARTTLS` or `direct TLS`; SIP: `TLS`.
    pub transport: &'static str,
    /// Why it has no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What DNS says about its certificate (DANE, XMPP only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dane: Option<DaneReport>,
    /// Its addresses.
    pub addresses: Vec<AddressReport>,
}

/// What DNS says about the certificate of one port (RFC 6698, RFC 7673).
#[derive(Clone, Debug, Serialize)]
pub struct DaneReport {
    /// The whole name of the TLSA records.
    pub name: String,
    /// `absent`; `secure`: DNSSEC proves them; `insecure`: it does not; `bogus`: what should be signed
    /// cannot be validated, so the port must not be used.
    pub state: &'static str,
    /// True if the records decide whether the certificate is good.
    pub decides: bool,
    /// Why they do not, or why DNS cannot be believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The records.
    pub records: Vec<TlsaLine>,
}

/// One TLSA record.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are those of RFC 6698")]
pub struct TlsaLine {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    /// The start of the data, in hexadecimal digits.
    pub data: String,
    /// False if its numbers or its data are not what they should be: then it is as if it were not
    /// there.
    pub usable: bool,
}

/// How far an attempt came.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It was not dialled.
    NotDialled,
    /// The connection.
    Tcp,
    /// The handshake.
    Tls,
    /// The protocol.
    Protocol,
    /// All the way.
    Done,
}

/// One address of a target.
#[derive(Clone, Debug, Serialize)]
pub struct AddressReport {
    /// With the port.
    pub address: String,
    /// True if it is not on the public Internet.
    pub private: bool,
    /// How far the attempt came; where it is not `done`, `error` says why it went no further.
    pub stage: Stage,
    /// Why it went no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsReport>,
    /// What was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateReport>,
    /// Which rule of identity holds.
    pub rules: Vec<RuleReport>,
    /// True if the certificate proves the partner as the policy asks (or as the strictest policy
    /// would, where none speaks of it).
    pub proved: bool,
    /// What was said in XMPP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xmpp: Option<XmppAnswer>,
    /// What was said in SIP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip: Option<SipAnswer>,
    /// True if messages would go this way.
    pub usable: bool,
}

/// What the handshake agreed on.
#[derive(Clone, Debug, Serialize)]
pub struct TlsReport {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// IANA's name.
    pub cipher_suite: &'static str,
    /// Certificates that were shown.
    pub chain_len: usize,
}

/// What a certificate says.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateReport {
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// Every name in subjectAltName (at most 50), with its kind.
    pub names: Vec<String>,
    /// Names that are left out here.
    pub names_left_out: usize,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// Days until it ends; negative once it has.
    pub days_left: i64,
    /// SHA-256.
    pub fingerprint_sha256: String,
    /// As a policy rule takes it.
    pub key_pin: String,
    /// What our roots make of its chain: `good`, or why not.
    pub chain: String,
}

/// A rule by which a certificate may prove a domain.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// Its name.
    pub rule: &'static str,
    /// True if the policy takes it for this partner.
    pub counts: bool,
    /// True if it holds.
    pub pass: bool,
    /// By which name, or why not.
    pub text: String,
}

/// What an XMPP server said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct XmppAnswer {
    /// What it offered before TLS.
    pub features_before_tls: Vec<String>,
    /// What it offered with TLS.
    pub features: Vec<String>,
    /// What became of our certificate: `accepted`, `refused`, `offered` (not tried) or `not offered`.
    pub external: &'static str,
    /// What became of dialback: `accepted`, `refused`, `no answer`, `offered` (not needed) or
    /// `not offered`.
    pub dialback: &'static str,
    /// What it said about either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// True if the stream opened for stanzas.
    pub opened: bool,
}

/// What a SIP server answered to OPTIONS.
#[derive(Clone, Debug, Serialize)]
pub struct SipAnswer {
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// `Server`, or `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// `ms-diagnostics-public`, or `ms-diagnostics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<String>,
    /// How far its clock is ahead of ours, where it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_secs: Option<i64>,
}

/// What a look at our own side is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OwnKind {
    /// Our records.
    Dns,
    /// Our certificate.
    Certificate,
    /// Our port.
    Listener,
}

/// One look at our own side.
#[derive(Clone, Debug, Serialize)]
pub struct OwnCheck {
    #[serde(skip)]
    pub(crate) kind: OwnKind,
    /// What was looked at.
    pub what: &'static str,
    /// True if it is as a partner wants it.
    pub pass: bool,
    /// True if partners refuse us without it; else it is good practice.
    pub required: bool,
    /// What was found.
    pub text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing goes.
    Fail,
    /// It goes all the same.
    Warn,
}

/// Who should act.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// We.
    Us,
    /// The partner's administrator.
    Partner,
    /// It cannot be told from here: compare.
    Both,
}

/// What stands out.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Whose turn it is.
    pub turn: Turn,
    /// What was found.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        turn: Turn,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity, turn, text: text.into(), remedy: remedy.into() }
    }
}
