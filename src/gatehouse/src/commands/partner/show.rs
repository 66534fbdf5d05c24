//! A probe's report as a person reads it: first the answer, then what to do, then what was seen.

use gatehouse_edge::probe::{
    AddressReport, Finding, OwnCheck, ProbeReport, ProtocolReport, Severity, SrvReport, Stage,
    TargetReport, Turn,
};

use crate::display::table;

pub(super) fn report(report: &ProbeReport) -> String {
    let mut answer = format!(
        "{} as seen from {}: {}\n{}",
        report.domain,
        report.as_domain,
        if report.verdict.works { "WORKS" } else { "DOES NOT WORK" },
        report.verdict.text
    );
    if let Some(turn) = report.verdict.turn {
        answer.push_str(&format!("\nTurn: {}", whose(turn)));
    }
    let mut parts = vec![answer];
    for (name, one) in [("XMPP", &report.xmpp), ("SIP", &report.sip)] {
        let Some(one) = one else { continue };
        let is_wanted = report.policy_protocol.contains(&name.to_ascii_lowercase());
        let is_alone = report.xmpp.is_none() || report.sip.is_none();
        let has_addresses = one.targets.iter().any(|target| !target.addresses.is_empty());
        if is_wanted || is_alone || has_addresses {
            parts.push(protocol(name, one));
        } else {
            parts.push(format!(
                "{name}: not this partner's protocol: neither our policy nor its DNS speaks of it"
            ));
        }
    }
    parts.join("\n\n")
}

fn protocol(name: &str, report: &ProtocolReport) -> String {
    let yes = |yes| if yes { "yes" } else { "no" };
    let mut parts = vec![format!(
        "{name}: to the partner {}, from the partner {}\n  Policy: {}",
        yes(report.outbound),
        yes(report.inbound),
        report.policy.text
    )];
    if !report.findings.is_empty() {
        let findings: Vec<String> = report.findings.iter().map(finding).collect();
        parts.push(format!("{name}, what to do:\n{}", findings.join("\n")));
    }
    parts.push(format!("{name}, DNS (targets from: {}):\n{}", report.dns.source, dns(report)));
    if !report.targets.is_empty() {
        parts.push(format!("{name}, targets:\n{}", indented(&targets(&report.targets))));
    }
    let dane = dane(&report.targets);
    if !dane.is_empty() {
        parts.push(format!("{name}, DANE:\n{dane}"));
    }
    let rules = rules(&report.targets);
    if !rules.is_empty() {
        parts.push(format!("{name}, what the certificates prove:\n{}", indented(&rules)));
    }
    let details: Vec<String> = report.targets.iter().flat_map(details).collect();
    if !details.is_empty() {
        parts.push(details.join("\n"));
    }
    parts.push(format!("{name}, our own side:\n{}", indented(&own(&report.own))));
    parts.join("\n\n")
}

fn whose(turn: Turn) -> &'static str {
    match turn {
        Turn::Us => "ours",
        Turn::Partner => "the partner's",
        Turn::Both => "both",
    }
}

fn finding(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Fail => "FAIL",
        Severity::Warn => "warn",
    };
    let mut text = format!("  {severity}  {} (turn: {})", finding.text, whose(finding.turn));
    if !finding.remedy.is_empty() {
        text.push_str(&format!("\n        do: {}", finding.remedy));
    }
    text
}

