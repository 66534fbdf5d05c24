//! Presence, as it goes over the wire.

use super::*;
use crate::Record;

fn notify(subscribe: &Message, number: u32, state: &str, activity: Option<&str>) -> Message {
    let mut notify = back(subscribe, "NOTIFY", number);
    notify.headers.push(HeaderName::Event, "presence").unwrap();
    notify.headers.push(HeaderName::SubscriptionState, state).unwrap();
    if let Some(activity) = activity {
        let body = format!(
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' \
             xmlns:ep='urn:ietf:params:xml:ns:pidf:status:rpid-status' \
             entity='sip:bob@partner.example'><tuple id='0'><status><basic>open</basic>\
             <ep:activities><ep:activity>{activity}</ep:activity></ep:activities></status>\
             </tuple></presence>"
        );
        notify.set_body("application/pidf+xml", body);
    }
    notify
}

fn presence(type_: &str) -> String {
    format!("<presence from='alice@ours.example' to='bob@partner.example' type='{type_}'/>")
}

fn watching() -> (World, Message) {
    let mut world = World::new();
    assert_eq!(world.stanza(&presence("subscribe"), 1), ["store", "> SUBSCRIBE", "ok 1"]);
    let subscribe = world.sent("SUBSCRIBE");
    // The NOTIFY overtakes the answer; pending is nobody's business.
    let pending = notify(&subscribe.1, 1, "pending;expires=3600", None);
    assert_eq!(world.request(pending), ["< 200 NOTIFY"]);
    let mut ok = reply(&subscribe.1, 200);
    ok.headers.push(HeaderName::Expires, "3600").unwrap();
    assert_eq!(world.answer(&subscribe, ok), ["store"]);
    (world, subscribe.1)
}

fn granted() -> (World, Message) {
    let (mut world, subscribe) = watching();
    let active = notify(&subscribe, 2, "active;expires=3600", Some("busy"));
    assert_eq!(
        world.request(active),
        ["< 200 NOTIFY", "stanza presence subscribed", "store", "stanza presence show=dnd"]
    );
    (world, subscribe)
}

#[test]
fn a_user_watches_a_contact() {
    let (mut world, subscribe) = granted();
    let away = notify(&subscribe, 3, "active", Some("away"));
    assert_eq!(world.request(away), ["< 200 NOTIFY", "stanza presence show=away"]);
    // Without a body nothing changed; out of order is refused; another dialog is not ours.
    assert_eq!(world.request(notify(&subscribe, 4, "active", None)), ["< 200 NOTIFY"]);
    assert_eq!(world.request(notify(&subscribe, 4, "active", None)), ["< 500 NOTIFY"]);
    let mut forged = notify(&subscribe, 5, "active", Some("away"));
    forged.headers.set(HeaderName::CallId, "guess").unwrap();
    assert_eq!(world.request(forged), ["< 481 NOTIFY"]);
    // A probe is answered from what is known.
    assert_eq!(world.stanza(&presence("probe"), 2), ["stanza presence show=away", "ok 2"]);
}

#[test]
fn subscriptions_are_refreshed_in_their_dialog() {
    let (mut world, subscribe) = granted();
    let lines = world.pass(Duration::from_secs(3600));
    assert_eq!(lines.first().map(String::as_str), Some("> SUBSCRIBE"));
    let (_, again) = world
        .effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Request { id, request } => Some((*id, request.clone())),
            _ => None,
        })
        .unwrap();
    assert_eq!(again.call_id().unwrap(), subscribe.call_id().unwrap());
    assert_eq!(again.cseq().unwrap().number, 2);
}

