use gatehouse_types::Machine as _;

use super::world::*;
use crate::c2s::C2sEvent;
use crate::sasl::ScramHash;
use crate::stream::CloseReason;
use crate::{Entry, StreamCondition};

/// The condition with which the server ended the stream.
fn refused(world: &World) -> Option<StreamCondition> {
    match world.events.last() {
        Some(C2sEvent::Closed(CloseReason::WeRefused(error))) => {
            assert!(world.server.is_closed());
            let error = format!("<stream:error><{} ", error.condition.as_str());
            assert!(world.received.contains(&error), "{}", world.received);
            assert!(world.received.ends_with("</stream:error></stream:stream>"));
            Some(error_condition(world))
        }
        _ => None,
    }
}

fn error_condition(world: &World) -> StreamCondition {
    let (_, error) = world.received.split_once("<stream:error><").unwrap();
    StreamCondition::from_name(error.split_once(' ').unwrap().0)
}

#[test]
fn header_must_fit() {
    for (from, to, condition) in [
        ("to='ours.example'", "to='other.example'", StreamCondition::HostUnknown),
        ("to='ours.example'", "to='sub.ours.example'", StreamCondition::HostUnknown),
        ("to='ours.example'", "to='alice@ours.example'", StreamCondition::HostUnknown),
        ("to='ours.example'", "to=''", StreamCondition::HostUnknown),
        ("to='ours.example'", "", StreamCondition::HostUnknown),
        (" version='1.0'", "", StreamCondition::UnsupportedVersion),
        (" version='1.0'", " version='0.9'", StreamCondition::UnsupportedVersion),
        (" version='1.0'", " version='one'", StreamCondition::UnsupportedVersion),
        ("jabber:client", "jabber:server", StreamCondition::InvalidNamespace),
    ] {
        for entry in [Entry::StartTls, Entry::Direct(facts(None))] {
            let mut world = World::new(entry);
            // The XML declaration has a version, too.
            let (declaration, header) = HEADER.split_once("?>").unwrap();
            world.says(&format!("{declaration}?>{}", header.replace(from, to)));
            assert_eq!(refused(&world), Some(condition), "{from} -> {to}");
            let headers = world.received.matches("<stream:stream ").count();
            assert_eq!(headers, 1, "an error stands inside a stream");
        }
    }
    for version in ["1.0", "1.1", "2.0"] {
        let mut world = World::clear();
        let header =
            HEADER.replace("example' version='1.0'", &format!("example' version='{version}'"));
        world.says(&header);
        assert_eq!(refused(&world), None, "{version}");
    }
}

#[test]
fn domain_stays_the_same() {
    let other = HEADER.replace("to='ours.example'", "to='bücher.example'");
    let mut world = World::clear();
    world.says(HEADER);
    world.says(STARTTLS);
    world.shakes_hands();
    world.says(&other);
    assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));

    let mut world = World::offered();
    world.says(&plain("alice", PASSWORD));
    world.says(&other);
    assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));
}

#[test]
fn clear_bytes_after_starttls_end_it() {
    let mut world = World::clear();
    world.says(HEADER);
    world.says(&[STARTTLS, HEADER, &plain("alice", PASSWORD)].concat());
    assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));
    assert!(!world.received.contains("<proceed"));
    assert!(!world.server.wants_upgrade());

    // Too late for the same read, but still before the handshake.
    let mut world = World::clear();
    world.says(HEADER);
    world.says(STARTTLS);
    assert_eq!(world.says(HEADER), "", "the client speaks TLS by now");
    assert!(matches!(world.events.last(), Some(C2sEvent::Closed(CloseReason::WeRefused(_)))));
    assert!(world.server.is_closed() && !world.server.wants_upgrade());
}

#[test]
fn no_authentication_before_tls() {
    let mut world = World::clear();
    world.says(HEADER);
    assert_eq!(world.says(&plain("alice", PASSWORD)), failure("encryption-required"));
    assert!(!world.events.iter().any(|event| matches!(event, C2sEvent::Credentials { .. })));
    // It may still do the right thing.
    world.says(STARTTLS);
    world.shakes_hands();
    world.says(HEADER);
    assert!(world.says(&plain("alice", PASSWORD)).starts_with("<success"));
}

