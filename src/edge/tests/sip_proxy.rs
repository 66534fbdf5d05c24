//! What the edge does with a partner's messages, and with those of its own nodes: RFC 3261
//! section 16 without a memory.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::num::NonZeroU32;
use std::time::Duration;

use gatehouse_edge::PrivateTargets;
use gatehouse_net::now;
use gatehouse_policy::{SipMode, SipPartner, SipRoute};
use gatehouse_sip::{HeaderName, Message, Status};
use gatehouse_testkit::{TestCa, TestCertificate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use world::sip::{
    Inside, SipPeer, Wire, policy, request, request_inside, row, say_all, set, told, with_uri,
};
use world::{Zone, port};

const ALICE: &str = "sip:alice@ours.example";
const BOB: &str = "sip:bob@them.example";

/// The inside, and one partner with a port that DNS names.
struct World {
    ca: TestCa,
    inside: Inside,
    peer: SipPeer,
    listener: TcpListener,
    wire: Wire,
    _dns: Box<dyn std::any::Any>,
}

impl World {
    async fn with(rows: Vec<SipPartner>, certificate: Option<TestCertificate>) -> Self {
        let ca = TestCa::new();
        let listener = port().await;
        let theirs = listener.local_addr().unwrap().port();
        let zone = Zone::new().sip_federation("them.example", "sip.them.example", theirs);
        let (resolver, dns) = zone.serve().await;
        let inside = Inside::start(&ca, &resolver, policy(rows)).await;
        inside.ready().await;
        let wire = Wire::default();
        let certificate = certificate.unwrap_or_else(|| ca.issue().dns("sip.them.example").make());
        let peer = SipPeer::new(Some(&certificate), &ca, &wire);
        Self { ca, inside, peer, listener, wire, _dns: Box::new(dns) }
    }

    async fn new() -> Self {
        Self::with(vec![row(&["them.example"], SipMode::Enhanced)], None).await
    }
}

fn branch(message: &Message) -> String {
    message.vias().unwrap()[0].branch().unwrap().to_owned()
}

#[tokio::test]
async fn what_goes_no_further_is_answered_here() {
    let mut world = World::new().await;
    let mut phone = world.peer.dial(world.inside.edges[0].address).await;
    let to_alice = |method, id| request(method, ALICE, id);
    let not_ours = "404 1003;reason=\"The recipient does not exist here\"";
    let rows = [
        (
            "a relay by To",
            set(to_alice("MESSAGE", "a"), HeaderName::To, "<sip:x@far.example>"),
            not_ours,
        ),
        (
            "a relay by Request-URI",
            with_uri(to_alice("MESSAGE", "b"), "sip:x@far.example"),
            not_ours,
        ),
        ("an address", with_uri(to_alice("MESSAGE", "c"), "sip:alice@10.0.0.1"), not_ours),
        (
            "a relay by Route",
            set(
                to_alice("MESSAGE", "d"),
                HeaderName::Route,
                "<sip:sip.ours.example;lr>, <sip:10.0.0.1;lr>",
            ),
            "403 1003;reason=\"Requests are not relayed to other hosts\"",
        ),
        ("sips", with_uri(to_alice("MESSAGE", "e"), "sips:alice@ours.example"), "416"),
        ("tel", with_uri(to_alice("MESSAGE", "f"), "tel:+15551234"), "416"),
        ("no hops left", set(to_alice("MESSAGE", "g"), HeaderName::MaxForwards, "0"), "483"),
        (
            "an extension",
            set(to_alice("SUBSCRIBE", "h"), HeaderName::ProxyRequire, "ms-benotify, x"),
            "420 ms-benotify, x",
        ),
        ("a NOTIFY out of the blue", to_alice("NOTIFY", "i"), "481"),
        (
            "a registration",
            to_alice("REGISTER", "j"),
            "405 1027;reason=\"This type of request is not routed between organisations\"",
        ),
        ("a CANCEL of nothing", to_alice("CANCEL", "k"), "481"),
        (
            "a loop",
            set(
                to_alice("MESSAGE", "l"),
                HeaderName::Via,
                "SIP/2.0/TLS sip.them.example;branch=z9hG4bK1, SIP/2.0/TLS sip.ours.example:5061;branch=z9hG4bK2",
            ),
            "482",
        ),
        ("two tags", set(to_alice("MESSAGE", "m"), HeaderName::CSeq, "1 INVITE"), "400"),
        ("a question", to_alice("OPTIONS", "n"), "200"),
        (
            "a question by the name that its administrator knows us by",
            set(to_alice("OPTIONS", "q"), HeaderName::Route, "<sip:edge.hoster.example;lr>"),
            "200",
        ),
    ];
    for (case, request, expected) in rows {
        assert_eq!(phone.ask(&request).await, expected, "{case}");
    }
    let refused = phone.ask(&to_alice("PUBLISH", "o")).await;
    assert!(refused.starts_with("405"));
    for method in ["ACK", "BENOTIFY"] {
        phone.send(&to_alice(method, method)).await;
    }
    assert_eq!(phone.ask(&to_alice("OPTIONS", "p")).await, "200", "silence before it");
    world.inside.assert_silence();
    world.wire.assert_clean();
}

#[tokio::test]
async fn a_405_says_what_is_allowed() {
    let world = World::new().await;
    let mut phone = world.peer.dial(world.inside.edges[0].address).await;
    phone.send(&request("REGISTER", ALICE, "a")).await;
    let allow = phone.next().await.headers.get(&HeaderName::Allow).unwrap().into_owned();
    assert_eq!(allow, "INVITE, ACK, BYE, CANCEL, MESSAGE, INFO, SUBSCRIBE, NOTIFY, OPTIONS");
}

#[tokio::test]
async fn an_invitation_its_cancel_and_its_ack_are_one_transaction_on_the_way_in() {
    let mut world = World::new().await;
    let mut phone = world.peer.dial(world.inside.edges[0].address).await;
    phone.send(&request("INVITE", ALICE, "call")).await;
    let invite = world.inside.hear().await;
    assert_eq!(invite.message.headers.get(&HeaderName::MaxForwards).unwrap(), "69");
    assert_eq!(invite.message.record_routes().unwrap().len(), 1);
    phone.send(&request("CANCEL", ALICE, "call")).await;
    let cancel = world.inside.hear().await;
    assert_eq!((cancel.node, branch(&cancel.message)), (invite.node, branch(&invite.message)));
    world.inside.answer(&cancel, 200);
    assert_eq!(told(&phone.next().await), "200");
    world.inside.answer(&invite, 487);
    let refused = phone.next().await;
    assert_eq!(told(&refused), "487");
    // Its own Vias, all of them, and nothing that was put on top.
    let vias = refused.vias().unwrap();
    assert_eq!(vias.len(), 2);
    assert_eq!(vias[0].branch(), Some("z9hG4bKcall"));
    let to = refused.headers.get(&HeaderName::To).unwrap().into_owned();
    phone.send(&set(request("ACK", ALICE, "call"), HeaderName::To, &to)).await;
    let ack = world.inside.hear().await;
    assert_eq!((ack.node, branch(&ack.message)), (invite.node, branch(&invite.message)));
    assert_eq!(ack.message.method().unwrap().as_str(), "ACK");

    // Of what the partner recorded it gets its own back, and not what was recorded inside.
    phone.send(&request("INVITE", ALICE, "second")).await;
    let invite = world.inside.hear().await;
    world.inside.answer(&invite, 200);
    let accepted = phone.next().await;
    let recorded = accepted.headers.list(&HeaderName::RecordRoute);
    assert_eq!(recorded, ["<sip:sip.them.example:5061;transport=tls;lr;opaque=state:T:F>"]);
    world.wire.assert_clean();
}

#[tokio::test]
async fn an_invitation_and_its_cancel_are_one_transaction_on_the_way_out() {
    let mut world = World::new().await;
    world.inside.send(1, 0, request_inside(1, "INVITE", BOB, "call"));
    let mut phone = world.peer.accept(&world.listener).await;
    let invite = phone.next().await;
    world.inside.send(1, 0, request_inside(1, "CANCEL", BOB, "call"));
    let cancel = phone.next().await;
    assert_eq!(cancel.vias().unwrap().len(), 1);
    assert_eq!(branch(&invite), branch(&cancel));
    world.inside.send(1, 0, request_inside(1, "INVITE", BOB, "other"));
    assert_ne!(branch(&invite), branch(&phone.next().await));
    // Both are owed an answer: that of the CANCEL does not settle the INVITE.
    phone.send(&Message::response_to(&cancel, Status::of(200), Some("t"))).await;
    let heard = world.inside.hear().await;
    assert_eq!(heard.message.cseq().unwrap().method.as_str(), "CANCEL");
    drop(phone);
    let mut failed = Vec::new();
    for _ in 0..2 {
        let heard = world.inside.hear().await;
        assert_eq!((heard.node, heard.message.status()), ("core-2", Some(Status::of(503))));
        assert_eq!(heard.message.vias().unwrap().len(), 1);
        failed.push(heard.message.call_id().unwrap());
    }
    failed.sort();
    assert_eq!(failed, ["call", "other"]);
    world.inside.assert_silence();
    world.wire.assert_clean();
}

#[tokio::test]
async fn what_names_a_host_of_the_inside_does_not_leave() {
    let mut world = World::new().await;
    let named = request_inside(0, "SUBSCRIBE", BOB, "x@core-1.inside.example");
    world.inside.send(0, 0, named);
    let heard = world.inside.hear().await;
    assert_eq!(told(&heard.message), "400");
    let routed = request_inside(0, "MESSAGE", BOB, "routed");
    let routed = set(routed, HeaderName::Route, "<sip:core-1.inside.example;lr>");
    world.inside.send(0, 0, routed);
    let mut phone = world.peer.accept(&world.listener).await;
    let sent = phone.next().await;
    assert!(sent.routes().unwrap().is_empty());
    // Neither between domains that are no pair of a domain of ours and another.
    for (from, to) in [("ours.example", "ours.example"), ("far.example", "them.example")] {
        let request = request_inside(0, "MESSAGE", BOB, "relay");
        let request = set(request, HeaderName::From, &format!("<sip:a@{from}>;tag=1"));
        world.inside.send(0, 0, set(request, HeaderName::To, &format!("<sip:b@{to}>")));
        assert_eq!(told(&world.inside.hear().await.message), "403");
    }
    world.wire.assert_clean();
}

#[tokio::test]
async fn nothing_is_sent_to_who_is_not_the_partner() {
    let ca = TestCa::new();
    let stranger = ca.issue().dns("sip.them.example").make();
    // Its authority is not ours.
    let rows = vec![row(&["them.example"], SipMode::Enhanced)];
    let mut world = World::with(rows, Some(stranger)).await;
    world.inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "secret"));
    let mut phone = world.peer.accept(&world.listener).await;
    assert!(phone.next_or_end().await.is_none(), "it was told something");
    let heard = world.inside.hear().await;
    assert_eq!(told(&heard.message), "504");
    // Nor does what the partner says decide where we connect.
    let elsewhere = port().await;
    let uri = format!("sip:bob@127.0.0.1:{}", elsewhere.local_addr().unwrap().port());
    world.inside.send(0, 0, request_inside(0, "MESSAGE", &uri, "elsewhere"));
    assert_eq!(told(&world.inside.hear().await.message), "504");
    let none = tokio::time::timeout(Duration::from_millis(1), elsewhere.accept()).await;
    assert!(none.is_err(), "we connected to where a URI points");
}

