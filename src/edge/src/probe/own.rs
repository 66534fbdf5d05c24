//! Our own records and certificate, seen with a partner's eyes: its refusal never says why.

use futures_util::future::join_all;
use gatehouse_identity::{CertificatePurposes, CertificateSummary, Presented};
use gatehouse_resolve::{HostSurvey, SrvRecord, SrvSurvey};
use gatehouse_types::Domain;

use super::Probe;
use super::dns::{ask, records};
use super::report::{OwnCheck, OwnKind};
use crate::PrivateTargets;

const DAY_SECONDS: i64 = 86_400;
/// A certificate that ends sooner is worth a word.
const ENDS_SOON_DAYS: i64 = 14;

/// What we would show to a partner.
#[derive(Clone, Debug, Default)]
pub struct OwnSide {
    /// The certificate of our domain with its chain, DER, the leaf first; empty if there is none.
    pub chain: Vec<Vec<u8>>,
    /// Why there is none.
    pub problem: Option<String>,
    /// True if our local authority issued it, which no stranger trusts.
    pub issued_here: bool,
    /// The host that SIP partners see.
    pub sip_host: Option<Domain>,
    /// The port that they see.
    pub sip_port: u16,
    /// True if we listen for SIP partners.
    pub sip_listens: bool,
}

fn check(
    kind: OwnKind,
    what: &'static str,
    pass: bool,
    text: impl Into<String>,
    remedy: &str,
) -> OwnCheck {
    let remedy = (!pass).then(|| remedy.to_owned());
    OwnCheck { kind, what, pass, required: true, text: text.into(), remedy }
}

impl OwnCheck {
    /// Partners bear it.
    fn optional(self) -> Self {
        Self { required: false, ..self }
    }
}

/// What an XMPP partner sees of us.
pub(super) async fn xmpp(probe: &Probe<'_>) -> Vec<OwnCheck> {
    let (resolver, local) = (&probe.parts.resolver, &probe.parts.local.0);
    let ((direct, _), (starttls, _)) =
        tokio::join!(ask(resolver, "_xmpps-server", local), ask(resolver, "_xmpp-server", local),);
    let found: Vec<SrvRecord> =
        records(&direct).iter().chain(records(&starttls)).cloned().collect();
    let mut checks = Vec::new();
    let remedy = format!("publish _xmpp-server._tcp.{local}, pointing to the edge");
    let srv = |pass, text: String| check(OwnKind::Dns, "SRV", pass, text, &remedy);
    match (&direct, &starttls) {
        _ if !found.is_empty() => {
            checks.push(srv(true, format!("DNS leads to {}", hosts(&found))));
            checks.push(addresses(probe, &found).await);
        }
        (SrvSurvey::Failed(reason), _) | (_, SrvSurvey::Failed(reason)) => {
            checks.push(unasked(reason));
        }
        (SrvSurvey::Refused, _) | (_, SrvSurvey::Refused) => {
            checks.push(srv(false, format!("DNS says that {local} has no XMPP service")));
        }
        _ => {
            // RFC 6120 section 3.2.2: then the domain itself is dialled.
            let has_address = matches!(resolver.host(local).await, HostSurvey::Found(_));
            let text = if has_address {
                format!("no SRV record for {local}: partners dial {local} itself, port 5269")
            } else {
                format!(
                    "DNS has neither SRV records nor an address for {local}: no partner finds us"
                )
            };
            let one = srv(false, text);
            checks.push(if has_address { one.optional() } else { one });
        }
    }
    certificate(probe, &mut checks, false, |summary| {
        let named = summary.names.xmpp_server_match(local);
        let text =
            named.clone().unwrap_or_else(|| format!("our certificate does not name {local}"));
        let remedy =
            format!("get a certificate with the names of `gatehouse cert plan` for {local}");
        check(OwnKind::Certificate, "names", named.is_some(), text, &remedy)
    });
    checks
}

