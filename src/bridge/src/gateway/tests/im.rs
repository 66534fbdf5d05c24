//! IM sessions, as they go over the wire.

use super::*;
use crate::profile::Profile;

fn text(mut request: Message, body: &str) -> Message {
    request.set_body("text/plain; charset=UTF-8", body.to_owned());
    request
}

fn opened() -> (World, Message) {
    let mut world = World::new();
    assert_eq!(world.say("one", 1), ["> INVITE"]);
    let invite = world.sent("INVITE");
    assert!(world.say("two", 2).is_empty());
    assert!(world.answer(&invite, reply(&invite.1, 101)).is_empty());
    assert_eq!(world.answer(&invite, reply(&invite.1, 200)), ["> ACK", "> MESSAGE"]);
    (world, invite.1)
}

#[test]
fn messages_leave_one_by_one() {
    let (mut world, _) = opened();
    assert_eq!(world.sent("MESSAGE").1.body, "one");
    assert_eq!(world.answer_with("MESSAGE", 200), ["ok 1", "> MESSAGE"]);
    assert_eq!(world.sent("MESSAGE").1.body, "two");
    assert_eq!(world.sent("MESSAGE").1.cseq().unwrap().number, 3);
    assert_eq!(world.answer_with("MESSAGE", 200), ["ok 2"]);
    assert_eq!(world.say("three", 3), ["> MESSAGE"]);
}

#[test]
fn what_we_offer_names_nothing_inside_and_plain_text_only() {
    let mut world = World::new();
    world.say("one", 1);
    let (_, invite) = world.sent("INVITE");
    let body = String::from_utf8(invite.body.to_vec()).unwrap();
    assert!(body.contains("m=message") && body.contains("sip null"), "{body}");
    assert!(!body.contains("inside") && !body.contains("html"), "{body}");
    assert_eq!(invite.to().unwrap().uri.to_string(), "sip:bob@partner.example");
}

#[test]
fn a_2xx_that_comes_again_is_acknowledged_again() {
    let mut world = World::new();
    world.say("one", 1);
    let invite = world.sent("INVITE");
    world.answer(&invite, reply(&invite.1, 200));
    assert_eq!(world.answer(&invite, reply(&invite.1, 200)), ["> ACK"]);
    // A second device that accepted is let go.
    let other = Message::response_to(&invite.1, Status::of(200), Some("other"));
    let mut other = other;
    other.headers.push(HeaderName::Contact, "<sip:bob@partner.example;gruu>").unwrap();
    assert_eq!(world.answer(&invite, other.clone()), ["> ACK", "> BYE"]);
    // Not with each time that it says so, and not any number of devices.
    assert_eq!(world.answer(&invite, other), ["> ACK"]);
    let mut byes = 0;
    for number in 0..20 {
        let tag = format!("device{number}");
        let mut other = Message::response_to(&invite.1, Status::of(200), Some(&tag));
        other.headers.push(HeaderName::Contact, "<sip:bob@partner.example;gruu>").unwrap();
        byes += world.answer(&invite, other).iter().filter(|line| *line == "> BYE").count();
    }
    assert_eq!(byes, 7);
}

#[test]
fn refused_invitations_bounce_everything_in_order() {
    let mut world = World::new();
    world.say("one", 1);
    let invite = world.sent("INVITE");
    world.say("two", 2);
    let want = "stanza message error recipient-unavailable \
        Your IM could not be delivered. (486 Busy Here) /";
    let want = want.trim_end_matches(" /");
    assert_eq!(
        world.answer(&invite, reply(&invite.1, 486)),
        [want, "bounced 1", want, "bounced 2"]
    );
    assert_eq!(world.gateway.status().sessions, 0);
}

#[test]
fn a_content_filter_is_a_policy() {
    let (mut world, _) = opened();
    let message = world.sent("MESSAGE");
    let mut response = reply(&message.1, 606);
    let warning = "309 lync.partner.example \"Message contents not allowed by policy\"";
    response.headers.push(HeaderName::Warning, warning).unwrap();
    assert_eq!(
        world.answer(&message, response),
        [
            "stanza message error policy-violation Your IM could not be delivered. \
             (Message contents not allowed by policy)",
            "bounced 1",
            "> MESSAGE",
        ]
    );
}

#[test]
fn a_dead_dialog_is_replaced_and_the_message_sent_once_more() {
    for code in [408, 480, 481] {
        let (mut world, _) = opened();
        assert_eq!(world.answer_with("MESSAGE", code), ["> BYE", "> INVITE"]);
        assert_eq!(world.answer_with("INVITE", 200), ["> ACK", "> MESSAGE"]);
        assert_eq!(world.sent("MESSAGE").1.body, "one");
        let lines = world.answer_with("MESSAGE", code);
        assert_eq!(lines[0], "> BYE");
        assert_eq!(lines[2..], ["bounced 1", "> INVITE"], "{lines:?}");
    }
}

