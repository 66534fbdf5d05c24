//! What the findings come to: would it work, and if not, whose turn it is.

use super::dns::PRIVATE;
use super::report::{
    AddressReport, DnsReport, Finding, OwnCheck, OwnKind, PolicyReport, ProtocolReport, Severity,
    SipAnswer, Stage, TargetReport, Turn, Verdict,
};
use super::xmpp::DANE;

/// Findings about single addresses that are told.
const ADDRESS_FINDINGS_MAX: usize = 8;
/// Clocks that are further apart are worth a word: certificates and tickets depend on them.
const SKEW_MAX_SECS: i64 = 300;

pub(super) fn xmpp(
    policy: PolicyReport,
    dns: DnsReport,
    targets: Vec<TargetReport>,
    own: Vec<OwnCheck>,
) -> ProtocolReport {
    let opened = addresses(&targets).any(|one| one.xmpp.as_ref().is_some_and(|it| it.opened));
    // Who opened a stream for us has found our certificate, or us, to be good enough.
    let spared = |check: &OwnCheck| opened && check.kind == OwnKind::Certificate;
    let service = "XMPP";
    assemble(service, policy, dns, targets, own, spared, xmpp_fault)
}

pub(super) fn sip(
    policy: PolicyReport,
    dns: DnsReport,
    targets: Vec<TargetReport>,
    own: Vec<OwnCheck>,
    is_lync: bool,
) -> ProtocolReport {
    let answers = || addresses(&targets).filter_map(|one| one.sip.as_ref());
    let lync_speaks = is_lync || answers().any(is_of_lync);
    let welcomed = answers().any(|answer| (200..300).contains(&answer.status));
    // Lync looks at our names only once a message comes, and always; others have let us in.
    let spared = |check: &OwnCheck| welcomed && !lync_speaks && check.kind != OwnKind::Listener;
    assemble("SIP", policy, dns, targets, own, spared, sip_fault)
}

/// True if the partner takes requests from us, whatever it makes of this one.
pub(super) fn is_alive(answer: &SipAnswer) -> bool {
    let turned_away = matches!(answer.status, 401 | 403 | 407 | 408 | 436..=438);
    !turned_away && (answer.status < 500 || answer.status == 501)
}

/// Lync and Skype for Business call themselves `RTC/` and a number.
fn is_of_lync(answer: &SipAnswer) -> bool {
    answer.server.as_ref().is_some_and(|server| server.starts_with("RTC/")) || answer.status == 504
}

fn addresses(targets: &[TargetReport]) -> impl Iterator<Item = &AddressReport> {
    targets.iter().flat_map(|target| &target.addresses)
}

fn assemble(
    service: &str,
    policy: PolicyReport,
    dns: DnsReport,
    targets: Vec<TargetReport>,
    own: Vec<OwnCheck>,
    spared: impl Fn(&OwnCheck) -> bool,
    fault: fn(&AddressReport) -> Option<(Turn, String, String)>,
) -> ProtocolReport {
    let mut findings = Vec::new();
    let usable = addresses(&targets).any(|one| one.usable);
    let proved = addresses(&targets).any(|one| one.proved);
    let severity = if usable { Severity::Warn } else { Severity::Fail };
    if !policy.allowed {
        findings.push(Finding::new(
            Severity::Fail,
            Turn::Us,
            format!("our policy: {}", policy.text),
            match service {
                "SIP" => "add a [[sip]] row for it to the policy, if it is to be a partner",
                _ => "add a [[rule]] for it to the policy, if it is to be a partner",
            },
        ));
    }
    findings.extend(nowhere(service, &dns, &targets));
    for target in &targets {
        if let Some(dane) = target.dane.as_ref().filter(|dane| dane.state == "bogus") {
            let reason = dane.reason.as_deref().unwrap_or_default();
            let (turn, severity) = match dane.decides {
                true => (Turn::Partner, severity),
                false => (Turn::Partner, Severity::Warn),
            };
            let text =
                format!("{}: its signed DNS records cannot be believed: {reason}", target.host);
            let remedy = "the partner must mend its DNSSEC signatures; `dig +dnssec` on another \
                          validating resolver shows the same";
            findings.push(Finding::new(severity, turn, text, remedy));
        }
        if let Some(problem) = &target.problem {
            let remedy = "the partner's DNS must give that host an A or AAAA record";
            findings.push(Finding::new(severity, Turn::Partner, problem, remedy));
        }
    }
    let mut told = 0;
    for (target, one) in
        targets.iter().flat_map(|target| target.addresses.iter().map(move |one| (target, one)))
    {
        if let Some(skew) = one.sip.as_ref().and_then(|answer| answer.clock_ahead_secs)
            && skew.abs() > SKEW_MAX_SECS
        {
            findings.push(Finding::new(
                Severity::Warn,
                Turn::Both,
                format!("its clock and ours are {} s apart", skew.abs()),
                "let both machines take their time from NTP",
            ));
        }
        if told == ADDRESS_FINDINGS_MAX {
            continue;
        }
        if let Some((turn, text, remedy)) = common_fault(one).or_else(|| fault(one)) {
            let text = format!("{} at {}: {text}", target.host, one.address);
            findings.push(Finding::new(severity, turn, text, remedy));
            told += 1;
        }
    }
    for check in own.iter().filter(|check| !check.pass) {
        let is_bad = check.required && !spared(check);
        findings.push(Finding::new(
            if is_bad { Severity::Fail } else { Severity::Warn },
            Turn::Us,
            format!("our {}: {}", check.what, check.text),
            check.remedy.clone().unwrap_or_default(),
        ));
    }
    findings.sort_by_key(|finding| finding.severity);
    let own_is_good = own.iter().all(|check| check.pass || !check.required || spared(check));
    let outbound = policy.allowed && usable;
    let inbound = policy.allowed && (usable || proved) && own_is_good;
    ProtocolReport { policy, dns, targets, own, findings, outbound, inbound }
}