#[tokio::test]
async fn a_connection_is_not_used_once_the_policy_names_another_host() {
    let mut world = World::new().await;
    world.inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "one"));
    let mut first = world.peer.accept(&world.listener).await;
    let one = first.next().await;
    first.send(&Message::response_to(&one, Status::of(200), Some("t"))).await;
    assert_eq!(told(&world.inside.hear().await.message), "200");
    let other = port().await;
    let port = other.local_addr().unwrap().port();
    let routed = SipPartner {
        route: Some(SipRoute { host: "sip.them.example".parse().unwrap(), port }),
        ..row(&["them.example"], SipMode::Enhanced)
    };
    world.inside.policy.send_replace(policy(vec![routed]).into());
    world.inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "two"));
    let mut second = world.peer.accept(&other).await;
    assert_eq!(second.next().await.call_id().unwrap(), "two");
    // And not at all once it says no.
    world.inside.policy.send_replace(policy(Vec::new()).into());
    world.inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "three"));
    assert_eq!(told(&world.inside.hear().await.message), "403");
}

#[tokio::test]
async fn an_answer_finds_the_partner_although_its_connection_is_gone() {
    let mut world = World::new().await;
    let mut phone = world.peer.dial(world.inside.edges[0].address).await;
    phone.send(&request("SUBSCRIBE", ALICE, "one")).await;
    let heard = world.inside.hear().await;
    drop(phone);
    // Through the other edge, as if its own were gone: to where the policy says the partner is.
    let heard = world::sip::Heard { edge: "edge-2".into(), ..heard };
    world.inside.answer(&heard, 200);
    let mut called = world.peer.accept(&world.listener).await;
    let answer = called.next().await;
    assert_eq!((told(&answer).as_str(), branch(&answer).as_str()), ("200", "z9hG4bKone"));
    world.wire.assert_clean();
}

