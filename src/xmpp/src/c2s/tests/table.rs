use std::collections::BTreeMap;

use gatehouse_types::Machine as _;

use super::extended::{agent, grant, with_plain, with_token};
use super::world::*;
use crate::c2s::{C2sEvent, C2sServer, GrantedSession};
use crate::stream::CloseReason;
use crate::{StanzaCondition, StreamCondition, StreamError};

/// Every state, reached as a client reaches it.
fn states() -> [fn() -> World; 17] {
    [
        World::clear,
        || after(World::clear(), &[HEADER]),
        || after(World::clear(), &[HEADER, STARTTLS]),
        World::direct,
        World::offered,
        || after(World::offered(), &[&auth("SCRAM-SHA-1", "")]),
        || after(silent(World::offered()), &[&auth("SCRAM-SHA-1", "n,,n=alice,r=x")]),
        || after(World::offered(), &[&auth("SCRAM-SHA-1", "n,,n=alice,r=x")]),
        || after(World::offered(), &[&plain("alice", PASSWORD)]),
        || after(silent(World::offered()), &[&with_token("HT-SHA-256-NONE", "t", b"", agent())]),
        || granting(),
        World::authenticated,
        || after(silent(World::authenticated()), &[BIND]),
        || after(silent(World::authenticated()), &[RESUME]),
        World::bound,
        || after(World::bound(), &[ENABLE]),
        || after(World::bound(), &[FOOTER]),
    ]
}

