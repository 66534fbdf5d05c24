//! SIP: TLS to each address, the proof, and one OPTIONS.

use std::net::SocketAddr;
use std::time::Duration;

use gatehouse_identity::{Lacking, SipCertificate, SipGrounds, SipIdentityError};
use gatehouse_net::{Connection, Step, connect, now};
use gatehouse_policy::{Denial, SipConditions, SipMode};
use gatehouse_resolve::{Host, SrvSurvey, Transport};
use gatehouse_sip::{
    HeaderName, Limits, Message, Method, SipStream, StreamConfig, StreamEvent, Uri,
};
use gatehouse_tls::Io;
use gatehouse_types::{Chain, Domain};
use tokio::time;

use super::Probe;
use super::dns::{Place, Target, ask, grouped, records};
use super::report::{
    AddressReport, DnsReport, PolicyReport, ProtocolReport, RuleReport, SipAnswer, Stage,
};
use super::shake::{certificate, text, tls};
use super::verdict;

/// The port of a host that an administrator named without one.
const PORT: u16 = 5061;
/// How long our request may stay unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM: StreamConfig = StreamConfig {
    limits: Limits { head_max: 16 * 1024, body_max: 64 * 1024, headers_max: 128 },
    first_message_within: None,
    ping_after: None,
    pong_within: None,
    idle_max: None,
};

pub(super) async fn probe(probe: &Probe<'_>) -> ProtocolReport {
    let parts = probe.parts;
    let conditions = parts.policy.sip_conditions(&parts.local, &parts.remote);
    probe.say(format!("SIP: asking DNS about {}", parts.remote));
    let ((dns, places, federation_hosts), own) =
        tokio::join!(places(probe, conditions.as_ref().ok()), super::own::sip(probe));
    let trusted = dns.source == "policy" && has_route(conditions.as_ref().ok());
    let targets = probe.targets(places, trusted).await;
    let count: usize = targets.iter().map(|target| target.addresses.len()).sum();
    probe.say(format!("SIP: trying {count} addresses"));
    let reports = probe.try_all(&targets, |target, address, report| {
        attempt(probe, conditions.as_ref().ok(), &federation_hosts, target, address, report)
    });
    let targets = grouped(&targets, reports.await, |_| "TLS");
    let is_lync = conditions.as_ref().ok().and_then(|conditions| conditions.kind)
        == Some(gatehouse_policy::SipKind::Lync);
    verdict::sip(policy(&conditions), dns, targets, own, is_lync)
}

/// As the edge does it: only a route of the administrator may lead to private addresses.
fn has_route(conditions: Option<&SipConditions>) -> bool {
    conditions.is_some_and(|conditions| conditions.route.is_some())
}

fn policy(conditions: &Result<SipConditions, Denial>) -> PolicyReport {
    match conditions {
        Err(denial) => PolicyReport {
            allowed: false,
            rule: match denial {
                Denial::Blocked { rule, .. } => Some(rule.clone()),
                _ => None,
            },
            mode: None,
            text: format!("not allowed: {denial}"),
        },
        Ok(conditions) => {
            let mode = match conditions.mode {
                SipMode::Open => "open",
                SipMode::Enhanced => "enhanced",
                SipMode::Direct => "direct",
                SipMode::Provider => "provider",
            };
            let host = conditions.host.as_ref().map(|host| format!(", host {host}"));
            let rule = &conditions.rule;
            PolicyReport {
                allowed: true,
                rule: Some(rule.clone()),
                mode: Some(mode),
                text: format!("allowed by row `{rule}`, mode {mode}{}", host.unwrap_or_default()),
            }
        }
    }
}

/// What DNS says, what is dialled, and the hosts that the proof asks about.
async fn places(
    probe: &Probe<'_>,
    conditions: Option<&SipConditions>,
) -> (DnsReport, Vec<Place>, Vec<Domain>) {
    let (resolver, remote) = (&probe.parts.resolver, &probe.parts.remote.0);
    let ((federation, federation_report), (sips, sips_report)) =
        tokio::join!(ask(resolver, "_sipfederationtls", remote), ask(resolver, "_sips", remote),);
    let hosts = records(&federation).iter().map(|record| record.host.clone()).collect();
    let srv = vec![federation_report, sips_report];
    let named = conditions.and_then(|conditions| {
        match (&conditions.route, &conditions.host, conditions.mode) {
            (Some(route), _, _) => Some((route.host.clone(), route.port)),
            (None, Some(host), SipMode::Direct | SipMode::Provider) => Some((host.clone(), PORT)),
            _ => None,
        }
    });
    let transport = Transport::DirectTls;
    if let Some((host, port)) = named {
        let place = Place { host: Host::Name(host), port, transport };
        return (DnsReport { srv, source: "policy" }, vec![place], hosts);
    }
    let ((SrvSurvey::Found(found), _) | (SrvSurvey::Absent, SrvSurvey::Found(found))) =
        (&federation, &sips)
    else {
        return (DnsReport { srv, source: "nowhere" }, Vec::new(), hosts);
    };
    let places = found.iter().map(|record| Place::of(record, transport)).collect();
    (DnsReport { srv, source: "srv" }, places, hosts)
}