#[tokio::test]
async fn nothing_crosses_from_one_message_into_the_next() {
    let mut world = World::new().await;
    let hidden = request("MESSAGE", ALICE, "hidden").to_bytes();
    let hidden = String::from_utf8(hidden.to_vec()).unwrap();
    let open = request("MESSAGE", ALICE, "open").to_bytes();
    let open = String::from_utf8(open.to_vec()).unwrap();
    let length = "Content-Length: 0\r\n";
    let refused = "SIP/2.0 400 ";
    for (case, bytes, answered) in [
        ("two lengths", open.replace(length, "Content-Length: 0\r\nl: 900\r\n"), refused),
        ("a negative one", open.replace(length, "Content-Length: -900\r\n"), refused),
        ("a signed one", open.replace(length, "Content-Length: +0\r\n"), refused),
        ("one too large", open.replace(length, "Content-Length: 99999999999999999999\r\n"), ""),
        ("none", open.replace(length, ""), refused),
        ("a bare line feed", open.replace("Max-Forwards: 70\r\n", "Max-Forwards: 70\n"), ""),
        ("a NUL", open.replace("bob@", "b\0b@"), ""),
        ("no SIP at all", "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), ""),
    ] {
        let io = world.peer.dial_raw(world.inside.edges[0].address).await;
        let heard = say_all(io, format!("{bytes}{hidden}").as_bytes()).await;
        assert!(heard.starts_with(answered), "{case}: {heard}");
        assert!(heard.matches("CSeq").count() <= 1, "{case}: {heard}");
        assert!(!heard.contains("hidden"), "{case}: {heard}");
        world.inside.assert_silence();
    }
    // A body that says it is longer than it is takes what follows with it, and nothing more: the
    // rest is no message.
    let swallow = open.replace(length, &format!("Content-Length: {}\r\n", hidden.len() - 10));
    let io = world.peer.dial_raw(world.inside.edges[0].address).await;
    let mut io = io;
    io.write_all(format!("{swallow}{hidden}{hidden}").as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    let heard = world.inside.hear().await;
    assert_eq!(heard.message.call_id().unwrap(), "open");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), io.read_to_end(&mut rest)).await.unwrap();
    world.inside.assert_silence();
    // Two in one go (RFC 4475, dblreq) are two.
    let mut phone = world.peer.dial(world.inside.edges[0].address).await;
    phone.send(&request("REGISTER", ALICE, "first")).await;
    phone.send(&request("INVITE", ALICE, "second")).await;
    assert!(told(&phone.next().await).starts_with("405"));
    assert_eq!(world.inside.hear().await.message.call_id().unwrap(), "second");
    world.inside.assert_silence();
    world.wire.assert_clean();
}