/// How a dialogue ends that must not succeed.
fn denied(attempt: impl FnOnce(&mut World) -> String) -> (String, C2sEvent) {
    let mut world = World::offered();
    let received = attempt(&mut world);
    assert!(!world.received.contains("<success"));
    (received, world.events.pop().unwrap())
}

fn failed(condition: &'static str, mechanism: &str, account: Option<&str>) -> (String, C2sEvent) {
    let (account, mechanism) = (account.map(jid), mechanism.to_owned());
    let event = C2sEvent::AuthenticationFailed { account, condition, mechanism };
    (failure(condition), event)
}

#[test]
fn wrong_password() {
    let alice = Some("alice@ours.example");
    let outcome = denied(|world| world.says(&plain("alice", "guess")));
    assert_eq!(outcome, failed("not-authorized", "PLAIN", alice));
    let mut client = client(ScramHash::Sha1, "guess");
    let outcome = denied(|world| world.scram("SCRAM-SHA-1", &mut client));
    assert_eq!(outcome, failed("not-authorized", "SCRAM-SHA-1", alice));
}

#[test]
fn unknown_user_sees_what_a_known_one_sees() {
    let nobody = Some("nobody@ours.example");
    let outcome = denied(|world| world.says(&plain("nobody", PASSWORD)));
    assert_eq!(outcome, failed("not-authorized", "PLAIN", nobody));
    let mut client = crate::sasl::test_client::ScramClient::new(
        ScramHash::Sha256,
        ("nobody", PASSWORD),
        "n",
        b"",
    );
    let outcome = denied(|world| world.scram("SCRAM-SHA-256", &mut client));
    assert_eq!(outcome, failed("not-authorized", "SCRAM-SHA-256", nobody));
}

#[test]
fn someone_between_us() {
    let alice = Some("alice@ours.example");
    // It ends TLS on both sides: two connections, two exporters.
    let mut client = binding_client(ScramHash::Sha256, &[8; 32]);
    let outcome = denied(|world| world.scram("SCRAM-SHA-256-PLUS", &mut client));
    assert_eq!(outcome, failed("not-authorized", "SCRAM-SHA-256-PLUS", alice));
    // It took -PLUS out of the offer.
    let outcome = denied(|world| world.says(&auth("SCRAM-SHA-256", "y,,n=alice,r=abc")));
    assert_eq!(outcome, failed("not-authorized", "SCRAM-SHA-256", None));
}

#[test]
fn broken_attempts() {
    let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
    for (message, condition, mechanism) in [
        (auth("DIGEST-MD5", "x"), "invalid-mechanism", "DIGEST-MD5"),
        (auth("EXTERNAL", "="), "invalid-mechanism", "EXTERNAL"),
        (auth("plain", "x"), "invalid-mechanism", "plain"),
        (auth("SOMETHING LONG &#10; FOR THE LOG", "x"), "invalid-mechanism", ""),
        (format!("<auth {sasl}/>"), "invalid-mechanism", ""),
        (format!("<auth {sasl} mechanism='PLAIN'>%</auth>"), "incorrect-encoding", "PLAIN"),
        (format!("<auth {sasl} mechanism='PLAIN'>=</auth>"), "malformed-request", "PLAIN"),
        (auth("PLAIN", "bob@ours.example\0alice\0x"), "invalid-authzid", "PLAIN"),
        (auth("SCRAM-SHA-1", "n,,m=x,n=alice,r=x"), "malformed-request", "SCRAM-SHA-1"),
        (format!("<abort {sasl}/>"), "aborted", ""),
        (response("x"), "malformed-request", ""),
    ] {
        let outcome = denied(|world| world.says(&message));
        assert_eq!(outcome, failed(condition, mechanism, None), "{message}");
    }
    let alice = Some("alice@ours.example");
    for (message, condition) in [
        (format!("<abort {sasl}/>"), "aborted"),
        (auth("PLAIN", "x"), "malformed-request"),
        (response("c=biws"), "malformed-request"),
        (format!("<response {sasl}>%</response>"), "incorrect-encoding"),
    ] {
        let outcome = denied(|world| {
            world.says(&auth("SCRAM-SHA-1", "n,,n=alice,r=x"));
            world.says(&message)
        });
        assert_eq!(outcome, failed(condition, "SCRAM-SHA-1", alice), "{message}");
    }
}

