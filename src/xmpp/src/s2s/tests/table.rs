//! Every state meets every input. A new transition shows up as a diff in this table.

use gatehouse_types::Machine;

use super::world::*;
use crate::Entry;
use crate::s2s::{Purpose, S2sEvent, S2sInitiator};
use crate::stream::CloseReason;

const INPUTS: [(&str, &str); 10] = [
    ("header", HEADER),
    ("starttls", STARTTLS),
    ("auth", AUTH),
    ("key", KEY),
    ("verify", "<db:verify from='them.example' to='us.example' id='1'>k</db:verify>"),
    ("answer", "<db:result from='them.example' to='us.example' type='valid'/>"),
    ("stanza", MESSAGE),
    ("features", "<stream:features/>"),
    ("error", "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"),
    ("footer", "</stream:stream>"),
];

/// The names of the states, and how to reach each.
fn receivers() -> Vec<(&'static str, Played)> {
    let played = |entry| Played::new(TestGate::new(&["us.example"], DIALBACK), entry);
    let mut plain = played(Entry::StartTls);
    plain.say(HEADER);
    let mut encrypted = played(Entry::Direct(no_certificate()));
    encrypted.say(HEADER);
    let mut proved = played(Entry::Direct(verified("them.example")));
    proved.say(HEADER);
    let mut upgrading = played(Entry::StartTls);
    upgrading.say(HEADER);
    upgrading.say(STARTTLS);
    let mut restart = played(Entry::Direct(verified("them.example")));
    restart.say(HEADER);
    restart.say(AUTH);
    let mut closing = Played::open(DIALBACK);
    closing.wait(limits().idle_timeout);
    let mut over = played(Entry::StartTls);
    over.receiver.handle_eof(over.now);
    vec![
        ("await-header", played(Entry::StartTls)),
        ("plain", plain),
        ("tls", encrypted),
        ("tls+proof", proved),
        ("upgrading", upgrading),
        ("await-restart", restart),
        ("open", Played::open(DIALBACK)),
        ("closing", closing),
        ("closed", over),
    ]
}

/// One line for each input that does something, one for all that do nothing.
#[derive(Default)]
struct Table {
    text: String,
    state: String,
    ignored: Vec<&'static str>,
}

impl Table {
    fn add(
        &mut self,
        state: &str,
        input: &'static str,
        wire: &str,
        events: &[S2sEvent],
        machine: &impl Machine,
    ) {
        if self.state != state {
            self.end_state();
            self.state = state.to_owned();
            self.text += &format!("{state}\n");
        }
        let mut effects: Vec<String> =
            said(wire).into_iter().map(|name| format!("<{name}>")).collect();
        effects.extend(events.iter().map(told));
        if machine.wants_upgrade() && state != "upgrading" {
            effects.push("upgrade".to_owned());
        }
        if effects.is_empty() {
            self.ignored.push(input);
        } else {
            self.text += &format!("  {input}: {}\n", effects.join(" "));
        }
    }

    fn end_state(&mut self) {
        if !self.ignored.is_empty() {
            self.text += &format!("  nothing: {}\n", self.ignored.join(", "));
            self.ignored.clear();
        }
    }

    fn finish(mut self) -> String {
        self.end_state();
        self.text
    }
}

fn told(event: &S2sEvent) -> String {
    match event {
        S2sEvent::Header { .. } => "header".to_owned(),
        S2sEvent::Opened { .. } => "OPENED".to_owned(),
        S2sEvent::VerifyKey(_) => "verify-key".to_owned(),
        S2sEvent::KeyVerdict { valid } => format!("verdict({valid})"),
        S2sEvent::Stanza(..) => "STANZA".to_owned(),
        S2sEvent::Acknowledged(len) => format!("acknowledged({len})"),
        S2sEvent::Malformed { .. } => "malformed".to_owned(),
        S2sEvent::AuthenticationFailed { method, .. } => format!("failed({method})"),
        S2sEvent::Closed(CloseReason::WeRefused(error)) => {
            format!("refused({})", error.condition.as_str())
        }
        S2sEvent::Closed(CloseReason::PeerRefused(error)) => {
            format!("peer-refused({})", error.condition.as_str())
        }
        S2sEvent::Closed(CloseReason::NoAgreement(_)) => "no-agreement".to_owned(),
        S2sEvent::Closed(reason) => format!("closed({reason:?})"),
    }
}

/// The elements that were written, by name; the farewell is told by the event.
fn said(wire: &str) -> Vec<String> {
    const NAMES: [&str; 9] = [
        "stream:stream",
        "stream:features",
        "starttls",
        "proceed",
        "auth",
        "success",
        "failure",
        "db:result",
        "db:verify",
    ];
    wire.split('<')
        .filter_map(|piece| {
            let name = piece.split([' ', '>', '/']).next()?;
            let type_ = ["valid", "invalid", "error"]
                .into_iter()
                .find(|type_| piece.contains(&format!("type='{type_}'")));
            let suffix = type_.map(|type_| format!(" {type_}")).unwrap_or_default();
            NAMES.contains(&name).then(|| format!("{name}{suffix}"))
        })
        .collect()
}