/// What a SIP partner, and a Lync edge above all, sees of us.
pub(super) async fn sip(probe: &Probe<'_>) -> Vec<OwnCheck> {
    let own = &probe.parts.own;
    let (resolver, local) = (&probe.parts.resolver, &probe.parts.local.0);
    let (survey, _) = ask(resolver, "_sipfederationtls", local).await;
    let wanted = own.sip_host.as_ref().map_or_else(|| format!("sip.{local}"), ToString::to_string);
    let port = own.sip_port;
    let mut checks = Vec::new();
    checks.push(check(
        OwnKind::Listener,
        "listener",
        own.sip_listens,
        if own.sip_listens {
            "`listen.sip` is set"
        } else {
            "`listen.sip` is empty: nobody answers"
        },
        "write sip = [\"[::]:5061\"] in [listen]",
    ));
    let publish = format!("publish _sipfederationtls._tcp.{local} SRV 0 0 {port} {wanted}");
    let srv = |pass, text: String| check(OwnKind::Dns, "SRV", pass, text, &publish);
    let mut host = own.sip_host.clone();
    match &survey {
        SrvSurvey::Found(found) => {
            // Lync takes one: the lowest priority, the highest weight.
            let Some(first) = found.first() else { return checks };
            checks.push(srv(true, format!("DNS leads to {}", hosts(found))));
            checks.push(check(
                OwnKind::Dns,
                "SRV host",
                first.host.parent().as_ref() == Some(local),
                format!("{} must lie directly in {local}, or Lync refuses us", first.host),
                &publish,
            ));
            let same = own.sip_host.as_ref() == Some(&first.host) && first.port == port;
            let same = check(
                OwnKind::Dns,
                "our host",
                same,
                format!("we call ourselves {wanted}:{port} in Via and Contact"),
                "let the SRV record and `host-label`, `public-port` in [sip] name the same",
            );
            checks.push(same.optional());
            checks.push(addresses(probe, found).await);
            host = Some(first.host.clone());
        }
        SrvSurvey::Absent => checks.push(srv(
            false,
            format!("no _sipfederationtls._tcp.{local}: Lync answers 504 and never says why"),
        )),
        SrvSurvey::Refused => {
            checks.push(srv(false, format!("DNS says that {local} has no SIP federation")));
        }
        SrvSurvey::Failed(reason) => checks.push(unasked(reason)),
    }
    certificate(probe, &mut checks, true, |summary| {
        // Never a wildcard (RFC 5922 section 7.2).
        let named = host.as_ref().is_some_and(|host| {
            let is_host = |name: &String| name.parse::<Domain>().is_ok_and(|name| name == *host);
            summary.names.dns.iter().any(is_host)
        });
        let host = host.as_ref().map_or(wanted.as_str(), Domain::as_str);
        let verb = if named { "names" } else { "does not name" };
        let remedy = format!("get a certificate with the dNSName {host} (`gatehouse cert plan`)");
        let text = format!("our certificate {verb} {host}");
        check(OwnKind::Certificate, "names", named, text, &remedy)
    });
    checks
}

/// Our own records cannot be looked up: that says nothing about what partners see.
fn unasked(reason: &str) -> OwnCheck {
    let text = format!("our own records cannot be looked up: {}", super::shake::text(reason));
    let remedy = "look at the name servers of this machine ([dns] in the settings)";
    check(OwnKind::Dns, "SRV", false, text, remedy).optional()
}

fn hosts(records: &[SrvRecord]) -> String {
    let hosts: Vec<String> =
        records.iter().map(|one| format!("{}:{}", one.host, one.port)).collect();
    hosts.join(", ")
}

/// Whether our SRV records lead anywhere.
async fn addresses(probe: &Probe<'_>, records: &[SrvRecord]) -> OwnCheck {
    let resolver = &probe.parts.resolver;
    let asked = records.iter().map(|record| resolver.host(&record.host));
    let mut found = Vec::new();
    for answer in join_all(asked).await {
        if let HostSurvey::Found(addresses) = answer {
            found.extend(addresses);
        }
    }
    let remedy = "publish A or AAAA records of the host that the SRV record names";
    let texts: Vec<String> = found
        .iter()
        .take(8)
        .map(|address| {
            let private = !PrivateTargets::Refuse.let_pass(*address);
            if private { format!("{address} (private)") } else { address.to_string() }
        })
        .collect();
    let text = if found.is_empty() {
        "the hosts of our SRV records have no address".to_owned()
    } else {
        texts.join(", ")
    };
    check(OwnKind::Dns, "addresses", !found.is_empty(), text, remedy)
}