/// One address, from TCP to the answer.
async fn attempt(
    probe: &Probe<'_>,
    conditions: Option<&SipConditions>,
    federation_hosts: &[Domain],
    target: &Target,
    address: SocketAddr,
    mut report: AddressReport,
) -> AddressReport {
    let parts = probe.parts;
    let Host::Name(host) = &target.place.host else {
        return report.failed(Stage::NotDialled, "an address has no name that could be proved");
    };
    let deadline = probe.address_deadline();
    let left = deadline.saturating_duration_since(time::Instant::now());
    let tcp = match connect(address, left).await {
        Ok(tcp) => tcp,
        Err(error) => return report.failed(Stage::Tcp, &Chain(&error).to_string()),
    };
    let shaking = parts.plain_connector.inspect(tcp, host, &parts.local.0);
    let (io, facts, inspection) = match time::timeout_at(deadline, shaking).await {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(error)) => return report.failed(Stage::Tls, &Chain(&error).to_string()),
        Err(_) => return report.failed(Stage::Tls, "no answer in time"),
    };
    report.tls = Some(tls(&facts, inspection));
    report.certificate = certificate(&facts.presented, parts.unix_now);
    let shown = SipCertificate::read(&facts.presented);
    report.rules = rules(probe, &shown, conditions, federation_hosts);
    report.proved = match conditions {
        Some(conditions) => {
            shown.prove(&parts.remote, &conditions.grounds(federation_hosts)).is_ok()
        }
        None => report.rules.iter().any(|rule| rule.pass),
    };
    match time::timeout_at(deadline, options(probe, io)).await {
        Err(_) => report.failed(Stage::Protocol, "no answer to OPTIONS in time"),
        Ok(Err(error)) => report.failed(Stage::Protocol, &error),
        Ok(Ok(answer)) => {
            report.usable = report.proved && verdict::is_alive(&answer);
            AddressReport { stage: Stage::Done, sip: Some(answer), ..report }
        }
    }
}

/// Each ground by itself, so that the reason of each is told.
fn rules(
    probe: &Probe<'_>,
    shown: &SipCertificate,
    conditions: Option<&SipConditions>,
    srv_targets: &[Domain],
) -> Vec<RuleReport> {
    let none = SipGrounds {
        rfc5922: false,
        microsoft: false,
        direct: None,
        provider: None,
        common_name: false,
        srv_targets,
    };
    let allowed = conditions.map_or(none, |conditions| conditions.grounds(srv_targets));
    let base = SipGrounds { common_name: allowed.common_name, ..none };
    let mut rules = vec![
        ("RFC 5922", allowed.rfc5922, SipGrounds { rfc5922: true, ..base }),
        ("Microsoft", allowed.microsoft, SipGrounds { microsoft: true, ..base }),
    ];
    if allowed.direct.is_some() {
        rules.push(("direct row", true, SipGrounds { direct: allowed.direct, ..base }));
    }
    if allowed.provider.is_some() {
        rules.push(("provider row", true, SipGrounds { provider: allowed.provider, ..base }));
    }
    let report = |(rule, counts, grounds): (&'static str, bool, SipGrounds<'_>)| {
        let (pass, said) = match shown.prove(&probe.parts.remote, &grounds) {
            Ok(peer) => match peer.proof() {
                gatehouse_identity::Proof::Certificate { name } => (true, name.clone()),
                gatehouse_identity::Proof::Dialback => (true, String::new()),
            },
            Err(SipIdentityError::NotProved { reasons, .. }) => {
                let reasons: Vec<String> = reasons.iter().map(Lacking::to_string).collect();
                (false, reasons.join("; "))
            }
            Err(SipIdentityError::Certificate(error)) => (false, error.to_string()),
        };
        RuleReport { rule, counts, pass, text: text(&said) }
    };
    rules.into_iter().map(report).collect()
}