/// Why there is nothing to dial.
fn nowhere(service: &str, dns: &DnsReport, targets: &[TargetReport]) -> Option<Finding> {
    if addresses(targets).next().is_some()
        || targets.iter().any(|one| one.problem.is_some()) && dns.source != "fallback"
    {
        return None;
    }
    let names = || {
        let names: Vec<&str> = dns.srv.iter().map(|one| one.name.as_str()).collect();
        names.join(" nor ")
    };
    if let Some(failed) = dns.srv.iter().find(|one| one.state == "failed") {
        let reason = failed.reason.as_deref().unwrap_or_default();
        return Some(Finding::new(
            Severity::Fail,
            Turn::Both,
            format!("DNS gives no answer about {}: {reason}", failed.name),
            "look at the name servers of this machine first, then at the partner's",
        ));
    }
    if let Some(refused) = dns.srv.iter().find(|one| one.state == "refused") {
        return Some(Finding::new(
            Severity::Fail,
            Turn::Partner,
            format!("its DNS says that it has no {service} service ({} is `.`)", refused.name),
            "ask the partner; with its consent, a route in our policy leads there all the same",
        ));
    }
    Some(Finding::new(
        Severity::Fail,
        Turn::Partner,
        format!("its DNS names no {service} server: neither {}", names()),
        "check the spelling of the domain; else the partner must publish its SRV records, or a \
         route in our policy must say where it is",
    ))
}

/// What goes wrong below the protocol.
fn common_fault(one: &AddressReport) -> Option<(Turn, String, String)> {
    let error = one.error.clone().unwrap_or_default();
    match one.stage {
        Stage::NotDialled if one.private && error.ends_with(PRIVATE) => Some((
            Turn::Both,
            error,
            "if this partner is on a network of ours, set private-targets = true in [s2s]; if not, \
             its DNS is wrong"
                .to_owned(),
        )),
        Stage::Tcp => Some((
            Turn::Partner,
            format!("no TCP connection: {error}"),
            "the partner must open this port to us; look at our own firewall, too".to_owned(),
        )),
        Stage::Tls => Some((
            Turn::Partner,
            format!("no TLS: {error}"),
            "the partner needs TLS 1.2 or newer with ECDHE and AES-GCM or ChaCha20; servers that \
             only do older versions, RSA key exchange or CBC are out of reach"
                .to_owned(),
        )),
        Stage::NotDialled | Stage::Protocol | Stage::Done => None,
    }
}

/// Why the certificate proves nothing, and what to do about it.
fn unproved(one: &AddressReport) -> Option<(Turn, String, String)> {
    if one.proved || one.tls.is_none() || one.usable {
        return None;
    }
    let by_dns = one.rules.iter().any(|rule| rule.rule == DANE && rule.counts && !rule.pass);
    let reasons: Vec<String> = one
        .rules
        .iter()
        .filter(|rule| !rule.pass && (!by_dns || rule.counts))
        .map(|rule| format!("{}: {}", rule.rule, rule.text))
        .collect();
    let chain = one.certificate.as_ref().map(|certificate| certificate.chain.as_str());
    let (turn, remedy) = match (chain, &one.certificate) {
        _ if by_dns => (
            Turn::Partner,
            "the partner must publish a TLSA record for the certificate that it shows, or show the \
             one that its record names; until then a pinned key in our policy goes before DNS"
                .to_owned(),
        ),
        (None, _) => (Turn::Partner, "the partner must show a certificate".to_owned()),
        (Some("good"), _) => (
            Turn::Partner,
            "the partner needs a certificate that names its domain (SIP: or the host of its SRV \
             record); does the SRV record lead to the right server?"
                .to_owned(),
        ),
        (Some(text), _) if text.contains("expired") => {
            (Turn::Partner, "the partner must renew its certificate".to_owned())
        }
        (Some(text), _) if text.contains("not valid yet") => {
            (Turn::Both, "compare the clocks of both machines".to_owned())
        }
        (Some(_), Some(certificate)) => (
            Turn::Both,
            format!(
                "if you know this partner: compare its key on the telephone, then pin it in the \
                 policy (pin = [\"{}\"], XMPP only), or name its authority in `tls.trust`; else it \
                 needs a certificate from a public authority with the whole chain",
                certificate.key_pin
            ),
        ),
        (Some(_), None) => (Turn::Partner, "the partner needs another certificate".to_owned()),
    };
    Some((turn, format!("its certificate proves nothing ({})", reasons.join("; ")), remedy))
}