#[tokio::test]
async fn a_keep_alive_is_answered() {
    let world = World::new().await;
    let mut io = world.peer.dial_raw(world.inside.edges[0].address).await;
    io.write_all(b"\r\n\r\n").await.unwrap();
    io.flush().await.unwrap();
    let mut answer = [0; 2];
    let read = tokio::time::timeout(Duration::from_secs(10), io.read_exact(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(&answer, b"\r\n");
}

#[tokio::test]
async fn a_stranger_is_slowed_down_and_then_refused() {
    let world = World::with(vec![row(&["*"], SipMode::Open)], None).await;
    let mut phone = world.peer.dial(world.inside.edges[0].address).await;
    // Twenty at once, and twenty a second after that.
    let began = now();
    for number in 0..30 {
        let question = request("OPTIONS", ALICE, &format!("q{number}"));
        assert_eq!(phone.ask(&question).await, "200");
    }
    let took = now().saturating_duration_since(began);
    assert!(took >= Duration::from_millis(450), "{took:?}");
    // Most of what it asks fails: one a second, and no patience.
    let mut limited = 0;
    for number in 0..40 {
        let nonsense = phone.ask(&request("NOTIFY", ALICE, &format!("n{number}"))).await;
        if nonsense == "503 1007;reason=\"Temporarily over the limit\" 5" {
            limited += 1;
        } else {
            assert_eq!(nonsense, "481");
        }
    }
    assert!(limited >= 15, "{limited}");
    world.wire.assert_clean();
}

#[tokio::test]
async fn a_row_with_a_rate_is_kept_to_it() {
    let limited = SipPartner {
        messages_per_second: NonZeroU32::new(5),
        ..row(&["them.example"], SipMode::Enhanced)
    };
    let world = World::with(vec![limited], None).await;
    let mut phone = world.peer.dial(world.inside.edges[0].address).await;
    let began = now();
    for number in 0..10 {
        let question = request("OPTIONS", ALICE, &format!("q{number}"));
        assert_eq!(phone.ask(&question).await, "200");
    }
    let took = now().saturating_duration_since(began);
    assert!(took >= Duration::from_millis(900), "{took:?}");
    drop(world.ca);
}

#[tokio::test]
async fn a_partner_that_does_not_read_costs_answers_and_no_memory() {
    const REQUESTS: usize = 1500;
    let mut world = World::new().await;
    // More than the kernel takes, and more than the queues hold.
    let body = vec![b'x'; 30_000];
    world.inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "first"));
    let mut phone = world.peer.accept(&world.listener).await;
    phone.next().await;
    let mut failed = std::collections::HashSet::new();
    for number in 0..REQUESTS {
        let mut message = request_inside(0, "MESSAGE", BOB, &format!("m{number}"));
        message.set_body("text/plain", body.clone());
        world.inside.send_slowly(0, 0, message).await;
        tokio::task::yield_now().await;
        while let Ok(heard) = world.inside.heard.try_recv() {
            assert_eq!(told(&heard.message), "503 5");
            assert!(failed.insert(heard.message.call_id().unwrap()));
        }
    }
    assert!(!failed.is_empty(), "all of it was kept somewhere");
    // It hangs up: each of the others is told as well, once.
    drop(phone);
    while failed.len() < REQUESTS + 1 {
        let heard = world.inside.hear().await;
        assert_eq!(heard.message.status(), Some(Status::of(503)));
        assert!(failed.insert(heard.message.call_id().unwrap()));
    }
    world.inside.assert_silence();
}