#[test]
fn unsubscribing_ends_the_subscription() {
    let (mut world, subscribe) = granted();
    let lines = world.stanza(&presence("unsubscribe"), 2);
    assert_eq!(lines, ["stanza presence unavailable", "forget", "> SUBSCRIBE", "ok 2"]);
    assert_eq!(world.sent("SUBSCRIBE").1.expires().unwrap(), Some(0));
    assert_eq!(world.answer_with("SUBSCRIBE", 200), ["stanza presence unsubscribed"]);
    let last = notify(&subscribe, 3, "terminated;reason=timeout", Some("away"));
    assert_eq!(world.request(last), ["< 200 NOTIFY"]);
    assert_eq!(world.gateway.status().watching, 0);
    assert!(world.gateway.tags.is_empty() && world.gateway.outgoing.is_empty());
}

#[test]
fn some_refusals_are_for_good_and_others_are_tried_again() {
    for code in [403, 489, 603] {
        let mut world = World::new();
        world.stanza(&presence("subscribe"), 1);
        assert_eq!(
            world.answer_with("SUBSCRIBE", code),
            ["stanza presence unsubscribed", "forget"],
            "{code}"
        );
    }
    for code in [481, 408, 480, 500, 503, 504] {
        let mut world = World::new();
        world.stanza(&presence("subscribe"), 1);
        assert!(world.answer_with("SUBSCRIBE", code).is_empty(), "{code}");
        assert_eq!(world.pass(Duration::from_secs(40)), ["> SUBSCRIBE"], "{code}");
    }
    let mut world = World::new();
    world.stanza(&presence("subscribe"), 1);
    let lines = world.answer_with("SUBSCRIBE", 404);
    assert!(lines[0].starts_with("stanza presence error item-not-found"), "{lines:?}");
    // Too brief for them.
    let mut world = World::new();
    world.stanza(&presence("subscribe"), 1);
    let first = world.sent("SUBSCRIBE");
    let mut brief = reply(&first.1, 423);
    brief.headers.push(HeaderName::MinExpires, "7200").unwrap();
    assert_eq!(world.answer(&first, brief), ["> SUBSCRIBE"]);
    assert_eq!(world.sent("SUBSCRIBE").1.expires().unwrap(), Some(7200));
    // A refresh into a dialog that is gone makes a new one at once.
    let (mut world, old) = granted();
    world.pass(Duration::from_secs(3241));
    assert_eq!(world.answer_with("SUBSCRIBE", 481), ["> SUBSCRIBE"]);
    assert_ne!(world.sent("SUBSCRIBE").1.call_id().unwrap(), old.call_id().unwrap());
}

#[test]
fn rejection_by_notify_is_told() {
    let (mut world, subscribe) = granted();
    let rejected = notify(&subscribe, 3, "terminated;reason=rejected", None);
    assert_eq!(
        world.request(rejected),
        ["< 200 NOTIFY", "stanza presence unavailable", "stanza presence unsubscribed", "forget"]
    );
}

#[test]
fn a_probe_without_subscription_is_one_look() {
    let mut world = World::new();
    assert_eq!(world.stanza(&presence("probe"), 1), ["> SUBSCRIBE", "ok 1"]);
    let (_, look) = world.sent("SUBSCRIBE");
    assert_eq!(look.expires().unwrap(), Some(0));
    world.answer_with("SUBSCRIBE", 200);
    let last = notify(&look, 1, "terminated;reason=timeout", Some("busy"));
    assert_eq!(world.request(last), ["< 200 NOTIFY", "stanza presence show=dnd"]);
    assert!(world.gateway.tags.is_empty() && world.gateway.poll_timeout().is_none());
}

fn subscribe(expires: &str) -> Message {
    let mut request = fresh("SUBSCRIBE", "watch-1");
    for (name, value) in [
        (HeaderName::Event, "presence"),
        (HeaderName::Expires, expires),
        (HeaderName::Accept, "application/msrtc-event-categories+xml, application/pidf+xml"),
    ] {
        request.headers.push(name, value).unwrap();
    }
    request
}

fn state_of(world: &World) -> (String, String) {
    let (_, notify) = world.sent("NOTIFY");
    let state = notify.headers.get(&HeaderName::SubscriptionState).unwrap().into_owned();
    (state.split(';').next().unwrap().to_owned(), String::from_utf8(notify.body.to_vec()).unwrap())
}