fn xmpp_fault(one: &AddressReport) -> Option<(Turn, String, String)> {
    if one.usable || one.stage == Stage::NotDialled {
        return None;
    }
    if let Some(fault) = unproved(one) {
        return Some(fault);
    }
    let error = one.error.clone().unwrap_or_default();
    let Some(answer) = &one.xmpp else {
        return Some((
            Turn::Partner,
            format!("no XMPP stream: {error}"),
            "does an XMPP server answer at this port?".to_owned(),
        ));
    };
    let said = answer.said.clone().unwrap_or(error);
    if answer.dialback == "refused" || answer.dialback == "no answer" {
        return Some((
            Turn::Us,
            format!("dialback was not confirmed: {said}"),
            "the partner asks our edge, where our SRV records lead: is the appliance running there, \
             with the same dialback secret?"
                .to_owned(),
        ));
    }
    if answer.external != "accepted" {
        return Some((
            Turn::Both,
            format!("it does not take our certificate, and there is no dialback: {said}"),
            "give us a certificate that the partner trusts, or ask the partner to trust ours or to \
             offer dialback"
                .to_owned(),
        ));
    }
    Some((
        Turn::Both,
        format!("it closed the stream: {said}"),
        "ask the partner what its log says about our domain".to_owned(),
    ))
}

fn sip_fault(one: &AddressReport) -> Option<(Turn, String, String)> {
    if one.usable || one.stage == Stage::NotDialled {
        return None;
    }
    if let Some(fault) = unproved(one) {
        return Some(fault);
    }
    let Some(answer) = &one.sip else {
        return Some((
            Turn::Both,
            format!("no answer to OPTIONS: {}", one.error.clone().unwrap_or_default()),
            "a partner that closes at once has not taken our certificate: look at our own side \
             below, then ask the partner"
                .to_owned(),
        ));
    };
    let mut said = format!("it answers {} {}", answer.status, answer.reason);
    if let Some(diagnostics) = &answer.diagnostics {
        said = format!("{said} ({diagnostics})");
    }
    let (turn, remedy) = match answer.status {
        504 => (
            Turn::Us,
            "Lync says no more when our SRV record or our certificate does not please it: mend what \
             is told about our own side; if all of that is good, the partner has not allowed us",
        ),
        401 | 403 | 407 => (Turn::Partner, "the partner must allow our domain"),
        _ => (Turn::Partner, "ask the partner what its log says"),
    };
    Some((turn, said, remedy.to_owned()))
}

/// The end of it.
pub(super) fn of(
    chosen: &'static str,
    xmpp: Option<&ProtocolReport>,
    sip: Option<&ProtocolReport>,
) -> Verdict {
    let tried = [("xmpp", xmpp), ("sip", sip)];
    let tried = || tried.iter().filter_map(|(name, report)| report.map(|report| (*name, report)));
    let working =
        tried().find(|(name, report)| chosen.contains(name) && report.outbound && report.inbound);
    if let Some((name, _)) = working {
        return Verdict {
            works: true,
            protocol: Some(name),
            turn: None,
            text: format!("federation would work, by {}", name.to_uppercase()),
        };
    }
    // Of the protocols that were tried, what the policy wants, or else what the partner publishes.
    let wanted = tried()
        .find(|(name, report)| chosen.contains(name) && has_targets(report))
        .or_else(|| tried().find(|(_, report)| has_targets(report)))
        .or_else(|| tried().find(|(name, _)| chosen.contains(name)))
        .or_else(|| tried().next());
    let Some((name, report)) = wanted else {
        let text = "nothing was tried".to_owned();
        return Verdict { works: false, protocol: None, turn: None, text };
    };
    let worst = report.findings.iter().find(|finding| finding.severity == Severity::Fail);
    let (turn, why) = match worst {
        Some(finding) => (finding.turn, finding.text.clone()),
        None => (Turn::Us, format!("our policy says that it speaks {chosen}, not {name}")),
    };
    let text = format!("federation would not work by {}: {why}", name.to_uppercase());
    Verdict { works: false, protocol: None, turn: Some(turn), text }
}

fn has_targets(report: &ProtocolReport) -> bool {
    report.dns.source == "srv"
        || report.dns.source == "policy"
        || addresses(&report.targets).next().is_some()
}
