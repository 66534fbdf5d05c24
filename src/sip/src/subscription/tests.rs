use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::{HeaderName, Message, NameAddr, Seed, Status, Uri};

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    Instant::now()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn watch() -> Watch {
    Watch {
        local: NameAddr::parse("<sip:alice@ours.test>").unwrap(),
        remote: NameAddr::parse("<sip:bob@partner.test>").unwrap(),
        target: Uri::parse("sip:bob@partner.test").unwrap(),
        contact: NameAddr::parse("<sip:token@sip.ours.test:5061;transport=tls>").unwrap(),
        package: "presence".into(),
        accept: vec!["application/pidf+xml".into()],
        expires: 3600,
    }
}

fn terms() -> NotifierTerms {
    NotifierTerms {
        package: "presence".into(),
        types: vec!["application/pidf+xml".into()],
        expires_default: 3600,
        expires_min: 60,
        expires_max: 7200,
    }
}

fn contact() -> NameAddr {
    NameAddr::parse("<sip:bob@sip.partner.test>").unwrap()
}

/// With the Via that the owner puts on.
fn sent(message: Option<Message>) -> Message {
    let mut message = message.expect("a request to send");
    message.headers.push_first(HeaderName::Via, "SIP/2.0/TLS h;branch=z9hG4bK1").unwrap();
    message
}

/// Two ends that talk to each other.
struct World {
    now: Instant,
    subscriber: Subscriber,
    notifier: Notifier,
}

impl World {
    fn new(state: Watched) -> Self {
        let now = start();
        let mut subscriber = Subscriber::new(watch(), Seed::new([1; 32]), now);
        let subscribe = sent(subscriber.poll_transmit());
        let (notifier, ok) =
            Notifier::accept(&subscribe, terms(), contact(), "tag", state, now).unwrap();
        subscriber.receive_response(&ok, now);
        Self { now, subscriber, notifier }
    }

    /// Carries everything over, until nothing is left.
    fn settle(&mut self) {
        loop {
            if let Some(notify) = self.notifier.poll_transmit() {
                let answer = self.subscriber.receive_notify(&sent(Some(notify)), self.now);
                self.notifier.receive_response(&answer, self.now);
            } else if let Some(subscribe) = self.subscriber.poll_transmit() {
                let answer = self.notifier.receive_subscribe(&sent(Some(subscribe)), self.now);
                self.subscriber.receive_response(&answer, self.now);
            } else {
                return;
            }
        }
    }

    fn events(&mut self) -> Vec<SubscriberEvent> {
        std::iter::from_fn(|| self.subscriber.poll_event())
            .filter(|event| *event != SubscriberEvent::Changed)
            .collect()
    }

    fn told(&mut self) -> Vec<NotifierEvent> {
        std::iter::from_fn(|| self.notifier.poll_event())
            .filter(|event| *event != NotifierEvent::Changed)
            .collect()
    }
}

fn changed(state: WatchState) -> SubscriberEvent {
    SubscriberEvent::StateChanged(state)
}

