//! XMPP: a real stream to each address, up to the point where the first stanza would go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gatehouse_identity::{AuthenticatedPeer, IdentityError, Presented, Proof, TlsFacts, prove};
use gatehouse_net::{BoxedIo, Connection, Step, connect, now};
use gatehouse_policy::{Channel, Conditions, Denial, RouteHost, RouteTransport, Tls};
use gatehouse_resolve::{Host, SrvSurvey, Transport};
use gatehouse_tls::chains_to;
use gatehouse_types::{Chain, Machine as _, StreamLimits};
use gatehouse_xmpp::dialback::DialbackSecret;
use gatehouse_xmpp::framing::{ContentNamespace, Frame, Framer, Leftover};
use gatehouse_xmpp::s2s::{
    Authentication, Bidi, Encryption, InitiatorConfig, Purpose, S2sEvent, S2sInitiator, Terms,
};
use gatehouse_xmpp::{Element, Entry, ns};
use tokio::net::TcpStream;
use tokio::time;

use super::Probe;
use super::dane::Demand;
use super::dns::{Place, Target, ask, grouped, records};
use super::report::{
    AddressReport, DnsReport, PolicyReport, ProtocolReport, RuleReport, Stage, XmppAnswer,
};
use super::shake::{certificate, text, tls};
use super::tap::{Heard, Tap};
use super::verdict;
use crate::outbound::reason_text;

/// Where servers listen that have no SRV records (RFC 6120, section 3.2.2).
const FALLBACK_PORT: u16 = 5269;
/// What the report calls the rule of RFC 7673.
pub(super) const DANE: &str = "DANE (signed TLSA)";
/// How long our farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Features that are shown.
const FEATURES_MAX: usize = 24;

pub(super) async fn probe(probe: &Probe<'_>) -> ProtocolReport {
    let parts = probe.parts;
    let conditions = parts.policy.conditions(&parts.local, &parts.remote);
    probe.say(format!("XMPP: asking DNS about {}", parts.remote));
    let ((dns, places), own) = tokio::join!(places(probe, conditions.as_ref().ok()), async {
        super::own::xmpp(probe).await
    });
    let trusted = dns.source == "policy";
    let targets = probe.targets(places, trusted).await;
    let conditions_known = conditions.as_ref().ok();
    let dane = join_all(targets.iter().map(|target| probe.dane(target, conditions_known))).await;
    let count: usize = targets.iter().map(|target| target.addresses.len()).sum();
    probe.say(format!("XMPP: trying {count} addresses"));
    let reports = probe.try_all(&targets, |target, address, report| {
        // Each target has its own; they stand in the same order.
        let at = targets.iter().position(|one| std::ptr::eq(one, target));
        let demand = at.and_then(|at| dane.get(at)).map_or(&Demand::None, |dane| &dane.demand);
        attempt(probe, conditions_known, demand, target, address, report)
    });
    let mut targets = grouped(&targets, reports.await, |transport| match transport {
        Transport::StartTls => "STARTTLS",
        Transport::DirectTls => "direct TLS",
    });
    for (target, dane) in targets.iter_mut().zip(dane) {
        target.dane = dane.report;
    }
    verdict::xmpp(policy(probe, &conditions), dns, targets, own)
}

fn policy(probe: &Probe<'_>, conditions: &Result<Conditions, Denial>) -> PolicyReport {
    let parts = probe.parts;
    PolicyReport {
        allowed: conditions.is_ok(),
        rule: match conditions {
            Ok(conditions) => Some(conditions.rule.clone()),
            Err(Denial::Blocked { rule, .. }) => Some(rule.clone()),
            Err(_) => None,
        },
        mode: None,
        text: parts.policy.explain(&parts.local, &parts.remote).replace('\n', " "),
    }
}

/// What DNS says, and what is dialled.
async fn places(probe: &Probe<'_>, conditions: Option<&Conditions>) -> (DnsReport, Vec<Place>) {
    let (resolver, remote) = (&probe.parts.resolver, &probe.parts.remote.0);
    let ((direct, direct_report), (starttls, starttls_report)) = tokio::join!(
        ask(resolver, "_xmpps-server", remote),
        ask(resolver, "_xmpp-server", remote),
    );
    let srv = vec![direct_report, starttls_report];
    let route = conditions.map(|conditions| conditions.route.as_slice()).unwrap_or_default();
    if !route.is_empty() {
        let places = route.iter().map(|route| Place {
            host: match &route.host {
                RouteHost::Name(name) => Host::Name(name.clone()),
                RouteHost::Address(address) => Host::Address(*address),
            },
            port: route.port,
            transport: match route.transport {
                RouteTransport::StartTls => Transport::StartTls,
                RouteTransport::DirectTls => Transport::DirectTls,
            },
        });
        return (DnsReport { srv, source: "policy" }, places.collect());
    }
    // Both sets count as one (XEP-0368, section 3).
    let mut found: Vec<_> = records(&direct)
        .iter()
        .map(|record| (record, Transport::DirectTls))
        .chain(records(&starttls).iter().map(|record| (record, Transport::StartTls)))
        .collect();
    found.sort_by_key(|(record, _)| (record.priority, u16::MAX - record.weight));
    if !found.is_empty() {
        let places = found.into_iter().map(|(record, transport)| Place::of(record, transport));
        return (DnsReport { srv, source: "srv" }, places.collect());
    }
    if matches!((&direct, &starttls), (SrvSurvey::Absent, SrvSurvey::Absent)) {
        let place = Place {
            host: Host::Name(remote.clone()),
            port: FALLBACK_PORT,
            transport: Transport::StartTls,
        };
        return (DnsReport { srv, source: "fallback" }, vec![place]);
    }
    (DnsReport { srv, source: "nowhere" }, Vec::new())
}

