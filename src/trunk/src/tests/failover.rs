use std::time::Duration;

use gatehouse_testkit::TestCa;
use gatehouse_xmpp::Stanza;

use super::world::{Proxy, core, edge, id, inward, message, numbers, out, soon, tuning};

#[tokio::test]
async fn the_pairs_of_a_lost_edge_move_to_another_in_order() {
    let ca = TestCa::new();
    let mut quick = tuning();
    quick.failover_after = Duration::from_millis(200);
    let mut one = edge(&ca, "e1.example", &["core.example"], quick.clone()).await;
    let mut two = edge(&ca, "e2.example", &["core.example"], quick.clone()).await;
    let proxy = Proxy::to(one.address).await;
    let edges = [("e1.example", proxy.address), ("e2.example", two.address)];
    let core = core(&ca, "core.example", &edges, quick);
    core.diary.wait("up e1.example", 1).await;
    core.diary.wait("up e2.example", 1).await;
    let to = |number: usize| format!("d{number}.example");
    for number in 0..40 {
        let stanza = message("ours.example", &to(number), number);
        core.trunk.sender.send(stanza).await.unwrap();
    }
    // Both got a share; the first edge finishes nothing and dies.
    let mut at_one = vec![soon(one.trunk.incoming.recv()).await.unwrap()];
    while let Ok(next) = one.trunk.incoming.try_recv() {
        at_one.push(next);
    }
    proxy.turn(None);
    core.diary.wait("down e1.example", 1).await;
    for number in 0..40 {
        let stanza = message("ours.example", &to(number), number + 40);
        core.trunk.sender.send(stanza).await.unwrap();
    }
    let mut ids = Vec::new();
    while ids.len() < 80 {
        ids.push(id(&soon(two.trunk.incoming.recv()).await.unwrap()));
    }
    for number in 0..40 {
        let of_pair: Vec<_> = ids.iter().filter(|id| *id % 40 == number).copied().collect();
        assert_eq!(of_pair, [number, number + 40]);
    }
    assert!(!at_one.is_empty() && at_one.len() < 40, "{}", at_one.len());
}

#[tokio::test]
async fn authors_are_told_when_the_core_stays_away() {
    let ca = TestCa::new();
    let mut hasty = tuning();
    hasty.failover_after = Duration::from_millis(100);
    hasty.patience = Duration::from_millis(800);
    let mut edge = edge(&ca, "edge.example", &["core.example"], hasty.clone()).await;
    let proxy = Proxy::to(edge.address).await;
    let core = core(&ca, "core.example", &[("edge.example", proxy.address)], hasty);
    core.diary.wait("up edge.example", 1).await;
    for id in 0..3 {
        edge.trunk.sender.send(inward(id)).await.unwrap();
    }
    // An answer must not be answered: it is only counted.
    let result = "<iq xmlns='jabber:client' type='result' id='9' from='them.example' \
                  to='a@ours.example/x'/>";
    let result = Stanza::from_element(result.parse().unwrap()).unwrap();
    edge.trunk.sender.send(result).await.unwrap();
    proxy.turn(None);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let bounce = soon(edge.trunk.incoming.recv()).await.unwrap();
        assert_eq!(bounce.stanza.type_(), Some("error"));
        assert_eq!(bounce.stanza.to().unwrap().to_string(), "a@them.example/x");
        assert_eq!(bounce.stanza.from().unwrap().to_string(), "b@ours.example");
        ids.push(id(&bounce));
    }
    assert_eq!(ids, numbers(3));
    assert_eq!(edge.trunk.sender.dispatch().pinned(), 0);
    // From now on the sender is told at once that nobody is there.
    let error = soon(edge.trunk.sender.send(inward(3))).await.unwrap_err();
    assert_eq!((error.role, error.stanza.id()), ("core", Some("3")));
}

#[tokio::test]
async fn nobody_there_from_the_start_is_unreachable() {
    let ca = TestCa::new();
    let mut hasty = tuning();
    hasty.patience = Duration::from_millis(100);
    let edge = edge(&ca, "edge.example", &["core.example"], hasty).await;
    let error = soon(edge.trunk.sender.send(inward(0))).await.unwrap_err();
    assert_eq!(*error.stanza, inward(0));
}