#[test]
fn the_first_request_says_all() {
    let mut subscriber = Subscriber::new(watch(), Seed::new([1; 32]), start());
    let subscribe = subscriber.poll_transmit().unwrap();
    let text = String::from_utf8_lossy(&subscribe.to_bytes()).replace("\r\n", "\n");
    let text = text.replace(subscriber.call_id(), "CALL").replace(subscriber.local_tag(), "TAG");
    insta::assert_snapshot!(text, @r"
    SUBSCRIBE sip:bob@partner.test SIP/2.0
    Max-Forwards: 70
    From: <sip:alice@ours.test>;tag=TAG
    To: <sip:bob@partner.test>
    Call-ID: CALL
    CSeq: 1 SUBSCRIBE
    Contact: <sip:token@sip.ours.test:5061;transport=tls>
    Event: presence
    Expires: 3600
    Accept: application/pidf+xml
    Content-Length: 0
    ");
}

#[test]
fn pending_then_active_then_refreshed_then_left() {
    let mut world = World::new(Watched::Pending);
    world.notifier.publish("application/pidf+xml", Bytes::from_static(b"<secret/>"), world.now);
    world.settle();
    assert_eq!(world.events(), [changed(WatchState::Pending)], "no body while pending");

    world.notifier.activate(world.now);
    world.settle();
    let events = world.events();
    assert_eq!(events[0], changed(WatchState::Active));
    assert!(matches!(&events[1], SubscriberEvent::Body { body, .. } if &body[..] == b"<secret/>"));

    let due = world.subscriber.poll_timeout().unwrap();
    let wait = due.duration_since(world.now);
    assert!(wait >= seconds(2880) && wait <= seconds(3240), "{wait:?}");
    world.now = due;
    world.subscriber.handle_timeout(due);
    world.settle();
    assert_eq!(world.told(), [NotifierEvent::Refreshed]);
    assert_eq!(world.events().len(), 1, "the body again");
    assert_eq!(world.notifier.expires_at(), due + seconds(3600));

    world.subscriber.unsubscribe(world.now);
    world.settle();
    assert_eq!(world.told(), [NotifierEvent::Unsubscribed]);
    assert_eq!(*world.subscriber.state(), WatchState::Ended(Cause::Done));
    assert!(world.subscriber.is_over() && world.notifier.is_over());
}

#[test]
fn a_notify_may_come_before_the_answer() {
    let now = start();
    let mut subscriber = Subscriber::new(watch(), Seed::new([1; 32]), now);
    let subscribe = sent(subscriber.poll_transmit());
    let (mut notifier, ok) =
        Notifier::accept(&subscribe, terms(), contact(), "tag", Watched::Active, now).unwrap();
    let answer = subscriber.receive_notify(&sent(notifier.poll_transmit()), now);
    assert_eq!(answer.status(), Some(Status::of(200)));
    assert_eq!(*subscriber.state(), WatchState::Active);
    subscriber.receive_response(&ok, now);
    assert_eq!(subscriber.expires_at(), Some(now + seconds(3600)));
    assert_eq!(subscriber.dialog().unwrap().id.remote_tag, "tag");
}

#[test]
fn silence_after_the_answer_is_noticed() {
    let mut world = World::new(Watched::Active);
    let at = world.subscriber.poll_timeout().unwrap();
    assert_eq!(at, world.now + seconds(32), "timer N");
    world.subscriber.handle_timeout(at);
    let WatchState::Waiting { until, cause } = world.subscriber.state().clone() else { panic!() };
    assert_eq!(cause, Cause::Silent);
    assert!(until >= at + seconds(30) && until <= at + seconds(36));
    let old = world.subscriber.call_id().to_owned();
    world.subscriber.handle_timeout(until);
    assert!(world.subscriber.poll_transmit().is_some());
    assert_ne!(world.subscriber.call_id(), old, "a new dialog");
}

#[test]
fn every_refusal_of_the_first_request() {
    let mut table = String::new();
    for (code, header) in [
        (403, None),
        (404, None),
        (408, None),
        (423, Some((HeaderName::MinExpires, "7200"))),
        (423, None),
        (480, None),
        (481, None),
        (489, None),
        (503, Some((HeaderName::RetryAfter, "120 (later)"))),
        (603, None),
    ] {
        let now = start();
        let mut subscriber = Subscriber::new(watch(), Seed::new([1; 32]), now);
        let subscribe = sent(subscriber.poll_transmit());
        let mut refusal = Message::response_to(&subscribe, Status::of(code), Some("t"));
        if let Some((name, value)) = header {
            refusal.headers.push(name, value).unwrap();
        }
        subscriber.receive_response(&refusal, now);
        let next = match (&subscriber.state().clone(), subscriber.poll_transmit()) {
            (_, Some(again)) => format!("asks for {}", again.expires().unwrap().unwrap()),
            (WatchState::Waiting { until, .. }, _) => {
                let wait = until.duration_since(now).as_secs();
                if wait < 60 { "waits".to_owned() } else { "waits longer".to_owned() }
            }
            (WatchState::Ended(_), _) => "ends".to_owned(),
            (other, _) => format!("{other:?}"),
        };
        table += &format!("{code}: {next}\n");
    }
    assert_eq!(
        table,
        "403: ends\n404: ends\n408: waits\n423: asks for 7200\n423: waits\n480: waits\n481: waits\n\
         489: ends\n503: waits longer\n603: ends\n"
    );
}

#[test]
fn every_reason_of_an_end() {
    let mut table = String::new();
    for (reason, retry_after) in [
        ("rejected", None),
        ("noresource", None),
        ("invariant", None),
        ("deactivated", None),
        ("timeout", None),
        ("probation", Some(100)),
        ("giveup", None),
        ("strange", None),
    ] {
        let mut world = World::new(Watched::Active);
        world.notifier.terminate(reason, retry_after, world.now);
        world.settle();
        let next = match world.subscriber.state() {
            WatchState::Waiting { until, .. } => match until.duration_since(world.now).as_secs() {
                0..5 => "at once",
                30..37 => "later",
                100..121 => "when told",
                _ => "?",
            },
            WatchState::Ended(Cause::Terminated(_)) => "never",
            _ => "?",
        };
        assert!(world.notifier.is_over());
        table += &format!("{reason}: {next}\n");
    }
    assert_eq!(
        table,
        "rejected: never\nnoresource: never\ninvariant: never\ndeactivated: at once\n\
         timeout: at once\nprobation: when told\ngiveup: later\nstrange: later\n"
    );
}

#[test]
fn a_fetch_brings_one_state_and_ends() {
    let now = start();
    let fetch = Watch { expires: 0, ..watch() };
    let mut subscriber = Subscriber::new(fetch, Seed::new([1; 32]), now);
    let subscribe = sent(subscriber.poll_transmit());
    let (mut notifier, ok) =
        Notifier::accept(&subscribe, terms(), contact(), "tag", Watched::Active, now).unwrap();
    subscriber.receive_response(&ok, now);
    notifier.publish("application/pidf+xml", Bytes::from_static(b"<p/>"), now);
    let notify = sent(notifier.poll_transmit());
    notifier.receive_response(&subscriber.receive_notify(&notify, now), now);
    let events: Vec<_> = std::iter::from_fn(|| subscriber.poll_event()).collect();
    assert!(events.iter().any(|event| matches!(event, SubscriberEvent::Body { .. })));
    assert!(subscriber.is_over() && notifier.is_over());
}

#[test]
fn notifies_that_do_not_fit_are_refused() {
    let mut world = World::new(Watched::Active);
    world.notifier.publish("application/pidf+xml", Bytes::from_static(b"<p/>"), world.now);
    let good = sent(world.notifier.poll_transmit());
    let mut code = |change: &dyn Fn(&mut Message)| {
        let mut notify = good.clone();
        change(&mut notify);
        world.subscriber.receive_notify(&notify, world.now).status().unwrap().code()
    };
    assert_eq!(code(&|notify| notify.headers.set(HeaderName::CallId, "x").unwrap()), 481);
    assert_eq!(code(&|notify| notify.headers.set(HeaderName::Event, "dialog").unwrap()), 489);
    assert_eq!(code(&|notify| notify.headers.remove(&HeaderName::SubscriptionState)), 400);
    let from = "<sip:bob@partner.test>;tag=fork";
    assert_eq!(code(&|notify| notify.headers.set(HeaderName::From, from).unwrap()), 481);
    assert_eq!(code(&|_| {}), 200);
    assert_eq!(code(&|_| {}), 500, "the same number again");
    let cseq = |notify: &mut Message| notify.headers.set(HeaderName::CSeq, "9 NOTIFY").unwrap();
    assert_eq!(
        code(&|notify| {
            cseq(notify);
            notify.set_body("text/rtf", "x")
        }),
        415
    );
}

#[test]
fn what_we_do_not_grant() {
    let now = start();
    let subscribe = |change: &dyn Fn(&mut Message)| {
        let mut subscriber = Subscriber::new(watch(), Seed::new([1; 32]), now);
        let mut subscribe = sent(subscriber.poll_transmit());
        change(&mut subscribe);
        Notifier::accept(&subscribe, terms(), contact(), "tag", Watched::Pending, now)
            .map(|(notifier, ok)| (notifier.expires_at().duration_since(now).as_secs(), ok))
    };
    let refusal =
        subscribe(&|one| one.headers.set(HeaderName::Event, "vnd-microsoft-roaming-self").unwrap());
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.status(), Some(Status::of(489)));
    assert_eq!(refusal.headers.get(&HeaderName::AllowEvents).as_deref(), Some("presence"));
    let refusal =
        subscribe(&|one| one.headers.set(HeaderName::Expires, "59").unwrap()).unwrap_err();
    assert_eq!(refusal.status(), Some(Status::of(423)));
    assert_eq!(refusal.headers.get(&HeaderName::MinExpires).as_deref(), Some("60"));
    let refusal =
        subscribe(&|one| one.headers.set(HeaderName::Accept, "text/xml+msrtc.pidf").unwrap());
    assert_eq!(refusal.unwrap_err().status(), Some(Status::of(406)));
    let refusal = subscribe(&|one| one.headers.remove(&HeaderName::Contact)).unwrap_err();
    assert_eq!(refusal.status(), Some(Status::of(400)));
    let (granted, ok) =
        subscribe(&|one| one.headers.set(HeaderName::Expires, "90000").unwrap()).unwrap();
    assert_eq!((granted, ok.expires().unwrap()), (7200, Some(7200)));
    assert_eq!(subscribe(&|one| one.headers.remove(&HeaderName::Expires)).unwrap().0, 3600);
}