/// One address, from TCP to the open stream.
async fn attempt(
    probe: &Probe<'_>,
    conditions: Option<&Conditions>,
    demand: &Demand,
    target: &Target,
    address: SocketAddr,
    report: AddressReport,
) -> AddressReport {
    let deadline = probe.address_deadline();
    let left = deadline.saturating_duration_since(time::Instant::now());
    let tcp = match connect(address, left).await {
        Ok(tcp) => tcp,
        Err(error) => return report.failed(Stage::Tcp, &Chain(&error).to_string()),
    };
    let mut talk = Talk {
        probe,
        conditions,
        demand,
        report,
        stage: Stage::Tls,
        facts: None,
        clear: None,
        secure: None,
        opened: false,
    };
    let outcome = time::timeout_at(deadline, talk.run(tcp, target.place.transport)).await;
    let error = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some("no answer in time".to_owned()),
    };
    talk.finish(error)
}

/// One stream.
struct Talk<'a> {
    probe: &'a Probe<'a>,
    conditions: Option<&'a Conditions>,
    demand: &'a Demand,
    report: AddressReport,
    stage: Stage,
    facts: Option<TlsFacts>,
    /// What was heard before TLS.
    clear: Option<Vec<u8>>,
    /// What is heard with TLS, or without if it never comes.
    secure: Option<Heard>,
    opened: bool,
}

