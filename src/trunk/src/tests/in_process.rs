use gatehouse_net::now;

use super::world::{id, out};
use crate::in_process;

#[tokio::test]
async fn values_cross_in_order() {
    let (core, mut edge) = in_process();
    for id in 0..10 {
        core.sender.send(out(id)).await.unwrap();
    }
    for number in 0..10 {
        let transfer = edge.incoming.recv().await.unwrap();
        assert_eq!((id(&transfer), &transfer.stanza), (number, &out(number)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_for_but_not_for_ever() {
    let (core, mut edge) = in_process();
    let mut sent = 0;
    let error = loop {
        match core.sender.send(out(sent)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.role, "edge");
    assert_eq!(*error.stanza, out(sent));
    // The next one need not wait as long: nothing has moved since.
    let told_at = now();
    core.sender.send(out(sent)).await.unwrap_err();
    assert_eq!(now(), told_at);
    edge.incoming.recv().await.unwrap();
    core.sender.send(out(sent)).await.unwrap();
    // Something has: it is waited for as long as ever.
    core.sender.send(out(sent)).await.unwrap_err();
    assert_eq!((now() - told_at).as_secs(), 30);
}

#[tokio::test]
async fn a_stopped_role_is_unreachable_at_once() {
    let (core, edge) = in_process();
    drop(core);
    let error = edge.sender.send(out(0)).await.unwrap_err();
    assert_eq!(error.to_string(), "the core cannot be reached: it has stopped");
}

#[tokio::test]
async fn what_cannot_wait_is_refused_by_a_full_queue_and_a_stopped_role() {
    let (core, mut edge) = in_process();
    let mut sent = 0;
    let error = loop {
        match core.sender.try_send(out(sent)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(*error.stanza, out(sent));
    assert_eq!(error.to_string(), "the edge cannot be reached: its queue is full");
    edge.incoming.recv().await.unwrap();
    core.sender.try_send(out(sent)).unwrap();
    drop(edge);
    let error = core.sender.try_send(out(0)).unwrap_err();
    assert_eq!(error.to_string(), "the edge cannot be reached: it has stopped");
}

/// Few stanzas, but many bytes: what waits is bounded, and so is what was taken and is not safe.
#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_until_they_are_safe() {
    let (core, mut edge) = in_process();
    let heavy = || {
        let mut stanza = out(0);
        stanza.payload_mut().append_text("x".repeat(1 << 20));
        stanza
    };
    let mut sent = 0;
    while core.sender.try_send(heavy()).is_ok() {
        sent += 1;
    }
    assert!((16..=32).contains(&sent), "{sent}");
    let taken = edge.incoming.recv().await.unwrap();
    assert!(core.sender.try_send(heavy()).is_err());
    let error = core.sender.send(heavy()).await.unwrap_err();
    assert_eq!(error.to_string(), "the edge cannot be reached: its queue was full for 30 s");
    drop(taken);
    core.sender.send(heavy()).await.unwrap();
    // However heavy, one alone fits.
    drop(edge);
    let (core, mut edge) = in_process();
    let mut whale = out(0);
    whale.payload_mut().append_text("x".repeat(40 << 20));
    core.sender.send(whale).await.unwrap();
    assert!(core.sender.try_send(out(1)).is_err());
    drop(edge.incoming.recv().await.unwrap());
    core.sender.try_send(out(1)).unwrap();
}