#[test]
fn receiver_transitions() {
    let mut table = Table::default();
    for (at, (state, _)) in receivers().iter().enumerate() {
        for (input, text) in INPUTS {
            // Each input meets a fresh machine.
            let (_, mut played) = receivers().swap_remove(at);
            played.events();
            transmitted(&mut played.receiver);
            let wire = played.say(text);
            let events = played.events();
            table.add(state, input, &wire, &events, &played.receiver);
        }
    }
    insta::assert_snapshot!(table.finish(), @r"
    await-header
      header: <stream:stream> <stream:features> <starttls> header
      starttls: <stream:stream> refused(invalid-namespace)
      auth: <stream:stream> refused(invalid-namespace)
      key: <stream:stream> refused(not-well-formed)
      verify: <stream:stream> refused(not-well-formed)
      answer: <stream:stream> refused(not-well-formed)
      stanza: <stream:stream> refused(invalid-namespace)
      features: <stream:stream> refused(not-well-formed)
      error: <stream:stream> refused(not-well-formed)
      footer: <stream:stream> refused(not-well-formed)
    plain
      header: refused(restricted-xml)
      starttls: <proceed> upgrade
      auth: <failure> failed(EXTERNAL)
      key: <db:result error> failed(dialback)
      verify: <db:verify error>
      answer: refused(bad-format)
      stanza: refused(not-authorized)
      features: refused(unsupported-stanza-type)
      error: peer-refused(reset)
      footer: closed(PeerClosed)
    tls
      header: refused(restricted-xml)
      starttls: <failure> refused(policy-violation)
      auth: <failure> failed(EXTERNAL)
      key: verify-key
      verify: <db:verify invalid>
      answer: refused(bad-format)
      stanza: refused(not-authorized)
      features: refused(unsupported-stanza-type)
      error: peer-refused(reset)
      footer: closed(PeerClosed)
    tls+proof
      header: refused(restricted-xml)
      starttls: <failure> refused(policy-violation)
      auth: <success>
      key: <db:result valid> OPENED
      verify: <db:verify invalid>
      answer: refused(bad-format)
      stanza: refused(not-authorized)
      features: refused(unsupported-stanza-type)
      error: peer-refused(reset)
      footer: closed(PeerClosed)
    upgrading
      header: refused(policy-violation)
      starttls: refused(policy-violation)
      auth: refused(policy-violation)
      key: refused(policy-violation)
      verify: refused(policy-violation)
      answer: refused(policy-violation)
      stanza: refused(policy-violation)
      features: refused(policy-violation)
      error: refused(policy-violation)
      footer: refused(policy-violation)
    await-restart
      header: <stream:stream> <stream:features> OPENED
      starttls: <stream:stream> refused(invalid-namespace)
      auth: <stream:stream> refused(invalid-namespace)
      key: <stream:stream> refused(not-well-formed)
      verify: <stream:stream> refused(not-well-formed)
      answer: <stream:stream> refused(not-well-formed)
      stanza: <stream:stream> refused(invalid-namespace)
      features: <stream:stream> refused(not-well-formed)
      error: <stream:stream> refused(not-well-formed)
      footer: <stream:stream> refused(not-well-formed)
    open
      header: refused(restricted-xml)
      starttls: refused(unsupported-stanza-type)
      auth: refused(unsupported-stanza-type)
      key: <db:result valid>
      verify: <db:verify invalid>
      answer: refused(bad-format)
      stanza: STANZA
      features: refused(unsupported-stanza-type)
      error: peer-refused(reset)
      footer: closed(PeerClosed)
    closing
      header: closed(Idle)
      stanza: STANZA
      error: closed(Idle)
      footer: closed(Idle)
      nothing: starttls, auth, key, verify, answer, features
    closed
      nothing: header, starttls, auth, key, verify, answer, stanza, features, error, footer
    ");
}

/// What a responder may say, in the order in which it may come.
const ANSWERS: [(&str, &str); 12] = [
    ("header", RESPONSE),
    (
        "features+tls",
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
    ),
    (
        "features+external",
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>",
    ),
    ("features", "<stream:features/>"),
    ("proceed", "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    ("tls failure", "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    ("success", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
    (
        "sasl failure",
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
    ),
    ("valid", "<db:result from='us.example' to='them.example' type='valid'/>"),
    ("invalid", "<db:result from='us.example' to='them.example' type='invalid'/>"),
    ("error", "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"),
    ("footer", "</stream:stream>"),
];

const RESPONSE: &str = "<stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' id='1' \
    version='1.0'>";

fn initiators() -> Vec<(&'static str, S2sInitiator)> {
    let dial = |entry, said: &[usize]| {
        let mut machine =
            initiator("them.example", "us.example", Purpose::Stanzas, DIALBACK, entry);
        for at in said {
            machine.handle_data(ANSWERS[*at].1.as_bytes(), start());
        }
        machine
    };
    let tls = || Entry::Direct(verified("us.example"));
    let mut closing = dial(tls(), &[0, 3, 8]);
    closing.handle_timeout(start() + limits().idle_timeout * 2);
    let mut over = dial(tls(), &[]);
    over.handle_eof(start());
    vec![
        ("await-header", dial(Entry::StartTls, &[])),
        ("await-features plain", dial(Entry::StartTls, &[0])),
        ("await-features tls", dial(tls(), &[0])),
        ("await-proceed", dial(Entry::StartTls, &[0, 1])),
        ("upgrading", dial(Entry::StartTls, &[0, 1, 4])),
        ("await-sasl", dial(tls(), &[0, 2])),
        ("await-restart", dial(tls(), &[0, 2, 6])),
        ("await-restart header", dial(tls(), &[0, 2, 6, 0])),
        ("await-result", dial(tls(), &[0, 3])),
        ("open", dial(tls(), &[0, 3, 8])),
        ("closing", closing),
        ("closed", over),
    ]
}

#[test]
fn initiator_transitions() {
    let mut table = Table::default();
    for (at, (state, _)) in initiators().iter().enumerate() {
        for (input, text) in ANSWERS {
            let (_, mut machine) = initiators().swap_remove(at);
            events(&mut machine);
            transmitted(&mut machine);
            machine.handle_data(text.as_bytes(), start());
            let wire = String::from_utf8(transmitted(&mut machine)).unwrap();
            let events = events(&mut machine);
            table.add(state, input, &wire, &events, &machine);
        }
    }
    insta::assert_snapshot!(table.finish(), @r"
    await-header
      features+tls: refused(not-well-formed)
      features+external: refused(not-well-formed)
      features: refused(not-well-formed)
      proceed: refused(invalid-namespace)
      tls failure: refused(invalid-namespace)
      success: refused(invalid-namespace)
      sasl failure: refused(invalid-namespace)
      valid: refused(not-well-formed)
      invalid: refused(not-well-formed)
      error: refused(not-well-formed)
      footer: refused(not-well-formed)
      nothing: header
    await-features plain
      header: refused(bad-format)
      features+tls: <starttls>
      features+external: no-agreement
      features: no-agreement
      error: peer-refused(reset)
      footer: closed(PeerClosed)
      nothing: proceed, tls failure, success, sasl failure, valid, invalid
    await-features tls
      header: refused(bad-format)
      features+tls: <db:result>
      features+external: <auth>
      features: <db:result>
      error: peer-refused(reset)
      footer: closed(PeerClosed)
      nothing: proceed, tls failure, success, sasl failure, valid, invalid
    await-proceed
      header: refused(bad-format)
      proceed: upgrade
      tls failure: no-agreement
      error: peer-refused(reset)
      footer: closed(PeerClosed)
      nothing: features+tls, features+external, features, success, sasl failure, valid, invalid
    upgrading
      header: refused(policy-violation)
      features+tls: refused(policy-violation)
      features+external: refused(policy-violation)
      features: refused(policy-violation)
      proceed: refused(policy-violation)
      tls failure: refused(policy-violation)
      success: refused(policy-violation)
      sasl failure: refused(policy-violation)
      valid: refused(policy-violation)
      invalid: refused(policy-violation)
      error: refused(policy-violation)
      footer: refused(policy-violation)
    await-sasl
      header: refused(bad-format)
      success: <stream:stream>
      sasl failure: <db:result> failed(EXTERNAL)
      error: peer-refused(reset)
      footer: closed(PeerClosed)
      nothing: features+tls, features+external, features, proceed, tls failure, valid, invalid
    await-restart
      features+tls: refused(not-well-formed)
      features+external: refused(not-well-formed)
      features: refused(not-well-formed)
      proceed: refused(invalid-namespace)
      tls failure: refused(invalid-namespace)
      success: refused(invalid-namespace)
      sasl failure: refused(invalid-namespace)
      valid: refused(not-well-formed)
      invalid: refused(not-well-formed)
      error: refused(not-well-formed)
      footer: refused(not-well-formed)
      nothing: header
    await-restart header
      header: refused(bad-format)
      features+tls: OPENED
      features+external: OPENED
      features: OPENED
      error: peer-refused(reset)
      footer: closed(PeerClosed)
      nothing: proceed, tls failure, success, sasl failure, valid, invalid
    await-result
      header: refused(bad-format)
      valid: OPENED
      invalid: no-agreement
      error: peer-refused(reset)
      footer: closed(PeerClosed)
      nothing: features+tls, features+external, features, proceed, tls failure, success, sasl failure
    open
      header: refused(bad-format)
      error: peer-refused(reset)
      footer: closed(PeerClosed)
      nothing: features+tls, features+external, features, proceed, tls failure, success, sasl failure, valid, invalid
    closing
      nothing: header, features+tls, features+external, features, proceed, tls failure, success, sasl failure, valid, invalid, error, footer
    closed
      nothing: header, features+tls, features+external, features, proceed, tls failure, success, sasl failure, valid, invalid, error, footer
    ");
}
