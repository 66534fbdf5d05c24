use std::time::Duration;

use super::*;

const TLS: Flow = Flow { id: 1, reliable: true };
const UDP: Flow = Flow { id: 2, reliable: false };

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    Instant::now()
}

fn message(text: &str) -> Message {
    let text = text.replace('\n', "\r\n");
    crate::Framer::datagram(crate::Limits::default(), text.as_bytes()).unwrap()
}

fn request(method: &str, branch: &str) -> Message {
    message(&format!(
        "{method} sip:bob@ours.test SIP/2.0\nVia: SIP/2.0/TLS pc.them.test:5061{branch}\n\
         Max-Forwards: 70\nFrom: <sip:alice@them.test>;tag=a\nTo: <sip:bob@ours.test>\n\
         Call-ID: c1\nCSeq: 1 {method}\nContent-Length: 0\n\n"
    ))
}

fn response(of: &Message, status: u16) -> Message {
    Message::response_to(of, Status::of(status), Some("b"))
}

fn transactions(role: Role) -> Transactions {
    Transactions::new(role, TransactionLimits::default())
}

/// What came out, in one line.
fn out(all: &mut Transactions) -> String {
    let mut line = Vec::new();
    while let Some(event) = all.poll_event() {
        line.push(match event {
            TransactionEvent::Request { request, .. } => {
                format!("request {}", request.method().unwrap())
            }
            TransactionEvent::Ack { .. } => "ack".into(),
            TransactionEvent::Cancelled { .. } => "cancelled".into(),
            TransactionEvent::Response { response, .. } => {
                format!("response {}", response.status().unwrap())
            }
            TransactionEvent::Failed { timed_out, .. } => {
                if timed_out {
                    "timed out".into()
                } else {
                    "broken".into()
                }
            }
            TransactionEvent::Full { whose, domain } => {
                format!("{whose:?} {}", domain.map(|domain| domain.to_string()).unwrap_or_default())
            }
            TransactionEvent::Stray { .. } => "stray".to_owned(),
        });
    }
    while let Some((_, message)) = all.poll_transmit() {
        line.push(match message.status() {
            Some(status) => format!("> {status} {}", message.cseq().unwrap().method),
            None => format!("> {}", message.method().unwrap()),
        });
    }
    if line.is_empty() { "-".into() } else { line.join(", ") }
}

/// Steps the clock from deadline to deadline; tells when what happened, in milliseconds.
fn run(all: &mut Transactions, from: Instant) -> String {
    let mut lines = Vec::new();
    while let Some(at) = all.poll_timeout() {
        all.handle_timeout(at);
        lines.push(format!("{} {}", at.duration_since(from).as_millis(), out(all)));
    }
    lines.join("\n")
}

/// Each state of a client transaction meets each answer and the loss of its flow.
fn client_table(method: &str, flow: Flow) -> String {
    let mut table = String::new();
    let before: &[(&str, &[u16])] =
        &[("calling", &[]), ("proceeding", &[180]), ("after 200", &[200]), ("after 486", &[486])];
    for (state, answers) in before {
        for input in ["180", "200", "486", "lost", "end"] {
            let now = start();
            let mut all = transactions(Role::End);
            let sent = request(method, ";branch=z9hG4bKx");
            all.request(flow, sent.clone(), now).unwrap();
            for answer in *answers {
                all.receive(flow, response(&sent, *answer), now);
            }
            out(&mut all);
            match input {
                "lost" => all.flow_lost(flow, now),
                "end" => all.handle_timeout(now + Duration::from_secs(32)),
                status => all.receive(flow, response(&sent, status.parse().unwrap()), now),
            }
            let what = out(&mut all);
            table += &format!("{state} + {input}: {what} [{}]\n", all.len());
        }
    }
    table
}