/// Bob watches Alice, and waits for her word.
fn watched() -> (World, Message) {
    let mut world = World::new();
    assert_eq!(
        world.request(subscribe("7200")),
        ["< 200 SUBSCRIBE", "stanza presence subscribe", "store", "> NOTIFY"]
    );
    let ok = world.answered();
    assert_eq!(ok.expires().unwrap(), Some(7200));
    assert_eq!(state_of(&world), ("pending".to_owned(), String::new()));
    world.answer_with("NOTIFY", 200);
    (world, ok)
}

fn here(show: &str) -> String {
    format!(
        "<presence from='alice@ours.example/desk' to='bob@partner.example'><show>{show}</show>\
         </presence>"
    )
}

#[test]
fn a_contact_watches_a_user() {
    let (mut world, ok) = watched();
    assert_eq!(world.stanza(&presence("subscribed"), 1), ["store", "ok 1"]);
    assert_eq!(world.stanza(&here("dnd"), 2), ["ok 2"]);
    assert_eq!(world.pass(Duration::from_secs(1)), ["> NOTIFY"]);
    let (state, body) = state_of(&world);
    assert!(state == "active" && body.contains("open") && body.contains("busy"), "{body}");
    assert!(!body.contains("inside"));
    // One at a time: what changes meanwhile goes out after the answer.
    world.stanza(&here("away"), 3);
    assert!(world.pass(Duration::from_secs(1)).is_empty());
    // The NOTIFY before this one.
    let under_way = world.gateway.outgoing.keys().next().copied().unwrap();
    let mut fine = fresh("NOTIFY", "x");
    fine.start = gatehouse_sip::Start::Response { status: Status::of(200), reason: String::new() };
    world.gateway.handle_response(under_way, fine, world.now);
    assert_eq!(world.did(), ["> NOTIFY"]);
    assert!(state_of(&world).1.contains("away"));
    world.answer_with("NOTIFY", 200);
    // Lync refreshes after an hour and three quarters; the user's server is asked first.
    assert!(world.pass(Duration::from_secs(105 * 60)).is_empty());
    let mut refresh = inside(&ok, "SUBSCRIBE", 2);
    refresh.headers.push(HeaderName::Event, "presence").unwrap();
    refresh.headers.push(HeaderName::Expires, "7200").unwrap();
    assert_eq!(
        world.request(refresh),
        ["< 200 SUBSCRIBE", "stanza presence probe", "store", "> NOTIFY"]
    );
    world.answer_with("NOTIFY", 200);
    // The end.
    let mut end = inside(&ok, "SUBSCRIBE", 3);
    end.headers.push(HeaderName::Event, "presence").unwrap();
    end.headers.push(HeaderName::Expires, "0").unwrap();
    assert_eq!(
        world.request(end),
        ["< 200 SUBSCRIBE", "> NOTIFY", "forget", "stanza presence unavailable"]
    );
    let (state, body) = state_of(&world);
    assert!(state == "terminated" && body.contains("closed"), "{state} {body}");
    assert_eq!(world.gateway.status().watched, 0);
    assert!(world.gateway.tags.is_empty());
}

#[test]
fn a_denial_is_polite() {
    let (mut world, _) = watched();
    world.stanza(&presence("unsubscribed"), 1);
    assert_eq!(world.pass(Duration::from_secs(1)), ["> NOTIFY"]);
    let (state, body) = state_of(&world);
    assert!(state == "active" && body.contains("closed") && !body.contains("open"), "{body}");
    // And stays so, whatever the user's devices say.
    world.stanza(&here(""), 2);
    assert!(world.pass(Duration::from_secs(5)).is_empty());
}

#[test]
fn nothing_is_shown_before_the_user_decided() {
    let (mut world, _) = watched();
    world.stanza(&here("dnd"), 1);
    assert_eq!(world.pass(Duration::from_secs(1)), ["> NOTIFY"]);
    assert_eq!(state_of(&world), ("pending".to_owned(), String::new()));
}