#[test]
fn an_invitation_that_rings_for_ever_is_given_up() {
    let mut world = World::new();
    world.say("one", 1);
    let invite = world.sent("INVITE");
    let lines = world.pass(Duration::from_secs(61));
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("> CANCEL", "bounced 1"));
    // It was accepted in the same moment: acknowledged, and ended.
    assert_eq!(world.answer(&invite, reply(&invite.1, 200)), ["> ACK", "> BYE"]);
}

#[test]
fn the_partner_invites_and_both_talk() {
    let mut world = World::new();
    let mut invite = invitation("call-1");
    let format = HeaderName::Other("ms-text-format".into());
    invite.headers.push(format, "text/plain; charset=UTF-8; ms-body=cXdl").unwrap();
    invite.headers.push(HeaderName::Supported, "ms-embedded-first-message").unwrap();
    // The embedded text is neither delivered nor claimed.
    assert_eq!(world.request(invite), ["< 200 INVITE"]);
    let accepted = world.answered();
    assert!(!accepted.headers.list(&HeaderName::Supported).contains(&"ms-text-format".to_owned()));
    let message = text(inside(&accepted, "MESSAGE", 2), "qwe");
    assert_eq!(world.request(message.clone()), ["deliver message chat body=qwe"]);
    let key = world.key();
    world.gateway.delivered(key, Ok(()), world.now);
    assert_eq!(world.did(), ["< 200 MESSAGE"]);
    // Again with the same number: out of order.
    assert_eq!(world.request(message), ["< 500 MESSAGE"]);
    assert_eq!(world.say("hello", 1), ["> MESSAGE"]);
    assert_eq!(world.answer_with("MESSAGE", 200), ["ok 1"]);
    assert_eq!(
        world.request(inside(&accepted, "BYE", 3)),
        ["< 200 BYE", "stanza message chat gone"]
    );
    assert_eq!(world.gateway.status().sessions, 0);
    assert!(world.gateway.tags.is_empty() && world.gateway.outgoing.is_empty());
}

#[test]
fn what_the_user_refuses_is_refused() {
    let mut world = World::new();
    world.request(invitation("call-1"));
    let accepted = world.answered();
    world.request(text(inside(&accepted, "MESSAGE", 2), "qwe"));
    let Some(Effect::Deliver { stanza, .. }) = world.effects.first() else { panic!() };
    let error = format!(
        "<message type='error' from='alice@ours.example' to='bob@partner.example' id='{}'>\
         <error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>\
         </message>",
        stanza.id().unwrap()
    );
    assert_eq!(world.stanza(&error, 5), ["< 604 MESSAGE", "ok 5"]);
}

#[test]
fn idle_sessions_end_with_bye_and_gone() {
    let (mut world, _) = opened();
    world.answer_with("MESSAGE", 200);
    world.answer_with("MESSAGE", 200);
    assert!(world.pass(Duration::from_secs(590)).is_empty());
    let lines = world.pass(Duration::from_secs(20));
    assert_eq!(lines, ["> BYE", "stanza message chat gone"]);
    let (mut world, _) = opened();
    world.answer_with("MESSAGE", 200);
    world.answer_with("MESSAGE", 200);
    let gone = "<message from='alice@ours.example/desk' to='bob@partner.example' type='chat'>\
        <gone xmlns='http://jabber.org/protocol/chatstates'/></message>";
    assert_eq!(world.stanza(gone, 9), ["> BYE", "ok 9"]);
}