#[test]
fn invite_client_on_a_stream() {
    insta::assert_snapshot!(client_table("INVITE", TLS), @r"
    calling + 180: response 180 [1]
    calling + 200: response 200 [1]
    calling + 486: response 486, > ACK [0]
    calling + lost: broken [0]
    calling + end: timed out [0]
    proceeding + 180: response 180 [1]
    proceeding + 200: response 200 [1]
    proceeding + 486: response 486, > ACK [0]
    proceeding + lost: broken [0]
    proceeding + end: - [1]
    after 200 + 180: - [1]
    after 200 + 200: response 200 [1]
    after 200 + 486: - [1]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + 180: stray [0]
    after 486 + 200: stray [0]
    after 486 + 486: stray [0]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

#[test]
fn invite_client_on_datagrams() {
    insta::assert_snapshot!(client_table("INVITE", UDP), @r"
    calling + 180: response 180 [1]
    calling + 200: response 200 [1]
    calling + 486: response 486, > ACK [1]
    calling + lost: broken [0]
    calling + end: timed out [0]
    proceeding + 180: response 180 [1]
    proceeding + 200: response 200 [1]
    proceeding + 486: response 486, > ACK [1]
    proceeding + lost: broken [0]
    proceeding + end: - [1]
    after 200 + 180: - [1]
    after 200 + 200: response 200 [1]
    after 200 + 486: - [1]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + 180: - [1]
    after 486 + 200: - [1]
    after 486 + 486: > ACK [1]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

#[test]
fn other_client_on_a_stream() {
    insta::assert_snapshot!(client_table("MESSAGE", TLS), @r"
    calling + 180: response 180 [1]
    calling + 200: response 200 [0]
    calling + 486: response 486 [0]
    calling + lost: broken [0]
    calling + end: timed out [0]
    proceeding + 180: response 180 [1]
    proceeding + 200: response 200 [0]
    proceeding + 486: response 486 [0]
    proceeding + lost: broken [0]
    proceeding + end: timed out [0]
    after 200 + 180: stray [0]
    after 200 + 200: stray [0]
    after 200 + 486: stray [0]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + 180: stray [0]
    after 486 + 200: stray [0]
    after 486 + 486: stray [0]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

#[test]
fn other_client_on_datagrams() {
    insta::assert_snapshot!(client_table("MESSAGE", UDP), @r"
    calling + 180: response 180 [1]
    calling + 200: response 200 [1]
    calling + 486: response 486 [1]
    calling + lost: broken [0]
    calling + end: timed out [0]
    proceeding + 180: response 180 [1]
    proceeding + 200: response 200 [1]
    proceeding + 486: response 486 [1]
    proceeding + lost: broken [0]
    proceeding + end: timed out [0]
    after 200 + 180: - [1]
    after 200 + 200: - [1]
    after 200 + 486: - [1]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + 180: - [1]
    after 486 + 200: - [1]
    after 486 + 486: - [1]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

/// Each state of a server transaction meets each input.
fn server_table(method: &str, flow: Flow) -> String {
    let mut table = String::new();
    let before: &[(&str, &[u16])] =
        &[("trying", &[]), ("proceeding", &[180]), ("after 200", &[200]), ("after 486", &[486])];
    for (state, answers) in before {
        for input in
            ["again", "ack", "cancel", "respond 180", "respond 200", "respond 486", "lost", "end"]
        {
            let now = start();
            let mut all = transactions(Role::Proxy);
            let came = request(method, ";branch=z9hG4bKx");
            all.receive(flow, came.clone(), now);
            let Some(TransactionEvent::Request { key, .. }) = all.poll_event() else { panic!() };
            for answer in *answers {
                assert!(all.respond(&key, response(&came, *answer), now));
            }
            out(&mut all);
            match input {
                "again" => all.receive(flow, came.clone(), now),
                "ack" => all.receive(flow, request("ACK", ";branch=z9hG4bKx"), now),
                "cancel" => all.receive(flow, request("CANCEL", ";branch=z9hG4bKx"), now),
                "lost" => all.flow_lost(flow, now),
                "end" => all.handle_timeout(now + Duration::from_secs(32)),
                respond => {
                    let status = respond.rsplit(' ').next().unwrap().parse().unwrap();
                    all.respond(&key, response(&came, status), now);
                }
            }
            let what = out(&mut all);
            table += &format!("{state} + {input}: {what} [{}]\n", all.len());
        }
    }
    table
}

#[test]
fn invite_server_on_a_stream() {
    insta::assert_snapshot!(server_table("INVITE", TLS), @r"
    trying + again: - [1]
    trying + ack: - [1]
    trying + cancel: cancelled, > 200 CANCEL [1]
    trying + respond 180: > 180 INVITE [1]
    trying + respond 200: > 200 INVITE [1]
    trying + respond 486: > 486 INVITE [1]
    trying + lost: cancelled [0]
    trying + end: > 100 INVITE [1]
    proceeding + again: - [1]
    proceeding + ack: - [1]
    proceeding + cancel: cancelled, > 200 CANCEL [1]
    proceeding + respond 180: > 180 INVITE [1]
    proceeding + respond 200: > 200 INVITE [1]
    proceeding + respond 486: > 486 INVITE [1]
    proceeding + lost: cancelled [0]
    proceeding + end: - [1]
    after 200 + again: - [1]
    after 200 + ack: ack [1]
    after 200 + cancel: > 200 CANCEL [1]
    after 200 + respond 180: - [1]
    after 200 + respond 200: > 200 INVITE [1]
    after 200 + respond 486: - [1]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + again: - [1]
    after 486 + ack: - [0]
    after 486 + cancel: > 200 CANCEL [1]
    after 486 + respond 180: - [1]
    after 486 + respond 200: - [1]
    after 486 + respond 486: - [1]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

#[test]
fn invite_server_on_datagrams() {
    insta::assert_snapshot!(server_table("INVITE", UDP), @r"
    trying + again: - [1]
    trying + ack: - [1]
    trying + cancel: cancelled, > 200 CANCEL [1]
    trying + respond 180: > 180 INVITE [1]
    trying + respond 200: > 200 INVITE [1]
    trying + respond 486: > 486 INVITE [1]
    trying + lost: cancelled [0]
    trying + end: > 100 INVITE [1]
    proceeding + again: > 180 INVITE [1]
    proceeding + ack: - [1]
    proceeding + cancel: cancelled, > 200 CANCEL [1]
    proceeding + respond 180: > 180 INVITE [1]
    proceeding + respond 200: > 200 INVITE [1]
    proceeding + respond 486: > 486 INVITE [1]
    proceeding + lost: cancelled [0]
    proceeding + end: - [1]
    after 200 + again: - [1]
    after 200 + ack: ack [1]
    after 200 + cancel: > 200 CANCEL [1]
    after 200 + respond 180: - [1]
    after 200 + respond 200: > 200 INVITE [1]
    after 200 + respond 486: - [1]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + again: > 486 INVITE [1]
    after 486 + ack: - [1]
    after 486 + cancel: > 200 CANCEL [1]
    after 486 + respond 180: - [1]
    after 486 + respond 200: - [1]
    after 486 + respond 486: - [1]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

#[test]
fn other_server_on_a_stream() {
    insta::assert_snapshot!(server_table("MESSAGE", TLS), @r"
    trying + again: - [1]
    trying + ack: ack [1]
    trying + cancel: > 481 CANCEL [1]
    trying + respond 180: > 180 MESSAGE [1]
    trying + respond 200: > 200 MESSAGE [0]
    trying + respond 486: > 486 MESSAGE [0]
    trying + lost: - [0]
    trying + end: - [0]
    proceeding + again: - [1]
    proceeding + ack: ack [1]
    proceeding + cancel: > 481 CANCEL [1]
    proceeding + respond 180: > 180 MESSAGE [1]
    proceeding + respond 200: > 200 MESSAGE [0]
    proceeding + respond 486: > 486 MESSAGE [0]
    proceeding + lost: - [0]
    proceeding + end: - [0]
    after 200 + again: request MESSAGE [1]
    after 200 + ack: ack [0]
    after 200 + cancel: > 481 CANCEL [0]
    after 200 + respond 180: - [0]
    after 200 + respond 200: - [0]
    after 200 + respond 486: - [0]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + again: request MESSAGE [1]
    after 486 + ack: ack [0]
    after 486 + cancel: > 481 CANCEL [0]
    after 486 + respond 180: - [0]
    after 486 + respond 200: - [0]
    after 486 + respond 486: - [0]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

#[test]
fn other_server_on_datagrams() {
    insta::assert_snapshot!(server_table("MESSAGE", UDP), @r"
    trying + again: - [1]
    trying + ack: ack [1]
    trying + cancel: > 481 CANCEL [1]
    trying + respond 180: > 180 MESSAGE [1]
    trying + respond 200: > 200 MESSAGE [1]
    trying + respond 486: > 486 MESSAGE [1]
    trying + lost: - [0]
    trying + end: - [0]
    proceeding + again: > 180 MESSAGE [1]
    proceeding + ack: ack [1]
    proceeding + cancel: > 481 CANCEL [1]
    proceeding + respond 180: > 180 MESSAGE [1]
    proceeding + respond 200: > 200 MESSAGE [1]
    proceeding + respond 486: > 486 MESSAGE [1]
    proceeding + lost: - [0]
    proceeding + end: - [0]
    after 200 + again: > 200 MESSAGE [1]
    after 200 + ack: ack [1]
    after 200 + cancel: > 481 CANCEL [1]
    after 200 + respond 180: - [1]
    after 200 + respond 200: - [1]
    after 200 + respond 486: - [1]
    after 200 + lost: - [0]
    after 200 + end: - [0]
    after 486 + again: > 486 MESSAGE [1]
    after 486 + ack: ack [1]
    after 486 + cancel: > 481 CANCEL [1]
    after 486 + respond 180: - [1]
    after 486 + respond 200: - [1]
    after 486 + respond 486: - [1]
    after 486 + lost: - [0]
    after 486 + end: - [0]
    ");
}

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
