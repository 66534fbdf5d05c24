use std::time::{Duration, Instant};

use gatehouse_types::Machine as _;

use super::world::{Item, config, domain, facts, item, moment};
use crate::sm::Session;
use crate::stream::CloseReason;
use crate::trunk::{Continuity, TrunkEnd, TrunkEvent};
use crate::{Seed, StreamCondition};

const HEADER: &str = "<?xml version='1.0'?><stream:stream from='core.example' to='edge.example' \
                      version='1.0' xmlns='jabber:server' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

fn acceptor(shows: &str, now: Instant) -> TrunkEnd<Item> {
    let config = config("edge.example", &["core.example"]);
    TrunkEnd::acceptor(config, facts(shows), Seed::new([1; 32]), now)
}

fn say(end: &mut TrunkEnd<Item>, text: &str, now: Instant) {
    end.handle_data(text.as_bytes(), now);
}

fn written(end: &mut TrunkEnd<Item>) -> String {
    let mut text = Vec::new();
    while let Some(bytes) = end.poll_transmit() {
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).unwrap()
}

fn events(end: &mut TrunkEnd<Item>) -> Vec<TrunkEvent<Item>> {
    std::iter::from_fn(|| end.poll_event()).collect()
}

/// An acceptor with a session.
fn open(now: Instant) -> TrunkEnd<Item> {
    let mut end = acceptor("core.example", now);
    for text in [HEADER, AUTH, HEADER, ENABLE] {
        say(&mut end, text, now);
    }
    assert!(matches!(events(&mut end)[..], [TrunkEvent::Enable(_)]));
    end.admit(Session::default(), now).unwrap();
    assert_eq!(events(&mut end), [TrunkEvent::Opened { session: Continuity::New, resent: 0 }]);
    written(&mut end);
    end
}