#[tokio::test]
async fn a_core_that_starts_first_waits_for_its_edge() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let proxy = Proxy::to(edge.address).await;
    proxy.turn(None);
    let core = core(&ca, "core.example", &[("edge.example", proxy.address)], tuning());
    let sender = core.trunk.sender.clone();
    let turn = async {
        proxy.turns_one_away().await;
        proxy.turn(Some(edge.address));
    };
    let (sent, ()) = tokio::join!(soon(sender.send(out(0))), turn);
    sent.unwrap();
    assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), 0);
}

#[tokio::test]
async fn what_cannot_wait_goes_at_once_or_not_at_all() {
    let ca = TestCa::new();
    let mut narrow = tuning();
    narrow.queue_kib_max = 2;
    let mut edge = edge(&ca, "edge.example", &["core.example"], narrow.clone()).await;
    let error = edge.trunk.sender.try_send(inward(0)).unwrap_err();
    assert_eq!(error.to_string(), "the core cannot be reached: none is there");
    assert_eq!(*error.stanza, inward(0));
    let core = core(&ca, "core.example", &[("edge.example", edge.address)], narrow);
    core.diary.wait("up edge.example", 1).await;
    core.trunk.sender.try_send(out(0)).unwrap();
    core.trunk.sender.try_send(out(1)).unwrap();
    let error = core.trunk.sender.try_send(out(2)).unwrap_err();
    assert_eq!(error.to_string(), "the edge cannot be reached: the queue is full");
    assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), 0);
}

/// Only the first has to wait; whoever comes later is told at once, until a node is back.
#[tokio::test]
async fn patience_counts_from_when_the_last_node_was_lost() {
    let ca = TestCa::new();
    let mut hasty = tuning();
    hasty.failover_after = Duration::from_millis(50);
    hasty.patience = Duration::from_millis(1500);
    let mut edge = edge(&ca, "edge.example", &["core.example"], hasty.clone()).await;
    let proxy = Proxy::to(edge.address).await;
    let core = core(&ca, "core.example", &[("edge.example", proxy.address)], hasty.clone());
    core.diary.wait("up edge.example", 1).await;
    proxy.turn(None);
    core.diary.wait("down edge.example", 1).await;
    let sender = core.trunk.sender.clone();
    // The first may still be taken for a node that was lost a moment ago.
    while soon(sender.send(out(0))).await.is_ok() {}
    let told_at = gatehouse_net::now();
    for id in 1..5 {
        soon(sender.send(out(id))).await.unwrap_err();
    }
    assert!(gatehouse_net::now() - told_at < hasty.patience);
    proxy.turn(Some(edge.address));
    core.diary.wait("up edge.example", 2).await;
    sender.send(out(5)).await.unwrap();
    while id(&soon(edge.trunk.incoming.recv()).await.unwrap()) != 5 {}
}

/// Authors hear in the order in which they wrote, although the older ones waited for the lost node and
/// the others for any.
#[tokio::test]
async fn nobody_is_told_before_those_who_wrote_earlier() {
    let ca = TestCa::new();
    let mut hasty = tuning();
    hasty.failover_after = Duration::from_millis(10);
    hasty.patience = Duration::from_millis(600);
    let mut edge = edge(&ca, "edge.example", &["core.example"], hasty.clone()).await;
    let proxy = Proxy::to(edge.address).await;
    let core = core(&ca, "core.example", &[("edge.example", proxy.address)], hasty);
    core.diary.wait("up edge.example", 1).await;
    edge.trunk.sender.send(inward(0)).await.unwrap();
    proxy.turn(None);
    edge.diary.wait("down core.example", 1).await;
    let mut count = 1;
    while soon(edge.trunk.sender.send(inward(count))).await.is_ok() {
        count += 1;
    }
    // The last one was refused. By then all before it have gone back, but for what the core has.
    let mut told = Vec::new();
    while let Ok(bounce) = edge.trunk.incoming.try_recv() {
        told.push(id(&bounce));
    }
    let first = told.first().copied().unwrap_or(count);
    assert!(first <= 1, "{first}");
    assert_eq!(told, (first..count).collect::<Vec<_>>());
}
