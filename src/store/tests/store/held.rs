use super::*;

fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("<message id='{number}'/>")).collect()
}

#[tokio::test]
async fn what_was_held_at_a_crash_waits_in_the_store() {
    let world = World::new().await;
    let store = &world.store;
    store.add_account(&alice(), &[]).await.unwrap();
    let limits = OfflineLimits { per_account: 1, per_node: 1 };
    store.push_offline(&alice(), 1, "<message id='0'/>", limits).await.unwrap();
    let first = store.hold(&alice(), 5, &texts(1..3)).await.unwrap();
    let second = store.hold(&alice(), 6, &texts(3..5)).await.unwrap();
    assert!(store.hold(&nobody(), 6, &texts(5..6)).await.unwrap().is_empty());
    store.let_go(&[first[1], second[0]]).await.unwrap();
    // Nobody is handed out what a session holds.
    assert_eq!(store.offline(&alice()).await.unwrap().len(), 1);
    assert_eq!(store.recover_held().await.unwrap(), 2);
    assert_eq!(store.recover_held().await.unwrap(), 0);
    let found = store.offline(&alice()).await.unwrap();
    let found: Vec<(i64, &str)> =
        found.iter().map(|it| (it.received_ms, it.stanza.as_str())).collect();
    assert_eq!(
        found,
        [(1, "<message id='0'/>"), (5, "<message id='1'/>"), (6, "<message id='4'/>")]
    );
}

#[tokio::test]
async fn one_account_does_not_use_up_the_room_of_others() {
    let world = World::new().await;
    let store = &world.store;
    for account in [alice(), bob()] {
        store.add_account(&account, &[]).await.unwrap();
    }
    let held = store.hold(&alice(), 5, &texts(0..5_000)).await.unwrap();
    // Nor in one commit.
    let (one, two) = (texts(0..1), texts(0..2));
    let of = [(&alice(), &one[..]), (&bob(), &two[..]), (&nobody(), &one[..])];
    let outcomes = store.hold_all(5, &of).await.unwrap();
    let kept: Vec<_> = outcomes.iter().map(|it| it.as_ref().ok().map(Vec::len)).collect();
    assert_eq!(kept, [None, Some(2), Some(0)]);
    let full = store.hold(&alice(), 5, &texts(0..1)).await.unwrap_err();
    assert!(matches!(full, StoreError::Full { limit: 5_000, .. }), "{full}");
    assert_eq!(store.hold(&bob(), 5, &texts(0..1)).await.unwrap().len(), 1);
    store.let_go(&held[..1]).await.unwrap();
    assert_eq!(store.hold(&alice(), 5, &texts(0..1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_held_goes_with_its_account() {
    let world = World::new().await;
    world.store.add_account(&alice(), &[]).await.unwrap();
    world.store.hold(&alice(), 5, &texts(1..3)).await.unwrap();
    world.store.remove_account(&alice()).await.unwrap();
    assert_eq!(world.store.recover_held().await.unwrap(), 0);
}
