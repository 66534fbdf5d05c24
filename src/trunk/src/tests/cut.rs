use std::time::Duration;

use gatehouse_net::now;
use gatehouse_testkit::TestCa;

use super::world::{Proxy, core, edge, id, inward, numbers, out, soon, take, tuning};
use crate::TrunkSender;

const LEN: usize = 1500;

async fn pour(sender: TrunkSender, make: fn(usize) -> gatehouse_xmpp::Stanza) {
    for id in 0..LEN {
        soon(sender.send(make(id))).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn cuts_lose_nothing_double_nothing_and_keep_the_order() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let proxy = Proxy::to(edge.address).await;
    let mut core = core(&ca, "core.example", &[("edge.example", proxy.address)], tuning());
    let (to_edge, to_core) = (core.trunk.sender.clone(), edge.trunk.sender.clone());
    let cut = |got: usize| {
        if got % 240 == 100 {
            proxy.cut();
        }
    };
    let (_, _, at_edge, at_core) = tokio::join!(
        pour(to_edge, out),
        pour(to_core, inward),
        take(&mut edge, LEN, cut),
        take(&mut core, LEN, |_| {}),
    );
    assert_eq!(at_edge, numbers(LEN));
    assert_eq!(at_core, numbers(LEN));
    assert!(core.diary.entries().len() > 3, "it was not cut: {:?}", core.diary.entries());
    // Nothing comes late, after all was there.
    core.trunk.sender.send(out(LEN)).await.unwrap();
    assert_eq!(id(&soon(edge.trunk.incoming.recv()).await.unwrap()), LEN);
}

#[tokio::test]
async fn a_restarted_edge_gets_what_the_old_one_had_not_finished() {
    let ca = TestCa::new();
    let mut old = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let mut new = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let proxy = Proxy::to(old.address).await;
    let core = core(&ca, "core.example", &[("edge.example", proxy.address)], tuning());
    for id in 0..10 {
        core.trunk.sender.send(out(id)).await.unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(soon(old.trunk.incoming.recv()).await.unwrap());
    }
    // The old edge dies with all of them in its hands.
    proxy.turn(Some(new.address));
    let lost_at = now();
    core.trunk.sender.send(out(10)).await.unwrap();
    assert_eq!(take(&mut new, 11, |_| {}).await, numbers(11));
    assert!(now() - lost_at < Duration::from_secs(3), "{:?}", now() - lost_at);
}

#[tokio::test]
async fn a_restarted_core_gets_what_the_old_one_had_not_finished() {
    let ca = TestCa::new();
    let edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let proxy = Proxy::to(edge.address).await;
    let mut old = core(&ca, "core.example", &[("edge.example", proxy.address)], tuning());
    old.diary.wait("up edge.example", 1).await;
    for id in 0..5 {
        edge.trunk.sender.send(inward(id)).await.unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(soon(old.trunk.incoming.recv()).await.unwrap());
    }
    proxy.turn(None);
    edge.diary.wait("down core.example", 1).await;
    let mut new = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    edge.trunk.sender.send(inward(5)).await.unwrap();
    assert_eq!(take(&mut new, 6, |_| {}).await, numbers(6));
}

/// The edge has not noticed that the old connection is dead when the new one comes.
#[tokio::test]
async fn a_newer_connection_of_the_same_core_takes_over() {
    let ca = TestCa::new();
    let edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let first = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    first.diary.wait("up edge.example", 1).await;
    let mut second = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    second.diary.wait("up edge.example", 1).await;
    edge.diary.wait("up core.example", 2).await;
    let first_three: Vec<_> = edge.diary.entries().into_iter().take(3).collect();
    assert_eq!(first_three, ["up core.example", "down core.example", "up core.example"]);
    first.tasks.shut_down(Duration::ZERO).await.ok();
    edge.trunk.sender.send(inward(0)).await.unwrap();
    assert_eq!(take(&mut second, 1, |_| {}).await, [0]);
}
