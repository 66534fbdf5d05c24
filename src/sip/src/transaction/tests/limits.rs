//! How many there may be.

use super::*;

#[test]
fn there_is_a_bound() {
    let now = start();
    let limits = TransactionLimits { retry_after: 7, ..TransactionLimits::shared(1, 100) };
    let mut all = Transactions::new(Role::Proxy, limits);
    all.receive(TLS, request("MESSAGE", ";branch=z9hG4bK1"), now);
    out(&mut all);
    all.receive(TLS, request("MESSAGE", ";branch=z9hG4bK2"), now);
    let (_, refusal) = all.poll_transmit().unwrap();
    assert_eq!(refusal.status(), Some(Status::of(503)));
    assert_eq!(refusal.headers.get(&HeaderName::RetryAfter).as_deref(), Some("7"));
    assert!(all.request(TLS, request("MESSAGE", ";branch=z9hG4bK3"), now).is_err());
    assert_eq!(out(&mut all), "All them.test, All ours.test");
    all.receive(TLS, request("ACK", ";branch=z9hG4bK4"), now);
    assert_eq!(out(&mut all), "ack", "an ACK needs no room and gets no answer");
}

/// A request of this domain, or of ours to it.
fn with(domain: &str, number: u32, ours: bool) -> Message {
    let mut request = request("MESSAGE", &format!(";branch=z9hG4bK{number}"));
    request.headers.set(HeaderName::CallId, format!("c{number}")).unwrap();
    let name = if ours { HeaderName::To } else { HeaderName::From };
    request.headers.set(name, format!("<sip:x@{domain}>;tag=a")).unwrap();
    request
}

#[test]
fn one_domain_has_its_share_and_the_last_quarter_is_for_those_who_are_named() {
    let now = start();
    let mut all = Transactions::new(Role::End, TransactionLimits::shared(16, 25));
    all.set_named(["named.test".parse().unwrap()].into());
    // Four for one domain, whoever asks.
    for number in 0..3 {
        all.receive(TLS, with("one.test", number, false), now);
    }
    assert!(all.request(TLS, with("one.test", 3, true), now).is_ok());
    out(&mut all);
    all.receive(TLS, with("one.test", 4, false), now);
    assert_eq!(out(&mut all), "Domain one.test, > 503 MESSAGE");
    assert!(all.request(TLS, with("one.test", 5, true), now).is_err());
    assert_eq!(out(&mut all), "Domain one.test");
    // Others have theirs, until only what is kept for the named ones is left.
    for number in 10..18 {
        let domain = if number < 14 { "two.test" } else { "three.test" };
        all.receive(TLS, with(domain, number, false), now);
        assert_eq!(out(&mut all), "request MESSAGE", "{number}");
    }
    all.receive(TLS, with("four.test", 20, false), now);
    assert_eq!(out(&mut all), "Strangers four.test, > 503 MESSAGE");
    for number in 30..34 {
        all.receive(TLS, with("named.test", number, false), now);
        assert_eq!(out(&mut all), "request MESSAGE", "{number}");
    }
    all.receive(TLS, with("named.test", 34, false), now);
    assert_eq!(out(&mut all), "All named.test, > 503 MESSAGE");
    // What is over makes room again.
    all.receive(TLS, response(&with("one.test", 3, true), 200), now);
    out(&mut all);
    all.receive(TLS, with("one.test", 40, false), now);
    assert_eq!(out(&mut all), "Strangers one.test, > 503 MESSAGE");
    all.handle_timeout(now + Duration::from_secs(32));
    all.receive(TLS, with("one.test", 41, false), now);
    assert_eq!(out(&mut all), "request MESSAGE");
}

#[test]
fn hosts_that_are_no_domain_have_one_share_together() {
    let now = start();
    let mut all = Transactions::new(Role::End, TransactionLimits::shared(16, 12));
    all.receive(TLS, with("192.0.2.1", 1, false), now);
    out(&mut all);
    all.receive(TLS, with("192.0.2.2", 2, false), now);
    assert_eq!(out(&mut all), "Domain , > 503 MESSAGE");
}

#[test]
fn a_cancel_needs_no_room() {
    let now = start();
    let mut all = Transactions::new(Role::End, TransactionLimits::shared(1, 100));
    let invite = request("INVITE", ";branch=z9hG4bKx");
    let key = all.request(TLS, invite.clone(), now).unwrap();
    all.receive(TLS, response(&invite, 180), now);
    all.cancel(&key, now);
    assert_eq!(out(&mut all), "response 180, > INVITE, > CANCEL");
    all.flow_lost(TLS, now);
    assert!(all.is_empty() && all.shares.is_empty());
}

#[test]
fn what_cannot_be_sent_comes_back() {
    let now = start();
    let mut all = transactions(Role::End);
    assert!(all.request(TLS, request("MESSAGE", ""), now).is_err(), "no branch");
    assert!(all.request(TLS, request("MESSAGE", ";branch=x"), now).is_err(), "an old one");
    assert!(all.request(TLS, request("ACK", ";branch=z9hG4bKx"), now).is_err());
    assert!(all.request(TLS, request("MESSAGE", ";branch=z9hG4bKx"), now).is_ok());
    assert!(all.request(TLS, request("MESSAGE", ";branch=z9hG4bKx"), now).is_err(), "twice");
}
