//! When things are sent again, and when they are over.

use super::*;

#[test]
fn timers_of_requests() {
    let now = start();
    let sent = |method, flow| {
        let mut all = transactions(Role::End);
        all.request(flow, request(method, ";branch=z9hG4bKx"), now).unwrap();
        out(&mut all);
        run(&mut all, now)
    };
    assert_eq!(sent("INVITE", TLS), "32000 timed out");
    assert_eq!(sent("MESSAGE", TLS), "32000 timed out");
    insta::assert_snapshot!(sent("INVITE", UDP), @r"
    500 > INVITE
    1500 > INVITE
    3500 > INVITE
    7500 > INVITE
    15500 > INVITE
    31500 > INVITE
    32000 timed out
    ");
    insta::assert_snapshot!(sent("MESSAGE", UDP), @r"
    500 > MESSAGE
    1500 > MESSAGE
    3500 > MESSAGE
    7500 > MESSAGE
    11500 > MESSAGE
    15500 > MESSAGE
    19500 > MESSAGE
    23500 > MESSAGE
    27500 > MESSAGE
    31500 > MESSAGE
    32000 timed out
    ");
}

#[test]
fn timers_of_answers() {
    let now = start();
    let came = |status: Option<u16>, flow| {
        let mut all = transactions(Role::End);
        let invite = request("INVITE", ";branch=z9hG4bKx");
        all.receive(flow, invite.clone(), now);
        let Some(TransactionEvent::Request { key, .. }) = all.poll_event() else { panic!() };
        if let Some(status) = status {
            all.respond(&key, response(&invite, status), now);
        }
        out(&mut all);
        run(&mut all, now)
    };
    assert_eq!(came(None, TLS), "200 > 100 INVITE\n600000 -");
    assert_eq!(came(Some(200), TLS), "32000 -");
    assert_eq!(came(Some(486), TLS), "32000 -");
    insta::assert_snapshot!(came(Some(486), UDP), @r"
    500 > 486 INVITE
    1500 > 486 INVITE
    3500 > 486 INVITE
    7500 > 486 INVITE
    11500 > 486 INVITE
    15500 > 486 INVITE
    19500 > 486 INVITE
    23500 > 486 INVITE
    27500 > 486 INVITE
    31500 > 486 INVITE
    32000 -
    ");
}

#[test]
fn an_invite_that_rings_for_ever_is_given_up() {
    let now = start();
    let mut all = transactions(Role::Proxy);
    let invite = request("INVITE", ";branch=z9hG4bKx");
    all.request(TLS, invite.clone(), now).unwrap();
    all.receive(TLS, response(&invite, 180), now + Duration::from_secs(1));
    out(&mut all);
    assert_eq!(run(&mut all, now), "182000 > CANCEL\n214000 timed out");
}

#[test]
fn cancel_waits_for_a_provisional_answer() {
    let now = start();
    let mut all = transactions(Role::End);
    let invite = request("INVITE", ";branch=z9hG4bKx");
    let key = all.request(TLS, invite.clone(), now).unwrap();
    out(&mut all);
    all.cancel(&key, now);
    assert_eq!(out(&mut all), "-");
    all.receive(TLS, response(&invite, 100), now);
    let (_, cancel) = all.poll_transmit().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&cancel.to_bytes()).replace("\r\n", "\n").trim_end(),
        "CANCEL sip:bob@ours.test SIP/2.0\nVia: SIP/2.0/TLS pc.them.test:5061;branch=z9hG4bKx\n\
         Max-Forwards: 70\nFrom: <sip:alice@them.test>;tag=a\nTo: <sip:bob@ours.test>\n\
         Call-ID: c1\nCSeq: 1 CANCEL\nContent-Length: 0"
    );
    all.cancel(&key, now);
    all.receive(TLS, response(&cancel, 200), now);
    assert_eq!(out(&mut all), "response 100", "its own answer is nobody's business");
    all.receive(TLS, response(&invite, 487), now);
    assert_eq!(out(&mut all), "response 487, > ACK");
    assert!(all.is_empty() && all.deadlines.len() == 0);
}

#[test]
fn nothing_is_left_of_what_is_over() {
    let now = start();
    let mut all = transactions(Role::End);
    for number in 0..1000 {
        let branch = format!(";branch=z9hG4bK{number}");
        let mut came = request("MESSAGE", &branch);
        came.headers.set(HeaderName::CallId, format!("c{number}")).unwrap();
        all.receive(TLS, came.clone(), now);
        let Some(TransactionEvent::Request { key, .. }) = all.poll_event() else { panic!() };
        assert!(all.respond(&key, response(&came, 200), now));
        assert!(!all.respond(&key, response(&came, 200), now));
        let sent = request("MESSAGE", &format!("{branch}out"));
        all.request(TLS, sent.clone(), now).unwrap();
        all.receive(TLS, response(&sent, 200), now);
        out(&mut all);
    }
    assert!(all.is_empty() && all.merged.is_empty() && all.deadlines.len() == 0);
    assert!(all.shares.is_empty());
}