#[test]
fn a_watcher_that_is_gone_is_forgotten() {
    let mut world = World::new(Watched::Active);
    let notify = sent(world.notifier.poll_transmit());
    let gone = Message::response_to(&notify, Status::of(481), None);
    world.notifier.receive_response(&gone, world.now);
    assert_eq!(world.told(), [NotifierEvent::Lost]);
    assert!(world.notifier.is_over());

    let mut world = World::new(Watched::Active);
    world.settle();
    let at = world.notifier.poll_timeout().unwrap();
    world.notifier.handle_timeout(at);
    assert_eq!(world.told(), [NotifierEvent::Unsubscribed]);
    let last = world.notifier.poll_transmit().unwrap();
    let state = last.headers.get(&HeaderName::SubscriptionState).unwrap().into_owned();
    assert_eq!(state, "terminated;reason=timeout");
}

#[test]
fn one_notify_at_a_time_and_the_newest_state() {
    let mut world = World::new(Watched::Active);
    let first = sent(world.notifier.poll_transmit());
    for text in ["<one/>", "<two/>"] {
        world.notifier.publish("application/pidf+xml", Bytes::from(text), world.now);
        assert!(world.notifier.poll_transmit().is_none());
    }
    let answer = world.subscriber.receive_notify(&first, world.now);
    world.notifier.receive_response(&answer, world.now);
    let second = world.notifier.poll_transmit().unwrap();
    assert_eq!(&second.body[..], b"<two/>");
}

