//! Log-ins that bring more than a log-in (XEP-0388, XEP-0386, XEP-0484).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_types::Machine as _;

use super::world::*;
use crate::StanzaCondition;
use crate::c2s::{BindWish, C2sEvent, Granted, GrantedSession, Wishes};
use crate::sasl::{ScramHash, TokenMechanism};

/// `<authenticate/>` with this message, and with `more` inside.
fn authenticate(mechanism: &str, message: &[u8], more: &str) -> String {
    let message = STANDARD.encode(message);
    format!(
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'>\
         <initial-response>{message}</initial-response>{more}</authenticate>"
    )
}

pub(super) fn with_plain(more: &str) -> String {
    authenticate("PLAIN", format!("\0alice\0{PASSWORD}").as_bytes(), more)
}

/// What a client sends that has `token`.
pub(super) fn with_token(mechanism: &str, token: &str, binding: &[u8], more: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    let proof = hmac::sign(&key, &[b"Initiator", binding].concat());
    authenticate(mechanism, &[b"alice\0", proof.as_ref()].concat(), more)
}

pub(super) fn agent() -> &'static str {
    "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>x</software></user-agent>"
}

pub(super) fn grant(world: &mut World, session: GrantedSession) -> String {
    world.owner(|server, now| {
        server.grant(Granted { session, not_resumed: None, token: None }, now);
    })
}