#[test]
fn five_failures_end_it() {
    let mut world = World::offered();
    for _ in 0..4 {
        assert_eq!(world.says(&plain("alice", "guess")), failure("not-authorized"));
        assert!(!world.server.is_closed());
    }
    assert!(world.says(&plain("alice", "guess")).starts_with(&failure("not-authorized")));
    assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));

    let mut world = World::offered();
    for _ in 0..4 {
        world.says(&plain("alice", "guess"));
    }
    assert!(world.says(&plain("alice", PASSWORD)).starts_with("<success"));
}

#[test]
fn accounts_cannot_be_looked_up() {
    let mut world = World::offered();
    world.owner = Owner::Silent;
    world.says(&plain("alice", PASSWORD));
    let answer = world.owner(|server, now| server.credentials_unavailable(now));
    assert_eq!(answer, failure("temporary-auth-failure"));
}

#[test]
fn no_stanza_before_binding() {
    for mut world in [World::offered(), World::authenticated()] {
        world.says(MESSAGE);
        assert_eq!(refused(&world), Some(StreamCondition::NotAuthorized));
    }
    let mut world = World::clear();
    world.says(HEADER);
    world.says(MESSAGE);
    assert_eq!(refused(&world), Some(StreamCondition::NotAuthorized));
}

#[test]
fn too_much_at_once() {
    let long = |bytes| format!("<message><body>{}</body></message>", "x".repeat(bytes));
    let limits = config().limits;
    let mut world = World::offered();
    world.says(&long(limits.unauthenticated_element_bytes_max));
    assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));

    let mut world = World::bound();
    world.says(&long(limits.unauthenticated_element_bytes_max));
    assert_eq!(refused(&world), None);
    world.says(&long(limits.stanza_bytes_max));
    assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));
}

#[test]
fn too_much_while_the_owner_thinks() {
    let limits = config().limits;
    for (mut world, request, bytes_max) in [
        (World::offered(), plain("alice", PASSWORD), limits.unauthenticated_element_bytes_max),
        (World::authenticated(), BIND.to_owned(), limits.stanza_bytes_max),
    ] {
        world.owner = Owner::Silent;
        world.says(&request);
        world.says(&" ".repeat(bytes_max));
        assert_eq!(refused(&world), None);
        world.says(" ");
        assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));
    }
}

/// Answers do not make room for what has not been read.
#[test]
fn too_much_over_many_questions() {
    let mut world = World::authenticated();
    world.owner = Owner::Silent;
    world.says(BIND);
    let bytes_max = config().limits.stanza_bytes_max;
    let many = BIND.repeat(bytes_max / BIND.len());
    world.says(&many);
    let condition = crate::StanzaCondition::Conflict;
    world.owner(|server, now| server.refuse_bind(condition, "taken", now));
    assert_eq!(refused(&world), None);
    world.says(&many);
    assert_eq!(refused(&world), Some(StreamCondition::PolicyViolation));
}

/// What was read does not count any more.
#[test]
fn much_over_many_questions() {
    let mut world = World::authenticated();
    let condition = crate::StanzaCondition::Conflict;
    for _ in 0..3 {
        world.owner = Owner::Silent;
        world.says(BIND);
        world.says(&" ".repeat(config().limits.stanza_bytes_max));
        world.owner(|server, now| server.refuse_bind(condition, "taken", now));
        assert_eq!(refused(&world), None);
    }
}