#[test]
fn both_ends_survive_a_restart() {
    let mut world = World::new(Watched::Active);
    world.settle();
    let (kept, kept_notifier) =
        (world.subscriber.to_bytes(world.now, 1000), world.notifier.to_bytes(world.now, 1000));
    // A minute later, on another machine's clock of moments.
    world.now += seconds(99);
    world.subscriber = Subscriber::from_bytes(&kept, Seed::new([2; 32]), world.now, 1060).unwrap();
    world.notifier = Notifier::from_bytes(&kept_notifier, world.now, 1060).unwrap();
    assert_eq!(*world.subscriber.state(), WatchState::Active);
    assert_eq!(world.subscriber.expires_at(), Some(world.now + seconds(3540)));
    assert_eq!(world.notifier.expires_at(), world.now + seconds(3540));
    world.notifier.publish("application/pidf+xml", Bytes::from_static(b"<p/>"), world.now);
    world.subscriber.refresh(world.now);
    world.settle();
    assert_eq!(world.told(), [NotifierEvent::Refreshed]);
    assert!(!world.events().is_empty());

    let late = Subscriber::from_bytes(&kept, Seed::new([2; 32]), world.now, 9000).unwrap();
    assert_eq!(*late.state(), WatchState::Asking, "it ran out meanwhile");
    for length in 0..kept.len() {
        let cut = Subscriber::from_bytes(&kept[..length], Seed::new([2; 32]), world.now, 0);
        assert!(cut.is_err());
    }
    for length in 0..kept_notifier.len() {
        assert!(Notifier::from_bytes(&kept_notifier[..length], world.now, 0).is_err());
    }
}
