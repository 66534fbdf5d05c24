use gatehouse_types::Machine as _;
use proptest::prelude::*;

use super::world::*;
use crate::Entry;
use crate::c2s::C2sEvent;

/// What a client may say that does not know the password.
fn said() -> impl Strategy<Value = String> {
    let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
    let fixed = [
        HEADER.to_owned(),
        STARTTLS.to_owned(),
        BIND.to_owned(),
        MESSAGE.to_owned(),
        FOOTER.to_owned(),
        plain("alice", "guess"),
        plain("alice", "\0"),
        auth("PLAIN", ""),
        auth("SCRAM-SHA-1", "n,,n=alice,r=x"),
        auth("SCRAM-SHA-1-PLUS", "p=tls-exporter,,n=alice,r=x"),
        response("\0alice\0guess"),
        response("c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        format!("<success {sasl}/>"),
        format!("<abort {sasl}/>"),
        "<stream:error/>".to_owned(),
        " ".to_owned(),
    ];
    prop_oneof![
        8 => proptest::sample::select(fixed.to_vec()),
        1 => ".{0,40}",
        1 => "n,(a=[a-z@.]{1,9})?,n=[a-z=23CD]{1,6},r=.{0,9}".prop_map(|first| auth("SCRAM-SHA-1", &first)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No order of steps, cut anywhere, gets a client in or a stanza through without the password;
    /// and when it is over, it is over.
    #[test]
    fn nobody_gets_in_without_the_password(
        said in proptest::collection::vec(said(), 0..12),
        chunk in 1_usize..200,
        direct in any::<bool>(),
    ) {
        let entry = if direct { Entry::Direct(facts(Some(EXPORTER))) } else { Entry::StartTls };
        let mut world = World::new(entry);
        world.chunk = chunk;
        world.says(HEADER);
        for said in said {
            world.says(&said);
            if world.server.wants_upgrade() {
                world.shakes_hands();
            }
        }
        let mut closed = 0;
        for event in &world.events {
            prop_assert_eq!(closed, 0, "nothing happens after the end");
            match event {
                C2sEvent::Closed(_) => closed += 1,
                C2sEvent::Credentials { .. } | C2sEvent::AuthenticationFailed { .. } => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(closed, usize::from(world.server.is_closed()));
        prop_assert!(!world.received.contains("<success"));
    }
}