/// Our certificate: is it there, whom does it name, for what, until when, who vouches for it.
fn certificate(
    probe: &Probe<'_>,
    checks: &mut Vec<OwnCheck>,
    both_purposes: bool,
    names: impl FnOnce(&CertificateSummary) -> OwnCheck,
) {
    let (own, unix_now) = (&probe.parts.own, probe.parts.unix_now);
    let kind = OwnKind::Certificate;
    let leaf = own.chain.first();
    let summary = leaf.and_then(|leaf| CertificateSummary::from_der(leaf).ok());
    let (Some(leaf), Some(summary)) = (leaf, summary) else {
        let text = own.problem.clone().unwrap_or_else(|| "there is no certificate".to_owned());
        let remedy = "issue one (`gatehouse cert issue`) or import one (`gatehouse cert import`)";
        return checks.push(check(kind, "certificate", false, text, remedy));
    };
    checks.push(names(&summary));
    let purposes = CertificatePurposes::from_der(leaf)
        .unwrap_or(CertificatePurposes { server: false, client: false });
    let text = match (purposes.server, purposes.client) {
        (true, true) => "for TLS servers and clients",
        (true, false) => "for TLS servers only, and we also dial with it",
        (false, true) => "for TLS clients only, and we also listen with it",
        (false, false) => "for neither TLS servers nor clients",
    };
    let remedy = "get a certificate with both purposes, serverAuth and clientAuth";
    let pass = purposes.server && purposes.client;
    let purposes = check(kind, "purposes", pass, text, remedy);
    // XMPP servers bear one for servers only, as public authorities issue them now.
    checks.push(if both_purposes { purposes } else { purposes.optional() });
    checks.push(validity(&summary, unix_now));
    checks.push(chain(probe, &summary));
}

fn validity(summary: &CertificateSummary, unix_now: i64) -> OwnCheck {
    let days = (summary.not_after - unix_now).div_euclid(DAY_SECONDS);
    let one =
        |pass, text: String, remedy| check(OwnKind::Certificate, "validity", pass, text, remedy);
    let renew = "renew it: `gatehouse cert issue` or `gatehouse cert import`";
    if unix_now < summary.not_before {
        let clock = "look at the clock of this machine; if it is right, wait or get another one";
        one(false, "our certificate is not valid yet".to_owned(), clock)
    } else if unix_now >= summary.not_after {
        one(false, "our certificate has expired".to_owned(), renew)
    } else if days < ENDS_SOON_DAYS {
        one(false, format!("our certificate ends in {days} days"), renew).optional()
    } else {
        one(true, format!("{days} days left"), renew)
    }
}

/// Whether a partner with the same roots as we would trust us.
fn chain(probe: &Probe<'_>, summary: &CertificateSummary) -> OwnCheck {
    let own = &probe.parts.own;
    let judged = probe.parts.plain_connector.roots().judge(&own.chain);
    let one =
        |pass, text: String, remedy: &str| check(OwnKind::Certificate, "chain", pass, text, remedy);
    match judged {
        Presented::Verified(_) => one(true, format!("good, issued by {}", summary.issuer), ""),
        _ if own.issued_here => one(
            false,
            "our local authority issued it: a partner that has not imported that refuses us".into(),
            "get one from a public authority (`gatehouse cert csr`, `cert import`), or give the \
             partner certs/local-ca.crt",
        ),
        Presented::Untrusted { fault, .. } => {
            let count = own.chain.len();
            one(
                false,
                format!(
                    "with the roots of this machine: {fault} ({count} certificates in the file)"
                ),
                "import the whole chain, intermediates included (`gatehouse cert import --chain`)",
            )
        }
        Presented::Nothing | Presented::Vouched(_) => one(false, "there is none".into(), ""),
    }
}
