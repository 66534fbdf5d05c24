use super::world::*;
use crate::c2s::C2sEvent;
use crate::sasl::ScramHash;
use crate::{Entry, Stanza};

/// From TCP to a bound session over STARTTLS and SCRAM-SHA-256-PLUS.
fn log_in(chunk: usize) -> World {
    let mut world = World::clear();
    world.chunk = chunk;
    world.says(HEADER);
    world.says(STARTTLS);
    world.shakes_hands();
    world.says(HEADER);
    let mut client = binding_client(ScramHash::Sha256, &EXPORTER);
    let success = world.scram("SCRAM-SHA-256-PLUS", &mut client);
    assert_eq!(data("success", &success), Some(client.server_final()));
    world.says(HEADER);
    world.says(BIND);
    world.says(MESSAGE);
    world.says(FOOTER);
    world
}

#[test]
fn whole_dialogue() {
    let world = log_in(usize::MAX);
    // Ids and nonces are the seed's, so the whole dialogue is the same each time; it is not shown
    // where it says nothing to a reader.
    let mut shown = String::new();
    for part in world.received.split_inclusive('>') {
        let mut part = part.to_owned();
        if part.starts_with("<stream:stream ") {
            part = part.replace(stream_id(&part), "ID");
        } else if part.ends_with("</challenge>") || part.ends_with("</success>") {
            let (_, end) = part.split_once('<').unwrap();
            part = format!("BASE64<{end}\n");
        }
        let ends_line = part.starts_with("</") || part.ends_with("/>") || part.contains("stream:s");
        shown += &part;
        shown += if ends_line { "\n" } else { "" };
    }
    insta::assert_snapshot!(shown, @r"
    <?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='ours.example' to='alice@ours.example' id='ID' xml:lang='en' version='1.0'>
    <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/>
    </starttls>
    </stream:features>
    <proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
    <?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='ours.example' to='alice@ours.example' id='ID' xml:lang='en' version='1.0'>
    <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>
    <authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism><inline><bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:sm:3'/>
    <feature var='urn:xmpp:carbons:2'/>
    <feature var='urn:xmpp:csi:0'/>
    </inline>
    </bind>
    <sm xmlns='urn:xmpp:sm:3'/>
    <fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-EXPR</mechanism><mechanism>HT-SHA-256-NONE</mechanism></fast>
    </inline>
    </authentication>
    <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>
    </sasl-channel-binding>
    <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>
    </stream:features>
    <challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>BASE64</challenge>
    <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>BASE64</success>
    <?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='ours.example' to='alice@ours.example' id='ID' xml:lang='en' version='1.0'>
    <stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>
    <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/>
    </session>
    <ver xmlns='urn:xmpp:features:rosterver'/>
    <sub xmlns='urn:xmpp:features:pre-approval'/>
    <sm xmlns='urn:xmpp:sm:3'/>
    <csi xmlns='urn:xmpp:csi:0'/>
    <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes><idle-seconds>900</idle-seconds></limits>
    </stream:features>
    <iq id='b1' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>alice@ours.example/phone</jid></bind>
    </iq>
    </stream:stream>
    ");
}

fn stream_id(header: &str) -> &str {
    header.split_once(" id='").unwrap().1.split_once('\'').unwrap().0
}

#[test]
fn events_of_a_login() {
    let account = jid("alice@ours.example");
    let message = "<message xmlns='jabber:client' from='alice@ours.example/phone' \
        to='bob@theirs.example' type='chat' id='m1'><body>Hello</body></message>";
    assert_eq!(
        log_in(usize::MAX).events,
        [
            C2sEvent::Credentials { account: account.clone() },
            C2sEvent::Authenticated { account, mechanism: "SCRAM-SHA-256-PLUS".to_owned() },
            C2sEvent::Bind { resource: Some("phone".to_owned()) },
            C2sEvent::Stanza(Stanza::from_element(message.parse().unwrap()).unwrap()),
            C2sEvent::Closed(crate::stream::CloseReason::PeerClosed),
        ]
    );
}

#[test]
fn any_cut_gives_the_same() {
    let whole = log_in(usize::MAX);
    for chunk in 1..80 {
        let cut = log_in(chunk);
        assert_eq!(cut.received, whole.received, "{chunk} bytes at a time");
        assert_eq!(cut.events, whole.events, "{chunk} bytes at a time");
    }
}

#[test]
fn every_stream_has_its_own_id() {
    let world = log_in(usize::MAX);
    let headers = world.received.split("<stream:stream").skip(1);
    let mut ids: Vec<_> = headers.map(stream_id).collect();
    assert_eq!(ids.len(), 3);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn clear_text_offers_nothing_but_tls() {
    let mut world = World::clear();
    let answer = world.says(HEADER);
    let (_, features) = answer.split_once("<stream:features>").unwrap();
    assert_eq!(
        features,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
        </stream:features>"
    );
}

#[test]
fn direct_tls_offers_mechanisms_at_once() {
    let mut world = World::direct();
    let answer = world.says(HEADER);
    assert!(!answer.contains("starttls"), "{answer}");
    assert!(answer.contains("<mechanism>SCRAM-SHA-256-PLUS</mechanism>"), "{answer}");
    assert!(answer.contains("<channel-binding type='tls-exporter'/>"), "{answer}");

    let mut world = World::new(Entry::Direct(facts(None)));
    let answer = world.says(HEADER);
    assert!(!answer.contains("PLUS") && !answer.contains("channel-binding"), "{answer}");
    assert!(answer.contains("<mechanism>SCRAM-SHA-256</mechanism>"), "{answer}");
}

#[test]
fn every_mechanism_logs_in() {
    for (mechanism, hash, binding) in [
        ("SCRAM-SHA-256-PLUS", ScramHash::Sha256, Some(EXPORTER)),
        ("SCRAM-SHA-1-PLUS", ScramHash::Sha1, Some(EXPORTER)),
        ("SCRAM-SHA-256", ScramHash::Sha256, None),
        ("SCRAM-SHA-1", ScramHash::Sha1, None),
    ] {
        let mut world = World::offered();
        let mut client = match binding {
            Some(binding) => binding_client(hash, &binding),
            None => client(hash, PASSWORD),
        };
        let success = world.scram(mechanism, &mut client);
        assert_eq!(data("success", &success), Some(client.server_final()), "{mechanism}");
    }
    let mut world = World::offered();
    let success = world.says(&plain("alice", PASSWORD));
    assert_eq!(success, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
}

#[test]
fn first_message_may_come_after_an_empty_challenge() {
    let mut world = World::offered();
    let challenge = world.says(&auth("PLAIN", ""));
    assert_eq!(challenge, "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    let success = world.says(&response(&format!("\0alice\0{PASSWORD}")));
    assert_eq!(success, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
}

#[test]
fn what_comes_while_the_owner_thinks_is_read_afterwards() {
    let mut world = World::offered();
    world.owner = Owner::Silent;
    let rest = [&plain("alice", PASSWORD), HEADER, BIND, MESSAGE].concat();
    assert_eq!(world.says(&rest), "");
    assert!(world.owner(|server, now| server.credentials(keys(), now)).contains("<bind "));
    assert_eq!(world.events.last(), Some(&C2sEvent::Bind { resource: Some("phone".to_owned()) }));
    world.owner(|server, now| server.bind(jid(FULL), now));
    assert!(matches!(world.events.last(), Some(C2sEvent::Stanza(_))));
}

#[test]
fn domain_is_known_from_the_header_on() {
    let mut world = World::clear();
    assert_eq!(world.server.requested_domain(), None);
    world.says(&HEADER.replace("ours.example' from", "xn--bcher-kva.example' from"));
    let domain = world.server.requested_domain().unwrap();
    assert_eq!(domain.0.as_str(), "xn--bcher-kva.example");
    assert!(world.received.contains(" from='bücher.example'"), "{}", world.received);
    world.says(STARTTLS);
    assert!(world.server.requested_domain().is_some());
}

/// RFC 6120, section 4.7.2.
#[test]
fn who_says_from_is_answered_with_to() {
    let mut world = World::clear();
    assert!(world.says(HEADER).contains(" to='"), "{}", world.received);
    let (head, rest) = HEADER.split_once(" from='").unwrap();
    let mut world = World::clear();
    world.says(&format!("{head}{}", rest.split_once('\'').unwrap().1));
    assert!(!world.received.contains(" to='"), "{}", world.received);
}

#[test]
fn nothing_secret_is_shown() {
    let world = log_in(usize::MAX);
    let shown = format!("{:?} {:?} {:?}", world.events, config(), keys());
    for secret in [PASSWORD, "decoy secret", "[100, 101, 99", "[7, 7"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}