impl Talk<'_> {
    async fn run(&mut self, tcp: TcpStream, transport: Transport) -> Result<(), String> {
        let parts = self.probe.parts;
        let (io, entry): (BoxedIo, Entry) = match transport {
            Transport::StartTls => {
                self.stage = Stage::Protocol;
                (Box::new(tcp), Entry::StartTls)
            }
            Transport::DirectTls => {
                let connector = &parts.direct_connector;
                let shaken = connector.inspect(tcp, &parts.remote.0, &parts.local.0).await;
                let (io, facts, inspection) = shaken.map_err(|error| Chain(&error).to_string())?;
                self.report.tls = Some(tls(&facts, inspection));
                self.stage = Stage::Protocol;
                (Box::new(io), Entry::Direct(self.judged(facts)))
            }
        };
        let (tap, heard) = Tap::new(io);
        self.secure = Some(heard);
        let machine = self.machine(entry);
        let mut connection = Connection::new(machine, Box::new(tap), FAREWELL);
        loop {
            let step = connection.next().await;
            match step.map_err(|error| Chain(&error).to_string())? {
                Step::Event(S2sEvent::Opened { .. }) => {
                    self.opened = true;
                    connection.machine_mut().handle_shutdown(now());
                    let farewell =
                        async { while let Ok(Step::Event(_)) = connection.next().await {} };
                    let _ = time::timeout(FAREWELL, farewell).await;
                    return Ok(());
                }
                Step::Event(S2sEvent::Closed(reason)) => {
                    let _ = time::timeout(FAREWELL, connection.flush()).await;
                    return Err(reason_text(&reason));
                }
                Step::Event(_) => {}
                Step::Upgrade => self.upgrade(&mut connection).await?,
                Step::Closed => return Err("the peer closed the connection".to_owned()),
            }
        }
    }

    /// Whatever the policy asks of the partner, we want to see how far it goes: the certificate is
    /// judged apart.
    fn machine(&self, entry: Entry) -> S2sInitiator {
        let parts = self.probe.parts;
        let plain = self.conditions.is_some_and(|conditions| conditions.tls == Tls::Optional);
        let secret = parts.dialback_secret.as_ref().map(|secret| secret.reveal().clone());
        // Nobody can confirm a key that no edge of ours knows; the report says so.
        let secret = secret.unwrap_or_else(|| {
            let mut seed = self.probe.random.seed();
            seed.next_bytes().to_vec()
        });
        let config = InitiatorConfig {
            limits: StreamLimits::default(),
            dialback_secret: DialbackSecret::new(secret),
            bidi: Bidi::Off,
        };
        S2sInitiator::new(
            Arc::new(config),
            parts.local.clone(),
            parts.remote.clone(),
            Purpose::Stanzas,
            Terms {
                authentication: Authentication::CertificateOrDialback,
                encryption: if plain { Encryption::Optional } else { Encryption::Required },
            },
            entry,
            self.probe.random.seed(),
            now(),
        )
    }

    async fn upgrade(&mut self, connection: &mut Connection<S2sInitiator>) -> Result<(), String> {
        let parts = self.probe.parts;
        let Some(io) = connection.take_io() else {
            return Err("the peer closed the connection".to_owned());
        };
        self.clear = self.secure.take().map(|heard| heard.take());
        self.stage = Stage::Tls;
        let shaken = parts.plain_connector.inspect(io, &parts.remote.0, &parts.local.0).await;
        let (io, facts, inspection) = shaken.map_err(|error| Chain(&error).to_string())?;
        self.report.tls = Some(tls(&facts, inspection));
        let facts = self.judged(facts);
        self.stage = Stage::Protocol;
        let (tap, heard) = Tap::new(Box::new(io));
        self.secure = Some(heard);
        connection.put_io(Box::new(tap));
        connection.machine_mut().handle_tls(facts, now());
        Ok(())
    }

    fn judged(&mut self, facts: TlsFacts) -> TlsFacts {
        let parts = self.probe.parts;
        self.report.certificate = certificate(&facts.presented, parts.unix_now);
        self.facts = Some(facts.clone());
        let pins = self.conditions.map(|conditions| conditions.pins.as_slice());
        let presented = facts.presented.under_pins(&parts.remote, pins.unwrap_or_default());
        TlsFacts { presented, ..facts }
    }

    fn finish(mut self, error: Option<String>) -> AddressReport {
        let parts = self.probe.parts;
        let presented = self.facts.as_ref().map_or(&Presented::Nothing, |facts| &facts.presented);
        let seen = self.under_dns(presented);
        let by_policy = parts.policy.prove(&parts.local, &parts.remote, &seen);
        // Signed records end the attempt, whatever else the policy would take.
        let refused = match self.demand {
            Demand::None => false,
            Demand::Records(_) => by_policy.is_err(),
            Demand::Refuse => true,
        };
        if self.facts.is_some() {
            self.report.rules = self.rules(presented);
        }
        let channel = if self.facts.is_some() { Channel::Encrypted } else { Channel::Plain };
        self.report.proved = by_policy.is_ok() && !refused;
        let may_dial_back = self.conditions.is_some_and(|conditions| {
            conditions.require == gatehouse_policy::Require::CertificateOrDialback
        });
        let peer = by_policy.or_else(|error| {
            // What its own domain's DNS led to, where the policy is content with that.
            if may_dial_back && !refused {
                Ok(AuthenticatedPeer::by_dialback(parts.remote.clone()))
            } else {
                Err(error)
            }
        });
        let admitted = !refused
            && peer.is_ok_and(|peer| {
                self.conditions.is_none()
                    || parts.policy.decide(&parts.local, peer, channel).is_ok()
            });
        let answer = self.answer();
        self.report.usable = self.opened && admitted;
        let mut report = self.report;
        if !answer.features.is_empty() || !answer.features_before_tls.is_empty() || self.opened {
            report.xmpp = Some(answer);
        }
        match error {
            Some(error) => report.failed(self.stage, &error),
            None => AddressReport { stage: Stage::Done, ..report },
        }
    }

    /// The certificate in the light of signed DNS records, if there are any.
    fn under_dns(&self, presented: &Presented) -> Presented {
        match self.demand {
            Demand::Records(set) => presented.under_tlsa(&self.probe.parts.remote, set, &chains_to),
            Demand::None | Demand::Refuse => presented.clone(),
        }
    }

    fn rules(&self, presented: &Presented) -> Vec<RuleReport> {
        let remote = &self.probe.parts.remote;
        let pins = self.conditions.map(|conditions| conditions.pins.as_slice());
        let pins = pins.unwrap_or_default();
        let mut rules = vec![rule("RFC 6120 names", pins.is_empty(), prove(presented, remote))];
        if let Demand::Records(_) = self.demand {
            // They take the place of the rule above.
            if let Some(names) = rules.first_mut() {
                names.counts = false;
            }
            rules.push(rule(DANE, true, prove(&self.under_dns(presented), remote)));
        }
        if let Demand::Refuse = self.demand {
            let text = "what should be signed cannot be validated".to_owned();
            rules.push(RuleReport { rule: DANE, counts: true, pass: false, text });
        }
        if !pins.is_empty() {
            rules.push(rule(
                "pinned key",
                true,
                prove(&presented.under_pins(remote, pins), remote),
            ));
        }
        rules
    }

    /// What the partner said, from what was heard.
    fn answer(&mut self) -> XmppAnswer {
        let secure = self.secure.take().map(|heard| heard.take()).unwrap_or_default();
        let mut answer = XmppAnswer {
            external: "not offered",
            dialback: "not offered",
            opened: self.opened,
            ..XmppAnswer::default()
        };
        match self.clear.take() {
            Some(clear) => {
                listen(&clear, |heard| {
                    if let Said::Features(features) = heard {
                        answer.features_before_tls = names(features);
                    }
                });
                listen(&secure, |heard| note(&mut answer, heard));
            }
            None => listen(&secure, |heard| note(&mut answer, heard)),
        }
        if !self.opened && answer.dialback == "offered" && answer.external != "accepted" {
            answer.dialback = "no answer";
        }
        answer
    }
}