type Input = (&'static str, fn(&mut World));

fn inputs() -> [Input; 26] {
    [
        ("header", |world| drop(world.says(HEADER))),
        ("starttls", |world| drop(world.says(STARTTLS))),
        ("auth", |world| drop(world.says(&plain("alice", PASSWORD)))),
        ("authenticate", |world| drop(world.says(&with_plain("")))),
        ("response", |world| drop(world.says(&response("n,,n=alice,r=x")))),
        ("abort", |world| {
            world.says("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        }),
        ("bind iq", |world| drop(world.says(BIND))),
        ("message", |world| drop(world.says(MESSAGE))),
        ("other element", |world| drop(world.says("<enable xmlns='urn:xmpp:sm:2'/>"))),
        ("enable", |world| drop(world.says(ENABLE))),
        ("resume", |world| drop(world.says(RESUME))),
        ("a", |world| drop(world.says("<a xmlns='urn:xmpp:sm:3' h='0'/>"))),
        ("r", |world| drop(world.says("<r xmlns='urn:xmpp:sm:3'/>"))),
        ("session", |world| {
            world.owner(|server, now| server.resume(jid(FULL), "before", 3, now));
        }),
        ("no session", |world| {
            let condition = StanzaCondition::ItemNotFound;
            world.owner(|server, now| server.refuse_resume(condition, None, now));
        }),
        ("stream error", |world| drop(world.says("<stream:error/>"))),
        ("footer", |world| drop(world.says(FOOTER))),
        ("eof", |world| drop(world.owner(C2sServer::handle_eof))),
        ("tls done", |world| {
            world.owner(|server, now| server.handle_tls(facts(None), now));
        }),
        ("keys", |world| drop(world.owner(|server, now| server.credentials(keys(), now)))),
        ("tokens", |world| {
            world.owner(|server, now| server.tokens(&["t".to_owned()], now));
        }),
        ("no keys now", |world| drop(world.owner(C2sServer::credentials_unavailable))),
        ("grant", |world| {
            let session = GrantedSession::Bound { full: jid(FULL), managed: None };
            grant(world, session);
        }),
        ("address", |world| drop(world.owner(|server, now| server.bind(jid(FULL), now)))),
        ("no address", |world| {
            let condition = StanzaCondition::Conflict;
            world.owner(|server, now| server.refuse_bind(condition, "taken", now));
        }),
        ("owner's error", |world| {
            let error = StreamError::from(StreamCondition::Conflict);
            world.owner(|server, now| server.close_with(error, now));
        }),
    ]
}

/// Logged in in the extended way; what it wants is not there yet.
fn granting() -> World {
    let mut world = silent(after(World::offered(), &[]));
    world.says(&with_plain(""));
    world.owner(|server, now| server.credentials(keys(), now));
    world
}

fn silent(mut world: World) -> World {
    world.owner = Owner::Silent;
    world
}

fn after(mut world: World, said: &[&str]) -> World {
    for said in said {
        world.says(said);
    }
    world
}

fn shown(event: &C2sEvent) -> String {
    match event {
        C2sEvent::Credentials { .. } => "Credentials".to_owned(),
        C2sEvent::AuthenticationFailed { condition, .. } => format!("Failed({condition})"),
        C2sEvent::Authenticated { .. } => "Authenticated".to_owned(),
        C2sEvent::Token { .. } => "Token".to_owned(),
        C2sEvent::Wishes(_) => "Wishes".to_owned(),
        C2sEvent::Bind { .. } => "Bind".to_owned(),
        C2sEvent::Stanza(_) => "Stanza".to_owned(),
        C2sEvent::Reply(_) => "Reply".to_owned(),
        C2sEvent::EnableManagement { .. } => "EnableManagement".to_owned(),
        C2sEvent::Resume { .. } => "Resume".to_owned(),
        C2sEvent::AckRequested => "AckRequested".to_owned(),
        C2sEvent::Acked { h } => format!("Acked({h})"),
        C2sEvent::ClientState { active } => format!("Active({active})"),
        C2sEvent::Closed(CloseReason::WeRefused(error)) => error.condition.as_str().to_owned(),
        C2sEvent::Closed(CloseReason::PeerRefused(_)) => "PeerRefused".to_owned(),
        C2sEvent::Closed(reason) => format!("{reason:?}"),
    }
}

/// Every state meets every input. The owner is silent, so that what it is asked shows.
#[test]
fn transition_table() {
    let mut table = String::new();
    for state in states() {
        let name = state().server.state.name();
        table += &format!("{name}\n");
        let mut outcomes = BTreeMap::<_, Vec<_>>::new();
        for (input, act) in inputs() {
            let mut world = silent(state());
            world.events.clear();
            act(&mut world);
            let events: Vec<_> = world.events.iter().map(shown).collect();
            let next = world.server.state.name();
            let outcome = format!("{next} {}", events.join(" ")).trim_end().to_owned();
            if outcome != name {
                outcomes.entry(outcome).or_default().push(input);
            }
        }
        for (outcome, inputs) in outcomes {
            table += &format!("    {} -> {outcome}\n", inputs.join(", "));
        }
    }
    insta::assert_snapshot!(table, @r"
    AwaitHeader(Clear)
        header -> AwaitStartTls
        eof -> Closed Disconnected
        owner's error -> Closed conflict
        starttls, auth, authenticate, response, abort, bind iq, message, other element, enable, resume, a, r -> Closed invalid-namespace
        stream error, footer -> Closed not-well-formed
    AwaitStartTls
        auth, authenticate -> AwaitStartTls Failed(encryption-required)
        eof -> Closed Disconnected
        footer -> Closed PeerClosed
        stream error -> Closed PeerRefused
        owner's error -> Closed conflict
        bind iq, message -> Closed not-authorized
        header -> Closed restricted-xml
        response, abort, other element, enable, resume, a, r -> Closed unsupported-stanza-type
        starttls -> Upgrading
    Upgrading
        tls done -> AwaitHeader(Encrypted)
        eof -> Closed Disconnected
        owner's error -> Closed conflict
        header, starttls, auth, authenticate, response, abort, bind iq, message, other element, enable, resume, a, r, stream error, footer -> Closed policy-violation
    AwaitHeader(Encrypted)
        header -> AwaitAuth
        eof -> Closed Disconnected
        owner's error -> Closed conflict
        starttls, auth, authenticate, response, abort, bind iq, message, other element, enable, resume, a, r -> Closed invalid-namespace
        stream error, footer -> Closed not-well-formed
    AwaitAuth
        abort -> AwaitAuth Failed(aborted)
        response -> AwaitAuth Failed(malformed-request)
        auth, authenticate -> AwaitKeys Credentials
        eof -> Closed Disconnected
        footer -> Closed PeerClosed
        stream error -> Closed PeerRefused
        owner's error -> Closed conflict
        bind iq, message -> Closed not-authorized
        header -> Closed restricted-xml
        starttls, other element, enable, resume, a, r -> Closed unsupported-stanza-type
    AwaitInitial
        abort -> AwaitAuth Failed(aborted)
        auth -> AwaitAuth Failed(malformed-request)
        response -> AwaitKeys Credentials
        eof -> Closed Disconnected
        footer -> Closed PeerClosed
        stream error -> Closed PeerRefused
        owner's error -> Closed conflict
        bind iq, message -> Closed not-authorized
        header -> Closed restricted-xml
        starttls, authenticate, other element, enable, resume, a, r -> Closed unsupported-stanza-type
    AwaitKeys
        no keys now -> AwaitAuth Failed(temporary-auth-failure)
        keys -> AwaitProof
        eof -> Closed Disconnected
        owner's error -> Closed conflict
    AwaitProof
        abort -> AwaitAuth Failed(aborted)
        auth, response -> AwaitAuth Failed(malformed-request)
        eof -> Closed Disconnected
        footer -> Closed PeerClosed
        stream error -> Closed PeerRefused
        owner's error -> Closed conflict
        bind iq, message -> Closed not-authorized
        header -> Closed restricted-xml
        starttls, authenticate, other element, enable, resume, a, r -> Closed unsupported-stanza-type
    AwaitHeader(Authenticated)
        header -> AwaitBind
        eof -> Closed Disconnected
        owner's error -> Closed conflict
        starttls, auth, authenticate, response, abort, bind iq, message, other element, enable, resume, a, r -> Closed invalid-namespace
        stream error, footer -> Closed not-well-formed
    AwaitTokens
        no keys now -> AwaitAuth Failed(temporary-auth-failure)
        tokens -> AwaitGrant Authenticated Wishes
        eof -> Closed Disconnected
        owner's error -> Closed conflict
    AwaitGrant
        grant -> Bound
        eof -> Closed Disconnected
        owner's error -> Closed conflict
    AwaitBind
        bind iq -> AwaitResource Bind
        resume -> AwaitResume Resume
        eof -> Closed Disconnected
        footer -> Closed PeerClosed
        stream error -> Closed PeerRefused
        owner's error -> Closed conflict
        message -> Closed not-authorized
        header -> Closed restricted-xml
        starttls, auth, authenticate, response, abort, other element, a, r -> Closed unsupported-stanza-type
    AwaitResource
        no address -> AwaitBind
        address -> Bound
        eof -> Closed Disconnected
        owner's error -> Closed conflict
    AwaitResume
        no session -> AwaitBind
        session -> Bound
        eof -> Closed Disconnected
        owner's error -> Closed conflict
    Bound
        enable -> Bound EnableManagement
        message -> Bound Stanza
        eof -> Closed Disconnected
        footer -> Closed PeerClosed
        stream error -> Closed PeerRefused
        owner's error -> Closed conflict
        header -> Closed restricted-xml
        starttls, auth, authenticate, response, abort, other element, a, r -> Closed unsupported-stanza-type
    Bound
        r -> Bound AckRequested
        a -> Bound Acked(0)
        bind iq -> Bound Reply
        message -> Bound Stanza
        eof -> Closed Disconnected
        footer -> Closed PeerClosed
        stream error -> Closed PeerRefused
        owner's error -> Closed conflict
        header -> Closed restricted-xml
        starttls, auth, authenticate, response, abort, other element -> Closed unsupported-stanza-type
    Closed
    ");
}
