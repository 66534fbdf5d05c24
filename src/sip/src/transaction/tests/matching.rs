//! What belongs to what, and what is passed on.

use super::*;

#[test]
fn the_ack_of_a_refusal_is_of_the_invite_and_the_answer() {
    let now = start();
    let mut all = transactions(Role::End);
    let mut invite = request("INVITE", ";branch=z9hG4bKx");
    invite.headers.push(HeaderName::Route, "<sip:edge.test;lr>").unwrap();
    all.request(TLS, invite.clone(), now).unwrap();
    all.poll_transmit();
    all.receive(TLS, response(&invite, 488), now);
    let (_, ack) = all.poll_transmit().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ack.to_bytes()).replace("\r\n", "\n").trim_end(),
        "ACK sip:bob@ours.test SIP/2.0\nVia: SIP/2.0/TLS pc.them.test:5061;branch=z9hG4bKx\n\
         Route: <sip:edge.test;lr>\nMax-Forwards: 70\nFrom: <sip:alice@them.test>;tag=a\n\
         To: <sip:bob@ours.test>;tag=b\nCall-ID: c1\nCSeq: 1 ACK\nContent-Length: 0"
    );
}

#[test]
fn peers_of_rfc_2543_and_lync_are_matched() {
    for branch in ["", ";branch=1", ";ms-received-port=37737;ms-received-cid=3E8A00"] {
        let now = start();
        let mut all = transactions(Role::End);
        let invite = request("INVITE", branch);
        all.receive(UDP, invite.clone(), now);
        let Some(TransactionEvent::Request { key, .. }) = all.poll_event() else { panic!() };
        all.respond(&key, response(&invite, 486), now);
        out(&mut all);
        all.receive(UDP, invite.clone(), now);
        assert_eq!(out(&mut all), "> 486 INVITE", "{branch}");
        let mut ack = request("ACK", branch);
        ack.headers.set(HeaderName::To, "<sip:bob@ours.test>;tag=b").unwrap();
        all.receive(UDP, ack, now);
        all.receive(UDP, invite, now);
        assert_eq!(out(&mut all), "-", "{branch}");
    }
}

#[test]
fn what_could_not_be_written_fails_alone() {
    let now = start();
    let mut all = transactions(Role::End);
    let theirs = request("MESSAGE", ";branch=z9hG4bKtheirs");
    all.receive(TLS, theirs.clone(), now);
    let Some(TransactionEvent::Request { key, .. }) = all.poll_event() else { panic!() };
    for branch in [";branch=z9hG4bKone", ";branch=z9hG4bKtwo"] {
        all.request(TLS, request("MESSAGE", branch), now).unwrap();
    }
    let (_, one) = all.poll_transmit().unwrap();
    all.poll_transmit().unwrap();
    assert!(all.is_wanted(&one));
    all.unsent(&one);
    assert!(!all.is_wanted(&one), "it is over");
    assert!(all.is_wanted(&response(&one, 200)) && all.is_wanted(&request("ACK", ";branch=z")));
    let Some(TransactionEvent::Failed { key: failed, timed_out: false }) = all.poll_event() else {
        panic!()
    };
    assert!(failed.branch.ends_with("one"));
    assert!(all.poll_event().is_none());
    all.unsent(&one);
    all.unsent(&response(&request("MESSAGE", ";branch=z9hG4bKtwo"), 200));
    assert!(all.poll_event().is_none(), "once, and an answer is nobody's");
    // The other one is answered still, and so is the partner.
    all.receive(TLS, response(&request("MESSAGE", ";branch=z9hG4bKtwo"), 200), now);
    assert!(matches!(all.poll_event(), Some(TransactionEvent::Response { .. })));
    assert!(all.respond(&key, response(&theirs, 200), now));
}

#[test]
fn what_came_over_a_flow_can_be_answered_another_way() {
    let now = start();
    for (lose_all, answered) in [(false, true), (true, false)] {
        let mut all = transactions(Role::End);
        let theirs = request("MESSAGE", ";branch=z9hG4bKtheirs");
        all.receive(TLS, theirs.clone(), now);
        let Some(TransactionEvent::Request { key, .. }) = all.poll_event() else { panic!() };
        all.request(TLS, request("MESSAGE", ";branch=z9hG4bKours"), now).unwrap();
        out(&mut all);
        if lose_all {
            all.flow_lost(TLS, now);
        } else {
            all.requests_lost(TLS);
        }
        assert!(matches!(all.poll_event(), Some(TransactionEvent::Failed { .. })));
        assert_eq!(all.respond(&key, response(&theirs, 200), now), answered);
    }
}