/// Asks what the partner can do, and waits for the final answer.
async fn options(probe: &Probe<'_>, io: Box<dyn Io>) -> Result<SipAnswer, String> {
    let Some(question) = question(probe) else {
        return Err("we have no SIP host for this domain: its name is too long".to_owned());
    };
    let mut connection =
        Connection::new(SipStream::new(STREAM, now()), Box::new(io), WRITE_TIMEOUT);
    connection.machine_mut().send(&question, now());
    loop {
        let step = connection.next().await;
        match step.map_err(|error| Chain(&error).to_string())? {
            Step::Event(StreamEvent::Message(message)) => {
                if let Some(status) = message.status()
                    && status.code() >= 200
                    && message.method() == Some(Method::Options)
                {
                    return Ok(answer(&message, status.code(), probe.parts.unix_now));
                }
            }
            Step::Event(StreamEvent::Ended(end)) => return Err(end.to_string()),
            Step::Upgrade => {}
            Step::Closed => return Err("the peer closed the connection".to_owned()),
        }
    }
}

/// As a partner sees our other requests: our domain in From, our host in Via and Contact.
fn question(probe: &Probe<'_>) -> Option<Message> {
    let parts = probe.parts;
    let (remote, local) = (&parts.remote.0, &parts.local.0);
    let host = parts.own.sip_host.as_ref()?;
    let port = parts.own.sip_port;
    let id = probe.random.id();
    let mut question = Message::request(Method::Options, Uri::sip(None, remote));
    for (name, value) in [
        (HeaderName::Via, format!("SIP/2.0/TLS {host}:{port};branch=z9hG4bK{id}")),
        (HeaderName::MaxForwards, "70".to_owned()),
        (HeaderName::From, format!("<sip:{local}>;tag={id}")),
        (HeaderName::To, format!("<sip:{remote}>")),
        (HeaderName::CallId, format!("{id}@{host}")),
        (HeaderName::CSeq, "1 OPTIONS".to_owned()),
        (HeaderName::Contact, format!("<sip:{host}:{port};transport=tls>")),
        (HeaderName::Accept, "application/sdp".to_owned()),
    ] {
        question.headers.push(name, value).ok()?;
    }
    Some(question)
}

fn answer(message: &Message, status: u16, unix_now: i64) -> SipAnswer {
    let header = |name: &HeaderName| message.headers.get(name).map(|value| text(&value));
    let date = message.headers.get(&HeaderName::Date);
    SipAnswer {
        status,
        reason: text(message.reason().unwrap_or_default()),
        server: header(&HeaderName::Server).or_else(|| header(&HeaderName::UserAgent)),
        diagnostics: header(&HeaderName::MsDiagnosticsPublic)
            .or_else(|| header(&HeaderName::MsDiagnostics)),
        clock_ahead_secs: date.and_then(|date| unix_of(&date)).map(|date| date - unix_now),
    }
}

/// `Sat, 13 Nov 2010 23:29:00 GMT` (RFC 3261 section 20.17) in Unix seconds.
fn unix_of(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = date.trim().split_once(',')?;
    let mut words = rest.split_whitespace();
    let day = words.next()?.parse::<i64>().ok().filter(|day| (1..=31).contains(day))?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|known| *known == month)?;
    let month = i64::try_from(month).ok()? + 1;
    let year = words.next()?.parse::<i64>().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let good = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    if !good || words.next() != Some("GMT") {
        return None;
    }
    // Years that begin in March, so that the day that comes every fourth year is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_or_left_alone() {
        assert_eq!(unix_of("Sat, 13 Nov 2010 23:29:00 GMT"), Some(1_289_690_940));
        assert_eq!(unix_of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(unix_of("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for bad in [
            "",
            "Sat, 13 Nov 2010 23:29:00 CET",
            "Sat, 13 Nov 2010 23:29 GMT",
            "Sat, 13 Nov 99999 23:29:00 GMT",
            "Sat, 32 Nov 2010 23:29:00 GMT",
            "Sat, 13 Now 2010 23:29:00 GMT",
            "Sat, 13 Nov 2010 25:29:00 GMT",
        ] {
            assert_eq!(unix_of(bad), None, "{bad}");
        }
    }
}