#[test]
fn what_nobody_renews_runs_out() {
    let (mut world, _) = watched();
    let lines = world.pass(Duration::from_secs(7201));
    assert_eq!(lines, ["> NOTIFY", "forget", "stanza presence unavailable"]);
    assert_eq!(state_of(&world).0, "terminated");
}

#[test]
fn a_watcher_that_is_gone_is_forgotten_and_one_out_of_reach_is_not() {
    let (mut world, _) = watched();
    world.stanza(&presence("subscribed"), 1);
    world.pass(Duration::from_secs(1));
    assert!(world.answer_with("NOTIFY", 503).is_empty());
    assert_eq!(world.pass(Duration::from_secs(40)), ["> NOTIFY"]);
    assert_eq!(world.answer_with("NOTIFY", 481), ["forget", "stanza presence unavailable"]);
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let mut world = World::new();
    let mut roaming = fresh("SUBSCRIBE", "w");
    roaming.headers.push(HeaderName::Event, "vnd-microsoft-roaming-self").unwrap();
    assert_eq!(world.request(roaming), ["< 489 SUBSCRIBE"]);
    assert_eq!(world.request(subscribe("30")), ["< 423 SUBSCRIBE"]);
    let mut xpidf = subscribe("3600");
    xpidf.headers.set(HeaderName::Accept, "application/xpidf+xml").unwrap();
    assert_eq!(world.request(xpidf), ["< 406 SUBSCRIBE"]);
    let mut world = World::with(|config| config.limits.subscriptions_max = 4);
    world.request(subscribe("3600"));
    assert_eq!(world.request(subscribe("3600")), ["< 480 SUBSCRIBE"]);
    let lines = world.stanza(&presence("subscribe"), 3);
    assert!(lines[0].contains("resource-constraint") && lines[1] == "bounced 3", "{lines:?}");
}

fn stored(world: &World) -> Option<(Record, Duration)> {
    world.effects.iter().rev().find_map(|effect| match effect {
        Effect::Store { record, lasts } => Some((record.clone(), *lasts)),
        _ => None,
    })
}

#[test]
fn after_a_restart_presence_is_right_within_a_minute() {
    let (mut before, ok) = watched();
    before.stanza(&presence("subscribed"), 1);
    let (watcher, lasts) = stored(&before).unwrap();
    let (mut before, asked) = watching();
    let active = notify(&asked, 2, "active;expires=3600", Some("busy"));
    before.request(active);
    let (watch, _) = stored(&before).unwrap();

    let mut world = World::new();
    world.gateway.revive(&watcher, lasts, world.now).unwrap();
    world.gateway.revive(&watch, Duration::from_secs(3000), world.now).unwrap();
    let lines = world.pass(Duration::from_secs(60));
    let mut sorted = lines.clone();
    sorted.sort();
    assert_eq!(sorted, ["> NOTIFY", "> SUBSCRIBE", "stanza presence probe"], "{lines:?}");
    // In the dialogs of before, with numbers that were not used yet.
    let (_, refresh) = world.sent("SUBSCRIBE");
    assert_eq!(refresh.call_id().unwrap(), asked.call_id().unwrap());
    assert!(refresh.cseq().unwrap().number > 1000);
    let (_, news) = world.sent("NOTIFY");
    assert_eq!(news.call_id().unwrap(), ok.call_id().unwrap());
    assert_eq!(state_of(&world).0, "active");

    // What is over is forgotten, or begun anew; what is broken is said to be.
    let mut world = World::new();
    world.gateway.revive(&watcher, Duration::ZERO, world.now).unwrap();
    assert_eq!(world.did(), ["forget"]);
    world.gateway.revive(&watch, Duration::ZERO, world.now).unwrap();
    assert_eq!(world.pass(Duration::from_secs(46)), ["> SUBSCRIBE"]);
    assert_ne!(world.sent("SUBSCRIBE").1.call_id().unwrap(), asked.call_id().unwrap());
    let broken = Record { value: watch.value.slice(..9), ..watch };
    assert!(world.gateway.revive(&broken, Duration::ZERO, world.now).is_err());
}