fn wishes(world: &World) -> Wishes {
    let found = world.events.iter().rev().find_map(|event| match event {
        C2sEvent::Wishes(wishes) => Some((**wishes).clone()),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn the_offer_names_what_goes_along() {
    let mut world = World::direct();
    let offered = world.says(HEADER);
    let begin = offered.find("<authentication").unwrap();
    let end = offered.find("</authentication>").unwrap();
    assert_eq!(
        &offered[begin..end],
        "<authentication xmlns='urn:xmpp:sasl:2'>\
         <mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-1-PLUS</mechanism>\
         <mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
         <mechanism>PLAIN</mechanism><inline><bind xmlns='urn:xmpp:bind:0'><inline>\
         <feature var='urn:xmpp:sm:3'/><feature var='urn:xmpp:carbons:2'/>\
         <feature var='urn:xmpp:csi:0'/></inline></bind><sm xmlns='urn:xmpp:sm:3'/>\
         <fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-EXPR</mechanism>\
         <mechanism>HT-SHA-256-NONE</mechanism></fast></inline>"
    );
    // Nothing of it in clear.
    assert!(!World::clear().says(HEADER).contains("urn:xmpp:sasl:2"));
}

#[test]
fn one_round_trip_to_a_session() {
    let mut world = World::offered();
    let bind = "<bind xmlns='urn:xmpp:bind:0'><tag>Phone</tag>\
        <enable xmlns='urn:xmpp:sm:3' resume='true' max='30'/>\
        <enable xmlns='urn:xmpp:carbons:2'/><inactive xmlns='urn:xmpp:csi:0'/></bind>\
        <request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/>";
    // What follows at once waits for the address.
    world.says(&(with_plain(&format!("{}{bind}", agent())) + MESSAGE));
    assert_eq!(
        wishes(&world),
        Wishes {
            client: Some("d4565fa7-4d72-4749-b3d3-740edbf87770".to_owned()),
            bind: Some(BindWish {
                tag: Some("Phone".to_owned()),
                manage: Some((true, Some(30))),
                carbons: true,
                inactive: true,
            }),
            token: Some(TokenMechanism::Sha256Exporter),
            ..Wishes::default()
        }
    );
    assert!(!world.events.iter().any(|event| matches!(event, C2sEvent::Stanza(_))));
    let session =
        GrantedSession::Bound { full: jid(FULL), managed: Some(Some(("name".to_owned(), 30))) };
    let token = Some(("t0".to_owned(), "2030-01-01T00:00:00.000Z".to_owned()));
    let got = world.owner(|server, now| {
        server.grant(Granted { session, not_resumed: Some(Some(5)), token }, now);
    });
    assert_eq!(
        got.split("<stream:features>").next().unwrap(),
        "<success xmlns='urn:xmpp:sasl:2'>\
         <authorization-identifier>alice@ours.example/phone</authorization-identifier>\
         <failed xmlns='urn:xmpp:sm:3' h='5'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>\
         <bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='name' max='30' \
         resume='true'/></bound>\
         <token xmlns='urn:xmpp:fast:0' expiry='2030-01-01T00:00:00.000Z' token='t0'/></success>"
    );
    // No new header, no binding, and the stream is managed already.
    assert!(got.contains("<stream:features>") && !got.contains("xmpp-bind"), "{got}");
    assert!(!got.contains("<sm ") && !got.contains("<stream:stream"), "{got}");
    assert!(matches!(world.events.last(), Some(C2sEvent::Stanza(_))));
    assert_eq!(world.server.taken(), 1);
}

#[test]
fn scram_says_its_last_word_in_the_success() {
    let mut world = World::offered();
    let mut client = client(ScramHash::Sha256, PASSWORD);
    let challenge = world.says(&authenticate("SCRAM-SHA-256", client.first().as_bytes(), ""));
    let challenge = challenge.strip_prefix("<challenge xmlns='urn:xmpp:sasl:2'>").unwrap();
    let challenge = STANDARD.decode(challenge.split('<').next().unwrap()).unwrap();
    let last = client.last(str::from_utf8(&challenge).unwrap());
    let last = STANDARD.encode(last);
    world.says(&format!("<response xmlns='urn:xmpp:sasl:2'>{last}</response>"));
    let got = grant(&mut world, GrantedSession::Later);
    let data = got.split("<additional-data>").nth(1).unwrap().split('<').next().unwrap();
    assert!(STANDARD.decode(data).unwrap().starts_with(b"v="));
    assert!(got.contains("<authorization-identifier>alice@ours.example</auth"), "{got}");
    // It binds as of old, without a new header.
    assert!(got.contains("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"), "{got}");
    assert!(world.says(BIND).contains("<jid>"));
}

#[test]
fn without_a_first_message_the_client_is_asked() {
    let mut world = World::offered();
    let asked = world.says("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>");
    assert_eq!(asked, "<challenge xmlns='urn:xmpp:sasl:2'/>");
    let message = STANDARD.encode(format!("\0alice\0{PASSWORD}"));
    world.says(&format!("<response xmlns='urn:xmpp:sasl:2'>{message}</response>"));
    assert_eq!(wishes(&world), Wishes::default());
}

#[test]
fn failures_are_in_the_same_words_and_count() {
    let failure = |condition: &str| {
        format!(
            "<failure xmlns='urn:xmpp:sasl:2'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>"
        )
    };
    let mut world = World::offered();
    let wrong = authenticate("PLAIN", b"\0alice\0wrong", "<bind xmlns='urn:xmpp:bind:0'/>");
    assert_eq!(world.says(&wrong), failure("not-authorized"));
    assert_eq!(world.says(&authenticate("X", b"", "")), failure("invalid-mechanism"));
    // The next try has nothing of the one before.
    let old = world.says(&auth("PLAIN", "\0alice\0wrong"));
    assert!(old.starts_with("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"), "{old}");
    world.says(&authenticate("SCRAM-SHA-256", b"n,,n=alice,r=x", ""));
    let abort = world.says("<abort xmlns='urn:xmpp:sasl:2'/>");
    assert_eq!(abort, failure("aborted"));
    let last = world.says(&wrong);
    assert!(last.contains("<policy-violation"), "{last}");
    assert!(!world.events.iter().any(|event| matches!(event, C2sEvent::Wishes(_))));

    // In clear nobody logs in, and nothing is looked up.
    let mut world = World::clear();
    world.says(HEADER);
    assert_eq!(world.says(&with_plain("")), failure("encryption-required"));
}

#[test]
fn a_token_is_as_good_as_a_password() {
    for (mechanism, binding, good) in [
        ("HT-SHA-256-EXPR", EXPORTER.as_slice(), true),
        ("HT-SHA-256-NONE", b"", true),
        // Of another connection.
        ("HT-SHA-256-EXPR", &[8; 32], false),
        ("HT-SHA-256-NONE", &[7; 32], false),
    ] {
        let mut world = World::offered();
        world.says(&with_token(mechanism, "right", binding, agent()));
        let Some(C2sEvent::Token { account, mechanism: asked, .. }) = world.events.last() else {
            panic!("{:?}", world.events);
        };
        assert_eq!((account.to_string().as_str(), asked.name()), ("alice@ours.example", mechanism));
        let tokens = ["older".to_owned(), "right".to_owned()];
        let failed = world.owner(|server, now| server.tokens(&tokens, now));
        assert_eq!(failed.contains("<not-authorized"), !good, "{mechanism} {failed}");
        if good {
            assert_eq!(wishes(&world).used.unwrap().1, 1);
            let got = grant(&mut world, GrantedSession::Later);
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"right");
            let proof = hmac::sign(&key, &[b"Responder", binding].concat());
            let proof = STANDARD.encode(proof);
            assert!(got.contains(&format!("<additional-data>{proof}<")), "{got}");
        }
    }
}

#[test]
fn tokens_need_an_installation_and_extended_sasl() {
    let mut world = World::offered();
    let nobody = world.says(&with_token("HT-SHA-256-NONE", "right", b"", ""));
    assert!(nobody.contains("<malformed-request"), "{nobody}");
    let id = "x".repeat(65);
    let long = format!("<user-agent id='{id}'/>");
    let long = world.says(&with_token("HT-SHA-256-NONE", "right", b"", &long));
    assert!(long.contains("<malformed-request"), "{long}");
    let old = world.says(&auth("HT-SHA-256-NONE", "alice"));
    assert!(old.contains("<invalid-mechanism"), "{old}");
    // None there, and none that can be looked up.
    world.says(&with_token("HT-SHA-256-NONE", "right", b"", agent()));
    assert!(world.owner(|server, now| server.tokens(&[], now)).contains("<not-authorized"));
    world.says(&with_token("HT-SHA-256-NONE", "right", b"", agent()));
    let later = world.owner(|server, now| server.credentials_unavailable(now));
    assert!(later.contains("<policy-violation"), "the fifth failure: {later}");
}

#[test]
fn a_session_of_before_comes_with_the_log_in() {
    let mut world = World::offered();
    world.says(&with_plain("<resume xmlns='urn:xmpp:sm:3' previd='before' h='2'/>"));
    assert_eq!(wishes(&world).resume, Some(("before".to_owned(), 2)));
    let id = "before".to_owned();
    let got = grant(&mut world, GrantedSession::Resumed { full: jid(FULL), id, h: 41 });
    assert_eq!(
        got,
        "<success xmlns='urn:xmpp:sasl:2'>\
         <authorization-identifier>alice@ours.example/phone</authorization-identifier>\
         <resumed xmlns='urn:xmpp:sm:3' h='41' previd='before'/></success>"
    );
    world.says(MESSAGE);
    assert_eq!(world.server.taken(), 42);
}

#[test]
fn a_refused_resource_leaves_the_old_way() {
    let mut world = World::offered();
    world.says(&with_plain("<bind xmlns='urn:xmpp:bind:0'/>"));
    let refused = GrantedSession::Refused(StanzaCondition::ResourceConstraint);
    let got = grant(&mut world, refused);
    assert!(got.contains("<failed xmlns='urn:xmpp:bind:0'><resource-constraint"), "{got}");
    assert!(world.says(BIND).contains("<jid>"));
}

#[test]
fn nobody_gets_the_address_of_another() {
    for full in ["bob@ours.example/x", "alice@ours.example"] {
        let mut world = World::offered();
        world.says(&with_plain("<bind xmlns='urn:xmpp:bind:0'/>"));
        let session = GrantedSession::Bound { full: jid(full), managed: None };
        let got = grant(&mut world, session);
        assert!(got.contains("<internal-server-error") && !got.contains("<success"), "{got}");
        assert!(world.server.is_closed());
    }
}

#[test]
fn any_cut_gives_the_same() {
    let play = |chunk: usize| {
        let mut world = World::offered();
        world.chunk = chunk;
        world.says(&with_plain(&format!("{}<bind xmlns='urn:xmpp:bind:0'/>", agent())));
        grant(&mut world, GrantedSession::Bound { full: jid(FULL), managed: Some(None) });
        world.says(MESSAGE);
        (world.received, world.events)
    };
    let whole = play(usize::MAX);
    for chunk in [1, 2, 3, 7, 64] {
        assert_eq!(play(chunk), whole, "{chunk} bytes at a time");
    }
}
