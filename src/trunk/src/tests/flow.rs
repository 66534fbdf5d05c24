use std::time::Duration;

use gatehouse_testkit::TestCa;

use super::world::{core, edge, inward, numbers, out, soon, take, tuning};

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

#[tokio::test]
async fn what_nobody_finished_is_not_acknowledged() {
    let ca = TestCa::new();
    let mut edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let core = core(&ca, "core.example", &[("edge.example", edge.address)], tuning());
    let dispatch = core.trunk.sender.dispatch();
    core.trunk.sender.send(out(0)).await.unwrap();
    core.trunk.sender.send(out(1)).await.unwrap();
    let first = soon(edge.trunk.incoming.recv()).await.unwrap();
    let second = soon(edge.trunk.incoming.recv()).await.unwrap();
    drop(second); // Out of turn: the first is still open.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(dispatch.pinned(), 2);
    drop(first);
    soon(async {
        while dispatch.pinned() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
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