#[test]
fn after_a_restart_one_question_is_asked_for_all_devices_of_a_contact() {
    let (mut before, _) = watched();
    before.stanza(&presence("subscribed"), 1);
    let (first, lasts) = stored(&before).unwrap();
    let mut other = subscribe("7200");
    other.headers.set(HeaderName::CallId, "watch-2").unwrap();
    before.request(other);
    let (second, _) = stored(&before).unwrap();

    let mut world = World::new();
    world.gateway.revive(&first, lasts, world.now).unwrap();
    world.gateway.revive(&second, lasts, world.now).unwrap();
    let mut lines = world.pass(Duration::from_secs(60));
    lines.sort();
    assert_eq!(lines, ["> NOTIFY", "> NOTIFY", "stanza presence probe"]);
}

#[test]
fn a_look_asks_the_users_server_and_nobody_else() {
    for (answer, word) in [(here("dnd"), "busy"), (presence("unsubscribed"), "closed")] {
        let mut world = World::new();
        assert_eq!(world.request(subscribe("0")), ["< 200 SUBSCRIBE", "stanza presence probe"]);
        world.stanza(&answer, 1);
        let lines = world.pass(Duration::from_secs(3));
        let last = lines.iter().rposition(|line| line == "> NOTIFY").unwrap();
        assert!(lines.len() - last <= 3, "{lines:?}");
        let (state, body) = state_of(&world);
        assert!(state == "terminated" && body.contains(word), "{state} {body}");
        assert_eq!(world.gateway.status().watched, 0);
    }
}

/// The default bound, 20,000, was measured at 109 MB with this test (debug build).
#[test]
fn a_thousand_watchers_fit_and_one_more_does_not() {
    let mut world = World::with(|config| {
        config.limits.subscriptions_max = 1_000;
        config.limits.partner_share_percent = 100;
        config.named.insert("partner.example".parse().unwrap());
        config.limits.subscriptions_per_user_max = 30_000;
    });
    for number in 0..=1_000 {
        let mut request = subscribe("7200");
        let from = format!("<sip:user{number}@partner.example>;tag=t{number}");
        request.headers.set(HeaderName::From, from).unwrap();
        request.headers.set(HeaderName::CallId, format!("call-{number}")).unwrap();
        let lines = world.request(request);
        let want = if number < 1_000 { "< 200 SUBSCRIBE" } else { "< 480 SUBSCRIBE" };
        assert_eq!(lines[0], want);
    }
    assert_eq!(world.gateway.status().watched, 1_000);
}

#[test]
fn a_partner_that_ends_what_it_grants_does_not_keep_us_busy() {
    let (mut world, mut subscribe) = granted();
    let mut rounds = 0;
    loop {
        let over = notify(&subscribe, 9, "terminated;reason=timeout", None);
        if !world.request(over).contains(&"> SUBSCRIBE".to_owned()) {
            break;
        }
        rounds += 1;
        assert!(rounds < 5, "it asks again without end");
        subscribe = world.sent("SUBSCRIBE").1;
        world.answer_with("SUBSCRIBE", 200);
    }
    assert_eq!(rounds, 1, "once at once, then later");
    assert!(world.pass(Duration::from_secs(60)).contains(&"> SUBSCRIBE".to_owned()));
}

/// How many SUBSCRIBEs a partner gets in an hour that answers each with this.
fn asked_in_an_hour(expires: u32, notifies: impl Fn(&Message) -> Vec<Message>) -> usize {
    let mut world = World::new();
    let (mut lines, mut count) = (world.stanza(&presence("subscribe"), 1), 0);
    for _ in 0..3600 {
        while lines.contains(&"> SUBSCRIBE".to_owned()) {
            count += 1;
            let (id, subscribe) = world.sent("SUBSCRIBE");
            let mut answer = reply(&subscribe, 200);
            answer.headers.push(HeaderName::Expires, expires.to_string()).unwrap();
            lines = world.answer(&(id, Message::clone(&subscribe)), answer);
            for notify in notifies(&subscribe) {
                lines.extend(world.request(notify));
            }
        }
        lines = world.pass(Duration::from_secs(1));
    }
    count
}