#[test]
fn what_comes_on_another_flow_touches_nothing() {
    let now = start();
    let other = Flow { id: 9, reliable: true };
    let mut all = transactions(Role::Proxy);
    all.receive(TLS, request("INVITE", ";branch=z9hG4bKx"), now);
    out(&mut all);
    all.receive(other, request("CANCEL", ";branch=z9hG4bKx"), now);
    assert_eq!(out(&mut all), "> 481 CANCEL");
    let sent = request("MESSAGE", ";branch=z9hG4bKy");
    all.request(TLS, sent.clone(), now).unwrap();
    out(&mut all);
    all.receive(other, response(&sent, 200), now);
    assert_eq!(out(&mut all), "stray");
    all.receive(TLS, response(&sent, 200), now);
    assert_eq!(out(&mut all), "response 200");
}

#[test]
fn a_request_on_two_ways_is_merged_by_an_end_only() {
    for (role, expected) in [(Role::End, "> 482 INVITE"), (Role::Proxy, "request INVITE")] {
        let now = start();
        let mut all = transactions(role);
        all.receive(TLS, request("INVITE", ";branch=z9hG4bKx"), now);
        out(&mut all);
        all.receive(TLS, request("INVITE", ";branch=z9hG4bKother"), now);
        assert_eq!(out(&mut all), expected);
    }
}

#[test]
fn broken_requests_are_answered_and_broken_answers_dropped() {
    let now = start();
    let mut all = transactions(Role::Proxy);
    let mut broken = request("MESSAGE", ";branch=z9hG4bKx");
    broken.headers.remove(&HeaderName::CallId);
    all.receive(TLS, broken.clone(), now);
    let (_, refusal) = all.poll_transmit().unwrap();
    assert_eq!(refusal.status(), Some(Status::of(400)));
    all.receive(TLS, response(&broken, 200), now);
    assert_eq!(out(&mut all), "-");
    all.receive(TLS, request("BENOTIFY", ";branch=z9hG4bKx"), now);
    assert_eq!(out(&mut all), "request BENOTIFY");
    assert!(all.is_empty());
}

#[test]
fn a_proxy_counts_down_and_finds_loops() {
    let mut passing = request("MESSAGE", ";branch=z9hG4bKx");
    proxy::count_down(&mut passing).unwrap();
    assert_eq!(passing.headers.get(&HeaderName::MaxForwards).as_deref(), Some("69"));
    passing.headers.set(HeaderName::MaxForwards, "0").unwrap();
    assert_eq!(proxy::count_down(&mut passing).unwrap_err().status, Status::of(483));
    passing.headers.set(HeaderName::MaxForwards, "256").unwrap();
    assert_eq!(proxy::count_down(&mut passing).unwrap_err().status, Status::of(400));
    passing.headers.remove(&HeaderName::MaxForwards);
    proxy::count_down(&mut passing).unwrap();
    assert_eq!(passing.headers.get(&HeaderName::MaxForwards).as_deref(), Some("70"));

    let digest = proxy::loop_digest(&passing);
    assert!(!proxy::loops(&passing, &digest, |_| true));
    let via = format!("SIP/2.0/TLS sip.ours.test;branch=z9hG4bKn{digest}");
    passing.headers.push_first(HeaderName::Via, via).unwrap();
    assert!(proxy::loops(&passing, &proxy::loop_digest(&passing), |_| true));
    assert!(!proxy::loops(&passing, &digest, |_| false), "of others it says nothing");
    let spiral = Message { start: request("MESSAGE", "").start, ..passing.clone() };
    assert!(proxy::loops(&spiral, &proxy::loop_digest(&spiral), |_| true));
    let Start::Request { uri, .. } = &mut passing.start else { panic!() };
    uri.user = Some("carol".into());
    assert!(!proxy::loops(&passing, &proxy::loop_digest(&passing), |_| true), "a spiral");

    let mut answer = response(&passing, 200);
    assert!(proxy::pop_via(&mut answer));
    assert_eq!(answer.vias().unwrap().len(), 1);
    assert!(!proxy::pop_via(&mut answer));
    assert!(proxy::is_forwarded(Status::of(180)) && !proxy::is_forwarded(Status::of(100)));
}