fn rule(
    name: &'static str,
    counts: bool,
    outcome: Result<AuthenticatedPeer, IdentityError>,
) -> RuleReport {
    let (pass, said) = match outcome {
        Ok(peer) => match peer.proof() {
            Proof::Certificate { name } => (true, name.clone()),
            Proof::Dialback => (true, "dialback".to_owned()),
        },
        Err(error) => (false, error.to_string()),
    };
    RuleReport { rule: name, counts, pass, text: text(&said) }
}

/// What is worth noting in a stream.
enum Said<'a> {
    Header { dialback: bool },
    Features(&'a Element),
    Other(&'a Element),
}

/// Reads what was heard once more.
fn listen(heard: &[u8], mut tell: impl FnMut(Said<'_>)) {
    let mut framer = Framer::new(&StreamLimits::default(), ContentNamespace::Server);
    framer.push(heard);
    // A stream that cannot be read ends here; the machine has said why.
    while let Ok(Some(frame)) = framer.next_frame() {
        match frame {
            Frame::Header(_) => tell(Said::Header { dialback: framer.dialback_declared() }),
            Frame::Element(element) if element.is("features", ns::STREAM) => {
                tell(Said::Features(&element));
            }
            Frame::Stanza(stanza) => tell(Said::Other(&stanza.into_element())),
            Frame::Element(element) => {
                tell(Said::Other(&element));
                if element.is("success", ns::SASL) {
                    framer.restart(Leftover::Keep);
                }
            }
            Frame::Footer => return,
        }
    }
}

fn note(answer: &mut XmppAnswer, said: Said<'_>) {
    match said {
        Said::Header { dialback } => {
            if dialback && answer.dialback == "not offered" {
                answer.dialback = "offered";
            }
        }
        Said::Features(features) => {
            for name in names(features) {
                if !answer.features.contains(&name) {
                    answer.features.push(name);
                }
            }
            if features.has_child("dialback", ns::DIALBACK_FEATURE)
                && answer.dialback == "not offered"
            {
                answer.dialback = "offered";
            }
            let external = features.get_child("mechanisms", ns::SASL).is_some_and(|mechanisms| {
                mechanisms.children().any(|one| one.text().trim() == "EXTERNAL")
            });
            if external && answer.external == "not offered" {
                answer.external = "offered";
            }
        }
        Said::Other(element) if element.has_ns(ns::SASL) => match element.name() {
            "success" => answer.external = "accepted",
            "failure" => {
                answer.external = "refused";
                let why: Vec<String> = element
                    .children()
                    .map(|one| if one.name() == "text" { one.text() } else { one.name().into() })
                    .collect();
                answer.said = Some(text(&why.join(": ")));
            }
            _ => {}
        },
        Said::Other(element) if element.is("result", ns::DIALBACK) => {
            let kind = element.attr("type").unwrap_or_default();
            answer.dialback = if kind == "valid" { "accepted" } else { "refused" };
            if kind != "valid" {
                let words = element.children().flat_map(|error| error.children());
                let words: Vec<String> = words
                    .map(|one| if one.name() == "text" { one.text() } else { one.name().into() })
                    .collect();
                let words = if words.is_empty() { kind.to_owned() } else { words.join(": ") };
                answer.said = Some(text(&words));
            }
        }
        Said::Other(_) => {}
    }
}

/// The names of features, mechanisms with theirs.
fn names(features: &Element) -> Vec<String> {
    let name = |feature: &Element| {
        if feature.is("mechanisms", ns::SASL) {
            let mechanisms: Vec<String> =
                feature.children().map(|one| one.text().trim().to_owned()).collect();
            text(&format!("mechanisms ({})", mechanisms.join(" ")))
        } else {
            text(feature.name())
        }
    };
    features.children().take(FEATURES_MAX).map(name).collect()
}