fn state(name: &str) -> String {
    format!(
        "<message from='alice@ours.example/desk' to='bob@partner.example' type='chat'>\
         <{name} xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
}

#[test]
fn typing_goes_both_ways_in_both_forms() {
    let (mut world, invite) = opened();
    world.answer_with("MESSAGE", 200);
    world.answer_with("MESSAGE", 200);
    assert_eq!(world.stanza(&state("composing"), 3), ["> INFO", "ok 3"]);
    assert!(String::from_utf8_lossy(&world.sent("INFO").1.body).contains("KeyboardActivity"));
    assert_eq!(world.stanza(&state("composing"), 4), ["ok 4"]);
    assert_eq!(world.stanza(&state("paused"), 5), ["> INFO", "ok 5"]);
    // It does not like it: no more of that.
    assert!(world.answer_with("INFO", 405).is_empty());
    assert_eq!(world.stanza(&state("composing"), 6), ["ok 6"]);

    use gatehouse_sip::composing::{
        Composing, ISCOMPOSING, KEYBOARD, iscomposing, keyboard_activity,
    };
    let mut typing = back(&invite, "INFO", 1);
    typing.set_body(KEYBOARD, keyboard_activity(Composing::Active));
    assert_eq!(world.request(typing), ["< 200 INFO", "stanza message chat composing"]);
    let mut typing = back(&invite, "MESSAGE", 2);
    typing.set_body(ISCOMPOSING, iscomposing(Composing::Idle));
    assert_eq!(world.request(typing), ["< 200 MESSAGE", "stanza message chat active"]);
}

#[test]
fn both_call_at_once_and_nothing_is_lost() {
    let mut world = World::new();
    world.say("one", 1);
    let ours = world.sent("INVITE");
    world.say("two", 2);
    // Theirs is taken, and used at once.
    assert_eq!(world.request(invitation("0-first")), ["< 200 INVITE", "> MESSAGE"]);
    let theirs = world.answered();
    let first = world.sent("MESSAGE");
    assert_eq!(world.answer(&ours, reply(&ours.1, 200)), ["> ACK"]);
    assert_eq!(world.answer(&first, reply(&first.1, 200)), ["ok 1", "> MESSAGE"]);
    // The smaller Call-ID is the one to send in.
    assert_eq!(world.sent("MESSAGE").1.call_id().unwrap(), "0-first");
    // The other one is listened to.
    assert_eq!(
        world.request(text(back(&ours.1, "MESSAGE", 1), "hi")),
        ["deliver message chat body=hi"]
    );
    // They keep the other one: so do we, and the message under way is sent again there.
    assert_eq!(world.request(inside(&theirs, "BYE", 2)), ["< 200 BYE"]);
    assert_eq!(world.answer_with_last("MESSAGE", 481), ["> MESSAGE"]);
}

impl World {
    /// Answers the oldest request without an answer, whatever was done since.
    fn answer_with_last(&mut self, method: &str, code: u16) -> Vec<String> {
        let under_way = self.gateway.outgoing.iter().find_map(|(id, purpose)| {
            matches!(purpose, crate::gateway::Purpose::Message(_)).then_some(*id)
        });
        let mut response = fresh(method, "x");
        response.start =
            gatehouse_sip::Start::Response { status: Status::of(code), reason: String::new() };
        self.gateway.handle_response(under_way.unwrap(), response, self.now);
        self.did()
    }
}

#[test]
fn what_is_not_for_us_is_refused_with_a_reason() {
    let with = |method: &str, change: &dyn Fn(&mut Message)| {
        let mut request = fresh(method, "call-9");
        change(&mut request);
        let mut world = World::new();
        let lines = world.request(request);
        (lines, world)
    };
    let push = |request: &mut Message, name: &str, value: &str| {
        request.headers.push(HeaderName::parse(name).unwrap(), value).unwrap();
    };
    let (lines, world) = with("SUBSCRIBE", &|it| push(it, "Proxy-Require", "ms-benotify"));
    assert_eq!(lines, ["< 420 SUBSCRIBE"]);
    let unsupported = world.answered().headers.get(&HeaderName::Unsupported).unwrap().into_owned();
    assert_eq!(unsupported, "ms-benotify");
    let (lines, _) = with("INVITE", &|it| push(it, "Require", "100rel"));
    assert_eq!(lines, ["< 420 INVITE"]);
    let audio = "v=0\r\no=- 0 0 IN IP4 1.2.3.4\r\ns=x\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    let (lines, world) = with("INVITE", &|it| it.set_body("application/sdp", audio));
    assert_eq!(lines, ["< 488 INVITE"]);
    assert!(world.answered().headers.get(&HeaderName::MsDiagnosticsPublic).is_some());
    let (lines, _) = with("INVITE", &|it| {
        it.set_body("application/sdp", SDP);
        push(it, "EndPoints", "<sip:a@x.example>, <sip:b@x.example>, <sip:c@x.example>");
    });
    assert_eq!(lines[0], "< 488 INVITE");
    assert!(lines[1].starts_with("stanza message normal body=bob@partner.example invited"));
    let (lines, _) = with("MESSAGE", &|it| it.set_body("text/rtf", "{\\rtf1}"));
    assert_eq!(lines, ["< 415 MESSAGE"]);
    let (lines, _) = with("BENOTIFY", &|_| {});
    assert_eq!(lines, ["ignore"]);
    for (method, want) in [
        ("NOTIFY", "481"),
        ("BYE", "481"),
        ("REFER", "405"),
        ("OPTIONS", "200"),
        ("PUBLISH", "405"),
    ] {
        let (lines, _) = with(method, &|_| {});
        assert_eq!(lines, [format!("< {want} {method}")]);
    }
    let (lines, _) = with("MESSAGE", &|it| {
        it.headers.set(HeaderName::To, "<sips:alice@ours.example>").unwrap();
    });
    assert_eq!(lines, ["< 416 MESSAGE"]);
    let (lines, _) = with("MESSAGE", &|it| {
        it.headers.set(HeaderName::To, "<sip:alice@ours.example>;tag=guess").unwrap();
    });
    assert_eq!(lines, ["< 481 MESSAGE"]);
}

#[test]
fn standard_partners_get_pager_messages_of_a_bounded_size() {
    let mut world = World::with(|config| {
        let partner = "partner.example".parse().unwrap();
        config.profiles.insert(partner, Profile::Standard);
    });
    assert_eq!(world.say("one", 1), ["> MESSAGE"]);
    let (_, message) = world.sent("MESSAGE");
    assert!(message.contacts().unwrap().is_empty(), "RFC 3428 section 4");
    assert_eq!(message.from().unwrap().uri.to_string(), "sip:alice@ours.example;gr=desk");
    let lines = world.answer_with("MESSAGE", 200);
    assert_eq!(lines, ["ok 1"]);
    let lines = world.say(&"x".repeat(1300), 2);
    assert!(lines[0].starts_with("stanza message error policy-violation"), "{lines:?}");
    assert_eq!(lines[1], "bounced 2");
    // It wants sessions: so be it.
    world.say("three", 3);
    assert_eq!(world.answer_with("MESSAGE", 405), ["> INVITE"]);
    let mut request = fresh("MESSAGE", "pager-1");
    request.set_body("text/plain", "hi");
    assert_eq!(world.request(request), ["deliver message normal body=hi"]);
}

#[test]
fn a_partner_without_sessions_still_gets_messages() {
    let mut world = World::new();
    world.say("one", 1);
    assert_eq!(world.answer_with("INVITE", 488), ["> MESSAGE"]);
    assert_eq!(world.answer_with("MESSAGE", 200), ["ok 1"]);
}

#[test]
fn sessions_and_queues_are_bounded() {
    let mut world = World::with(|config| {
        config.limits.queue_len_max = 2;
        config.limits.sessions_per_user_max = 1;
    });
    world.say("1", 1);
    world.say("2", 2);
    let lines = world.say("3", 3);
    assert!(lines[0].contains("resource-constraint") && lines[1] == "bounced 3", "{lines:?}");
    let other = "<message from='alice@ours.example/desk' to='carol@partner.example'><body>x</body></message>";
    let lines = world.stanza(other, 4);
    assert!(lines[0].contains("resource-constraint") && lines[1] == "bounced 4", "{lines:?}");
    world.gateway.handle_shutdown(world.now);
    let lines = world.did();
    assert_eq!(lines.iter().filter(|line| line.starts_with("keep")).count(), 2, "{lines:?}");
}

/// What we sent comes back through somebody who put another sender in: it ends there.
#[test]
fn what_began_here_is_not_taken_from_outside() {
    let round = |request: &Message, call_id: &str| {
        let mut back = fresh(request.method().unwrap().as_str(), call_id);
        for name in [HeaderName::Event, HeaderName::Expires] {
            if let Some(value) = request.headers.get(&name) {
                back.headers.push(name, value.into_owned()).unwrap();
            }
        }
        match request.method() {
            Some(Method::Invite) => back.set_body("application/sdp", SDP),
            Some(Method::Message) => back.set_body("text/plain", "hi"),
            _ => {}
        }
        back
    };
    let subscribe =
        "<presence from='alice@ours.example' to='bob@partner.example' type='subscribe'/>";
    for (method, profile) in
        [("INVITE", Profile::Lync), ("MESSAGE", Profile::Standard), ("SUBSCRIBE", Profile::Lync)]
    {
        let mut world = World::with(|config| config.default_profile = profile);
        match method {
            "SUBSCRIBE" => world.stanza(subscribe, 1),
            _ => world.say("hi", 1),
        };
        let sent = world.sent(method).1;
        let back = round(&sent, &sent.call_id().unwrap());
        assert_eq!(world.request(back), [format!("< 482 {method}")]);
        let other = round(&sent, &"0".repeat(48));
        assert_ne!(world.request(other)[0], format!("< 482 {method}"));
    }
}