#[tokio::test]
async fn who_says_nothing_is_sent_away() {
    let world = World::new().await;
    let io = world.peer.dial_raw(world.inside.edges[0].address).await;
    let mut io = io;
    // It is heard, and is no message.
    io.write_all(b"\r\n\r\n").await.unwrap();
    let mut answer = [0; 2];
    io.read_exact(&mut answer).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(say_all(io, b"").await, "");
}

#[tokio::test]
async fn sips_records_lead_to_partners_that_are_no_lync() {
    let ca = TestCa::new();
    let listener = port().await;
    let theirs = listener.local_addr().unwrap().port();
    let (resolver, _dns) =
        Zone::new().sips("them.example", "proxy.them.example", theirs).serve().await;
    let rows = || policy(vec![row(&["them.example"], SipMode::Enhanced)]);
    let mut inside = Inside::start(&ca, &resolver, rows()).await;
    let peer = SipPeer::new(Some(&ca.issue().dns("them.example").make()), &ca, &Wire::default());
    inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "one"));
    let mut phone = peer.accept(&listener).await;
    let sent = phone.next().await;
    phone.send(&Message::response_to(&sent, Status::of(200), Some("t"))).await;
    assert_eq!(told(&inside.hear().await.message), "200");

    // Where private addresses are refused, DNS leads to none: the edge is nobody's way in.
    let refuse = PrivateTargets::Refuse;
    let mut inside = Inside::start_with(&ca, &resolver, rows(), refuse).await;
    inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "two"));
    assert_eq!(told(&inside.hear().await.message), "504");
    let none = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(none.is_err(), "a private address was dialled");
}
