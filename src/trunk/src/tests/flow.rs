use std::time::Duration;

use gatehouse_testkit::TestCa;

use super::world::{Proxy, core, edge, inward, numbers, out, soon, take, tuning};
use crate::Trunk;

#[tokio::test]
async fn stanzas_flow_both_ways_in_order() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let mut core = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    let (to_edge, to_core) = (core.trunk.sender.clone(), edge.trunk.sender.clone());
    let send = async {
        for id in 0..3000 {
            soon(to_edge.send(out(id))).await.unwrap();
            soon(to_core.send(inward(id))).await.unwrap();
        }
    };
    let (_, at_edge, at_core) =
        tokio::join!(send, take(&mut edge, 3000, |_| {}), take(&mut core, 3000, |_| {}));
    assert_eq!(at_edge, numbers(3000));
    assert_eq!(at_core, numbers(3000));
    assert_eq!(core.diary.entries(), ["up edge.example"]);
    assert_eq!(edge.diary.entries(), ["up core.example"]);
}

/// One that takes its time fills no window, and the others do not come again.
#[tokio::test]
async fn one_that_is_open_holds_up_no_other() {
    let ca = TestCa::new();
    let mut narrow = tuning();
    narrow.window.len_max = 4;
    let mut edge = edge(&ca, "edge.example", &["core.example"], narrow.clone()).await;
    let proxy = Proxy::to(edge.address).await;
    let core = core(&ca, "core.example", &[("edge.example", proxy.address)], narrow);
    core.trunk.sender.send(out(0)).await.unwrap();
    let slow = soon(edge.trunk.incoming.recv()).await.unwrap();
    let sender = core.trunk.sender.clone();
    for id in 1..100 {
        sender.send(out(id)).await.unwrap();
        let transfer = soon(edge.trunk.incoming.recv()).await.unwrap();
        assert_eq!(crate::tests::world::id(&transfer), id);
        if id % 40 == 0 {
            proxy.cut();
        }
    }
    let dispatch = core.trunk.sender.dispatch();
    for (len, done) in [(1, None), (0, Some(slow))] {
        drop(done);
        soon(async {
            while dispatch.pinned() > len {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// What was not finished comes again from another edge, and nothing else.
#[tokio::test]
async fn what_is_open_at_a_lost_edge_comes_again() {
    let ca = TestCa::new();
    let mut old = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let mut new = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let proxy = Proxy::to(old.address).await;
    let core = core(&ca, "core.example", &[("edge.example", proxy.address)], tuning());
    for id in 0..100 {
        core.trunk.sender.send(out(id)).await.unwrap();
    }
    let first = soon(old.trunk.incoming.recv()).await.unwrap();
    let _ = take(&mut old, 99, |_| {}).await;
    let dispatch = core.trunk.sender.dispatch();
    soon(async {
        while dispatch.pinned() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    proxy.turn(Some(new.address));
    let got = soon(new.trunk.incoming.recv()).await.unwrap();
    assert_eq!(crate::tests::world::id(&got), 0);
    drop((first, got));
    let dispatch = core.trunk.sender.dispatch();
    soon(async {
        while dispatch.pinned() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_window_slows_the_sender_and_loses_nothing() {
    let ca = TestCa::new();
    let mut narrow = tuning();
    narrow.window.len_max = 4;
    narrow.queue_kib_max = 8;
    let mut edge = edge(&ca, "edge.example", &["core.example"], narrow.clone()).await;
    let core = core(&ca, "core.example", &[("edge.example", edge.address)], narrow);
    let sender = core.trunk.sender.clone();
    let send = async {
        for id in 0..50 {
            sender.send(out(id)).await.unwrap();
        }
    };
    let (_, got) = soon(async { tokio::join!(send, take(&mut edge, 50, |_| {})) }).await;
    assert_eq!(got, numbers(50));
}

#[tokio::test]
async fn shutdown_delivers_what_is_left() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let core = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    core.diary.wait("up edge.example", 1).await;
    for id in 0..200 {
        core.trunk.sender.send(out(id)).await.unwrap();
    }
    let (outcome, got) =
        tokio::join!(core.tasks.shut_down(Duration::from_secs(10)), take(&mut edge, 200, |_| {}));
    assert_eq!(outcome, Ok(()));
    assert_eq!(got, numbers(200));
    edge.diary.wait("down core.example", 1).await;
}

/// A core that stops takes nothing more, but what its users say last still goes out.
#[tokio::test]
async fn a_role_that_takes_nothing_more_can_still_send_and_acknowledges_nothing() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let old = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    old.diary.wait("up edge.example", 1).await;
    let Trunk { sender, incoming } = old.trunk;
    for id in 0..3 {
        edge.trunk.sender.send(inward(id)).await.unwrap();
    }
    // Some wait in the queue that is dropped here, some come later.
    drop(incoming);
    edge.trunk.sender.send(inward(3)).await.unwrap();
    for id in 0..3 {
        sender.send(out(id)).await.unwrap();
    }
    assert_eq!(take(&mut edge, 3, |_| {}).await, numbers(3));
    old.tasks.shut_down(Duration::from_secs(10)).await.unwrap();
    let mut new = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    assert_eq!(take(&mut new, 4, |_| {}).await, numbers(4));
}
