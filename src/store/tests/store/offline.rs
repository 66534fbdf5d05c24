use super::*;

#[tokio::test]
async fn messages_wait_in_order_until_removed() {
    let world = World::with_accounts().await;
    let store = &world.store;
    for (account, time, stanza) in
        [(alice(), 30, "<a1/>"), (bob(), 20, "<b1/>"), (alice(), 10, "<a2/>")]
    {
        store.push_offline(&account, time, stanza, WIDE).await.unwrap();
    }
    let waiting = store.offline(&alice()).await.unwrap();
    let seen: Vec<_> = waiting.iter().map(|m| (m.received_ms, m.stanza.as_str())).collect();
    // In order of arrival, whatever the clock said.
    assert_eq!(seen, [(30, "<a1/>"), (10, "<a2/>")]);
    assert!(waiting[0].id < waiting[1].id);
    assert_eq!(store.offline(&alice()).await.unwrap(), waiting);

    // Up to and including, and only alice's.
    store.push_offline(&alice(), 40, "<a3/>", WIDE).await.unwrap();
    store.remove_offline(&alice(), waiting[1].id).await.unwrap();
    let rest = store.offline(&alice()).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].stanza, "<a3/>");
    assert_eq!(store.offline(&bob()).await.unwrap().len(), 1);

    // An id never comes again.
    store.remove_offline(&alice(), i64::MAX).await.unwrap();
    store.push_offline(&alice(), 50, "<a4/>", WIDE).await.unwrap();
    assert!(store.offline(&alice()).await.unwrap()[0].id > rest[0].id);
}

#[tokio::test]
async fn of_no_account() {
    let world = World::with_accounts().await;
    let store = &world.store;
    assert!(is_no_account(store.push_offline(&nobody(), 1, "<m/>", WIDE).await));
    assert_eq!(store.offline(&nobody()).await.unwrap(), []);
    store.remove_offline(&nobody(), 1).await.unwrap();
}

#[tokio::test]
async fn caps_hold_exactly() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let limits = OfflineLimits { per_account: 2, per_node: 3 };
    let push = async |account: Jid| store.push_offline(&account, 1, "<m/>", limits).await;
    let full = |result: Result<(), StoreError>| match result {
        Err(StoreError::Full { what, limit }) => format!("{what} {limit}"),
        other => panic!("{other:?}"),
    };
    push(alice()).await.unwrap();
    push(alice()).await.unwrap();
    assert_eq!(full(push(alice()).await), "the account's offline storage 2");
    push(bob()).await.unwrap();
    assert_eq!(full(push(bob()).await), "the node's offline storage 3");
    assert_eq!(store.offline(&alice()).await.unwrap().len(), 2);
    assert_eq!(store.offline(&bob()).await.unwrap().len(), 1);

    // Room again, for whoever comes first.
    let first = store.offline(&alice()).await.unwrap()[0].id;
    store.remove_offline(&alice(), first).await.unwrap();
    push(bob()).await.unwrap();
    assert_eq!(full(push(alice()).await), "the node's offline storage 3");
    // An account that goes makes room too.
    store.remove_account(&bob()).await.unwrap();
    push(alice()).await.unwrap();
}

#[tokio::test]
async fn caps_hold_when_many_push_at_once() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let limits = OfflineLimits { per_account: 5, per_node: 100 };
    let pushes = (0..20).map(|_| {
        let store = store.clone();
        async move { store.push_offline(&alice(), 1, "<m/>", limits).await.is_ok() }
    });
    let stored = all_at_once(pushes).await.into_iter().filter(|stored| *stored).count();
    assert_eq!(stored, 5);
    assert_eq!(store.offline(&alice()).await.unwrap().len(), 5);
}