fn why_closed(end: &mut TrunkEnd<Item>) -> CloseReason {
    assert!(end.is_closed());
    match events(end).pop() {
        Some(TrunkEvent::Closed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_acceptor_offers_what_it_says() {
    let now = moment();
    let mut end = acceptor("core.example", now);
    say(&mut end, HEADER, now);
    let text = written(&mut end);
    assert!(
        text.contains("from='edge.example'") || text.contains("from=\"edge.example\""),
        "{text}"
    );
    assert!(text.contains("EXTERNAL") && !text.contains("urn:xmpp:sm:3"), "{text}");
    say(&mut end, AUTH, now);
    assert!(written(&mut end).contains("<success"));
    say(&mut end, HEADER, now);
    let text = written(&mut end);
    assert!(text.contains("urn:xmpp:sm:3") && !text.contains("EXTERNAL"), "{text}");
}

#[test]
fn whoever_is_not_listed_or_not_proven_hears_only_not_authorized() {
    let now = moment();
    for (shows, header, why) in [
        ("other.example", HEADER.to_owned(), "core.example"),
        ("other.example", HEADER.replace("core.example", "other.example"), "not one of the cores"),
        ("core.example", HEADER.replace("core.example", "192.0.2.1"), "not the name of a node"),
        ("core.example", HEADER.replace("from='core.example'", ""), "not the name of a node"),
    ] {
        let mut end = acceptor(shows, now);
        say(&mut end, &header, now);
        let text = written(&mut end);
        assert!(text.contains("not-authorized") && text.ends_with("</stream:stream>"), "{text}");
        assert!(!text.contains("EXTERNAL") && !text.contains("core.example"), "{text}");
        match why_closed(&mut end) {
            CloseReason::NoAgreement(reason) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_header_for_another_node_or_an_old_version_is_refused() {
    let now = moment();
    for (header, want) in [
        (HEADER.replace("edge.example", "e2.example"), StreamCondition::HostUnknown),
        (HEADER.replace(" version='1.0' xmlns", " xmlns"), StreamCondition::UnsupportedVersion),
    ] {
        let mut end = acceptor("core.example", now);
        say(&mut end, &header, now);
        match why_closed(&mut end) {
            CloseReason::WeRefused(error) => assert_eq!(error.condition, want),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_dialler_says_nothing_to_an_impostor() {
    let mut end: TrunkEnd<Item> = TrunkEnd::dialler(
        config("core.example", &[]),
        domain("edge.example"),
        Session::default(),
        facts("other.example"),
        Seed::new([1; 32]),
        moment(),
    );
    assert_eq!(written(&mut end), "");
    assert!(matches!(why_closed(&mut end), CloseReason::NoAgreement(_)));
}

#[test]
fn an_acknowledgement_of_more_than_was_sent_ends_the_stream() {
    let now = moment();
    let mut end = open(now);
    end.send(item(0), now).unwrap();
    written(&mut end);
    say(&mut end, "<a xmlns='urn:xmpp:sm:3' h='2'/>", now);
    let text = written(&mut end);
    assert!(
        text.contains("handled-count-too-high") && text.contains("undefined-condition"),
        "{text}"
    );
    assert!(matches!(why_closed(&mut end), CloseReason::WeRefused(_)));
    // What it held goes out on the next session; this one cannot be resumed.
    let left = end.take_session();
    assert_eq!((left.id.clone(), left.outbound.len()), (None, 1));
}

#[test]
fn rubbish_ends_the_stream() {
    let now = moment();
    for (text, want) in [
        ("<a xmlns='urn:xmpp:sm:3'/>", StreamCondition::BadFormat),
        ("<a xmlns='urn:xmpp:sm:3' h='-1'/>", StreamCondition::BadFormat),
        ("<a xmlns='urn:xmpp:sm:3' h='4294967296'/>", StreamCondition::BadFormat),
        ("<enable xmlns='urn:xmpp:sm:3'/>", StreamCondition::BadFormat),
        ("<what xmlns='urn:x'/>", StreamCondition::UnsupportedStanzaType),
    ] {
        let mut end = open(now);
        say(&mut end, text, now);
        match why_closed(&mut end) {
            CloseReason::WeRefused(error) => assert_eq!(error.condition, want, "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_has_no_readable_address_is_counted_and_dropped() {
    let now = moment();
    let mut end = open(now);
    say(&mut end, "<message from='@' to='b@c.example'/><r xmlns='urn:xmpp:sm:3'/>", now);
    assert!(matches!(events(&mut end)[..], [TrunkEvent::Discarded(_)]));
    let text = written(&mut end);
    assert!(text.contains("h='1'") || text.contains("h=\"1\""), "{text}");
}

#[test]
fn a_session_of_another_name_is_refused_and_a_new_one_may_follow() {
    let now = moment();
    let mut end = acceptor("core.example", now);
    let resume = "<resume xmlns='urn:xmpp:sm:3' previd='gone' h='7'/>";
    for text in [HEADER, AUTH, HEADER, resume] {
        say(&mut end, text, now);
    }
    match &events(&mut end)[..] {
        [TrunkEvent::Resume { id, .. }] => assert_eq!(id, "gone"),
        other => panic!("{other:?}"),
    }
    written(&mut end);
    end.refuse_resume(now);
    let text = written(&mut end);
    assert!(text.contains("<failed") && text.contains("item-not-found"), "{text}");
    say(&mut end, ENABLE, now);
    assert!(matches!(events(&mut end)[..], [TrunkEvent::Enable(_)]));
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let start = moment();
    let mut end = open(start);
    let asked_at = start + Duration::from_secs(15);
    assert_eq!(end.poll_timeout(), Some(asked_at));
    end.handle_timeout(asked_at);
    assert!(written(&mut end).starts_with("<r "));

    // It answers, and lives.
    say(&mut end, "<a xmlns='urn:xmpp:sm:3' h='0'/>", asked_at);
    assert_eq!(end.poll_timeout(), Some(asked_at + Duration::from_secs(15)));

    // It does not, and is left; the session can be resumed.
    let again_at = asked_at + Duration::from_secs(15);
    end.handle_timeout(again_at);
    end.handle_timeout(again_at + Duration::from_secs(9));
    assert!(!end.is_closed());
    end.handle_timeout(again_at + Duration::from_secs(10));
    assert_eq!(why_closed(&mut end), CloseReason::Idle);
    assert!(end.take_session().id.is_some());
}

#[test]
fn a_negotiation_that_drags_on_is_given_up() {
    let start = moment();
    let mut end = acceptor("core.example", start);
    say(&mut end, HEADER, start);
    end.handle_timeout(start + Duration::from_secs(29));
    assert!(!end.is_closed());
    end.handle_timeout(start + Duration::from_secs(30));
    assert_eq!(why_closed(&mut end), CloseReason::SetupTimeout);
}

#[test]
fn a_farewell_acknowledges_first_and_ends_the_session() {
    let now = moment();
    let mut end = open(now);
    say(&mut end, "<message from='a@b.example' to='c@d.example' id='0'/>", now);
    end.handled(0, now);
    end.handle_shutdown(now);
    let text = written(&mut end);
    assert!(text.contains("<a ") && text.ends_with("</stream:stream>"), "{text}");
    assert!(!end.is_closed());
    say(&mut end, "</stream:stream>", now);
    assert_eq!(why_closed(&mut end), CloseReason::Shutdown);
    assert_eq!(end.take_session().id, None);
}

#[test]
fn a_flood_while_the_owner_decides_is_refused() {
    let now = moment();
    let mut end = acceptor("core.example", now);
    for text in [HEADER, AUTH, HEADER, ENABLE] {
        say(&mut end, text, now);
    }
    events(&mut end);
    for _ in 0..9 {
        say(&mut end, &" ".repeat(64 * 1024), now);
    }
    assert!(matches!(why_closed(&mut end), CloseReason::WeRefused(_)));
}

#[test]
fn what_is_too_long_comes_back_and_the_stream_lives_on() {
    let now = moment();
    let mut end = open(now);
    let max = config("edge.example", &[]).limits.stanza_bytes_max;
    let mut long = item(0).0;
    long.payload_mut().append_text("x".repeat(max));
    let long = Item(long);
    assert_eq!(end.send(long.clone(), now), Err(long));
    assert!(!end.is_owed() && written(&mut end).is_empty());
    assert_eq!(end.send(item(1), now), Ok(()));
    assert!(written(&mut end).contains("id='1'"));
}

const ANNOUNCE: &str = "<announce xmlns='urn:gatehouse:trunk:0'><domain>ours.example</domain>\
                        <domain>b.example</domain></announce>";

#[test]
fn a_dialler_says_what_it_serves_and_only_acceptors_listen() {
    let now = moment();
    let mut end = open(now);
    say(&mut end, ANNOUNCE, now);
    let domains = vec![domain("ours.example"), domain("b.example")];
    assert_eq!(events(&mut end), [TrunkEvent::Announced(domains)]);
    for bad in [
        ANNOUNCE.replace("b.example", "b@c"),
        ANNOUNCE.replace("<domain>b", "<x xmlns='urn:x'/><domain>b"),
        format!(
            "<announce xmlns='urn:gatehouse:trunk:0'>{}</announce>",
            "<domain>a.example</domain>".repeat(1001)
        ),
    ] {
        let mut end = open(now);
        say(&mut end, &bad, now);
        match why_closed(&mut end) {
            CloseReason::WeRefused(error) => {
                assert_eq!(error.condition, StreamCondition::BadFormat);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_handled_out_of_turn_is_told_to_who_understands_it() {
    let now = moment();
    let message = "<message from='a@b.example' to='c@d.example'/>";
    for (first, want) in [(ANNOUNCE, true), ("", false)] {
        let mut end = open(now);
        say(&mut end, first, now);
        say(&mut end, &message.repeat(3), now);
        events(&mut end);
        end.handled(1, now);
        end.handled(2, now);
        end.handle_timeout(now + Duration::from_millis(200));
        let text = written(&mut end);
        assert_eq!(text.contains("<beyond") && text.contains("number='1'"), want, "{text}");
    }
}

#[test]
fn a_gap_is_skipped_after_a_resume() {
    let now = moment();
    let mut end = open(now);
    for number in 0..3 {
        end.send(item(number), now).unwrap();
    }
    say(&mut end, "<beyond xmlns='urn:gatehouse:trunk:0' number='1' len='1'/>", now);
    assert_eq!(events(&mut end), [TrunkEvent::Acknowledged(vec![item(1)])]);
    end.handle_eof(now);
    let session = end.take_session();
    let mut end = acceptor("core.example", now);
    let resume = "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>";
    for text in [HEADER, AUTH, HEADER, resume] {
        say(&mut end, text, now);
    }
    written(&mut end);
    assert!(end.admit(Session::default(), now).is_err(), "not what it waits for");
    end.resume(session, now).unwrap();
    let text = written(&mut end);
    let places: Vec<_> =
        ["id='0'", "<skip", "id='2'"].iter().map(|part| text.find(part).unwrap()).collect();
    assert!(places.is_sorted() && !text.contains("id='1'"), "{text}");
    assert!(end.resume(Session::default(), now).is_err(), "it waits no more");
}

#[test]
fn what_cannot_be_read_is_named_and_the_session_can_be_resumed() {
    let now = moment();
    let mut end = open(now);
    say(&mut end, ANNOUNCE, now);
    say(&mut end, "<message from='a@b.example' to='c@d.example'/><message", now);
    say(&mut end, &" ".repeat(600 * 1024), now);
    let text = written(&mut end);
    assert!(text.contains("<refused") && text.contains("number='1'"), "{text}");
    assert!(matches!(why_closed(&mut end), CloseReason::WeRefused(_)));
    assert!(end.take_session().id.is_some());

    // And the one who sent it.
    let mut end = open(now);
    for number in 0..2 {
        end.send(item(number), now).unwrap();
    }
    say(
        &mut end,
        "<refused xmlns='urn:gatehouse:trunk:0' number='1'/><stream:error>\
         <policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        now,
    );
    assert_eq!(events(&mut end)[0], TrunkEvent::Refused(item(1)));
    let left = end.take_session();
    assert_eq!((left.id.is_some(), left.outbound.len()), (true, 1));
}

#[test]
fn nothing_follows_a_farewell() {
    let now = moment();
    let mut end = open(now);
    say(&mut end, ANNOUNCE, now);
    say(&mut end, "<message from='a@b.example' to='c@d.example'/>", now);
    end.handle_shutdown(now);
    assert!(written(&mut end).ends_with("</stream:stream>"));
    end.handled(0, now);
    say(&mut end, "<r xmlns='urn:xmpp:sm:3'/>", now);
    assert_eq!(written(&mut end), "");
}