#[test]
fn a_partner_that_grants_next_to_nothing_does_not_keep_us_busy() {
    let active = |subscribe: &Message| {
        let number = subscribe.cseq().unwrap().number;
        vec![notify(subscribe, number, "active;expires=1", None)]
    };
    let count = asked_in_an_hour(1, active);
    assert!((60..=73).contains(&count), "{count}: once in 50 s");
    // A minute is renewed before it is over.
    let quiet = |subscribe: &Message| match subscribe.cseq().unwrap().number {
        1 => vec![notify(subscribe, 1, "active", None)],
        _ => Vec::new(),
    };
    let count = asked_in_an_hour(60, quiet);
    assert!((65..=67).contains(&count), "{count}: every 54 s");
    // Ended as soon as it is granted: rarer and rarer.
    let over = |subscribe: &Message| {
        vec![
            notify(subscribe, 1, "active", None),
            notify(subscribe, 2, "terminated;reason=timeout", None),
        ]
    };
    let count = asked_in_an_hour(1, over);
    assert!((4..20).contains(&count), "{count}");
}

#[test]
fn the_operator_hears_who_grants_next_to_nothing() {
    let mut world = World::new();
    world.stanza(&presence("subscribe"), 1);
    let (id, subscribe) = world.sent("SUBSCRIBE");
    let mut answer = reply(&subscribe, 200);
    answer.headers.push(HeaderName::Expires, "1").unwrap();
    world.answer(&(id, subscribe.clone()), answer);
    let lines = world.request(notify(&subscribe, 1, "active;expires=1", None));
    assert!(lines.contains(&"partner.example grants 1 s".to_owned()), "{lines:?}");
}

#[test]
fn a_block_stops_watchers_and_rests_wishes() {
    let (mut world, _) = watched();
    world.stanza(&presence("subscribed"), 1);
    world.stanza(&here(""), 2);
    world.gateway.enforce(|_, _| true, world.now);
    assert!(world.did().is_empty(), "what is allowed goes on");
    // The change is due, and does not leave.
    world.gateway.enforce(|_, _| false, world.now);
    assert_eq!(world.did(), ["forget", "stanza presence unavailable"]);
    assert!(world.pass(Duration::from_secs(10_000)).is_empty());
    assert!(world.gateway.tags.is_empty() && world.gateway.status().watched == 0);

    let (mut world, subscribe) = granted();
    world.gateway.enforce(|_, _| false, world.now);
    assert_eq!(world.did(), ["stanza presence unavailable"]);
    assert_eq!(world.request(notify(&subscribe, 3, "active", Some("away"))), ["< 481 NOTIFY"]);
    assert!(world.pass(Duration::from_secs(10_000)).is_empty(), "nothing is asked");
    world.gateway.enforce(|_, _| true, world.now);
    assert_eq!(world.pass(Duration::from_secs(45)), ["> SUBSCRIBE"]);
}

#[test]
fn a_block_ends_conversations() {
    let mut world = World::new();
    world.say("one", 1);
    world.gateway.enforce(|_, _| false, world.now);
    let lines = world.did();
    assert!(lines[0].contains("policy-violation") && lines[1] == "bounced 1", "{lines:?}");
    assert_eq!(world.gateway.status().sessions, 0);
}

#[test]
fn who_guessed_a_tag_speaks_for_no_other_domain() {
    let (mut world, subscribe) = granted();
    let mut forged = notify(&subscribe, 3, "active", Some("away"));
    forged.headers.set(HeaderName::From, "<sip:bob@evil.example>;tag=partner").unwrap();
    assert_eq!(world.request(forged), ["< 481 NOTIFY"]);
    assert_eq!(
        world.request(notify(&subscribe, 3, "active", Some("away"))),
        ["< 200 NOTIFY", "stanza presence show=away"]
    );
}