fn dns(report: &ProtocolReport) -> String {
    let line = |srv: &SrvReport| match srv.state {
        "found" => {
            let records = srv.records.iter().map(|one| {
                format!("  {}  {} {} {} {}", srv.name, one.priority, one.weight, one.port, one.host)
            });
            records.collect::<Vec<_>>().join("\n")
        }
        "absent" => format!("  {}  no record", srv.name),
        "refused" => format!("  {}  `.`: the domain has no such service", srv.name),
        _ => format!("  {}  {}", srv.name, srv.reason.as_deref().unwrap_or("failed")),
    };
    report.dns.srv.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn targets(targets: &[TargetReport]) -> String {
    let head = ["HOST", "ADDRESS", "BY", "TLS", "REACHED", "RESULT"];
    let mut rows = Vec::new();
    for target in targets {
        let by = target.transport.to_owned();
        if let Some(problem) = &target.problem {
            let dash = || "-".to_owned();
            rows.push([target.host.clone(), dash(), by.clone(), dash(), dash(), problem.clone()]);
        }
        for one in &target.addresses {
            let private = if one.private { " (private)" } else { "" };
            rows.push([
                target.host.clone(),
                format!("{}{private}", one.address),
                by.clone(),
                match &one.tls {
                    Some(tls) => format!("{} {}", tls.version, tls.cipher_suite),
                    None => "-".to_owned(),
                },
                match one.stage {
                    Stage::NotDialled => "not dialled",
                    Stage::Tcp => "tcp",
                    Stage::Tls => "tls",
                    Stage::Protocol => "protocol",
                    Stage::Done => "all",
                }
                .to_owned(),
                result(one),
            ]);
        }
    }
    table(head, rows.into_iter())
}

/// The TLSA records of each port, and whether they decide.
fn dane(targets: &[TargetReport]) -> String {
    let mut lines = Vec::new();
    for dane in targets.iter().filter_map(|target| target.dane.as_ref()) {
        let what = match (dane.state, dane.decides) {
            ("absent", _) => "no TLSA record",
            ("bogus", true) => "BOGUS: the port must not be used",
            (_, true) => "secure: they decide about the certificate",
            ("secure", false) => "secure, and do not count",
            ("bogus", false) => "bogus, and does not count",
            _ => "not secure, and do not count",
        };
        let why = dane.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        lines.push(format!("  {}  {what}{why}", dane.name));
        for one in &dane.records {
            let unusable = if one.usable { "" } else { "  cannot be used" };
            let numbers = format!("{} {} {}", one.usage, one.selector, one.matching);
            lines.push(format!("    {numbers} {}{unusable}", one.data));
        }
    }
    lines.dedup();
    lines.join("\n")
}

fn result(one: &AddressReport) -> String {
    match (&one.error, one.usable, one.proved) {
        (Some(error), _, _) => error.clone(),
        (None, true, _) => "good".to_owned(),
        (None, false, false) => "the certificate proves nothing".to_owned(),
        (None, false, true) => "it answers, and refuses".to_owned(),
    }
}

fn rules(targets: &[TargetReport]) -> String {
    let mut rows = Vec::new();
    for one in targets.iter().flat_map(|target| &target.addresses) {
        for rule in &one.rules {
            rows.push([
                one.address.clone(),
                rule.rule.to_owned(),
                if rule.counts { "yes" } else { "no" }.to_owned(),
                if rule.pass { "pass" } else { "FAIL" }.to_owned(),
                rule.text.clone(),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    table(["ADDRESS", "RULE", "COUNTS", "RESULT", "WHY"], rows.into_iter())
}

/// The certificate and the answers of each address.
fn details(target: &TargetReport) -> Vec<String> {
    let mut all = Vec::new();
    for one in &target.addresses {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: &str| lines.push(format!("    {name:<13}{value}"));
        if let Some(certificate) = &one.certificate {
            let mut names = certificate.names.join(", ");
            if certificate.names_left_out > 0 {
                names.push_str(&format!(" and {} more", certificate.names_left_out));
            }
            line("subject", &certificate.subject);
            line("issuer", &certificate.issuer);
            line("names", if names.is_empty() { "none" } else { &names });
            let chain_len = one.tls.as_ref().map_or(0, |tls| tls.chain_len);
            line("chain", &format!("{} ({chain_len} certificates shown)", certificate.chain));
            line("days left", &certificate.days_left.to_string());
            line("key", &certificate.key_pin);
        }
        if let Some(xmpp) = &one.xmpp {
            if !xmpp.features_before_tls.is_empty() {
                line("before TLS", &xmpp.features_before_tls.join(", "));
            }
            line("features", &xmpp.features.join(", "));
            line("EXTERNAL", xmpp.external);
            line("dialback", xmpp.dialback);
            if let Some(said) = &xmpp.said {
                line("said", said);
            }
        }
        if let Some(sip) = &one.sip {
            line("OPTIONS", &format!("{} {}", sip.status, sip.reason));
            if let Some(server) = &sip.server {
                line("server", server);
            }
            if let Some(diagnostics) = &sip.diagnostics {
                line("diagnostics", diagnostics);
            }
        }
        if !lines.is_empty() {
            all.push(format!("  {} at {}\n{}", target.host, one.address, lines.join("\n")));
        }
    }
    all
}

fn own(checks: &[OwnCheck]) -> String {
    let rows = checks.iter().map(|check| {
        let result = match (check.pass, check.required) {
            (true, _) => "good",
            (false, true) => "FAIL",
            (false, false) => "warn",
        };
        [check.what.to_owned(), result.to_owned(), check.text.clone()]
    });
    table(["WHAT", "RESULT", "FOUND"], rows)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
