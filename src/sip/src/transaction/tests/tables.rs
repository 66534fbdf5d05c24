//! The state tables of RFC 3261, section 17, with RFC 6026: each state and event, and what follows.

use super::*;

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
