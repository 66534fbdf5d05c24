use super::*;

#[tokio::test]
async fn are_added_once() {
    let world = World::with_accounts().await;
    let store = &world.store;
    assert!(store.has_account(&alice()).await.unwrap());
    assert!(store.has_account(&jid("alice@ours.example/phone")).await.unwrap());
    assert!(!store.has_account(&nobody()).await.unwrap());

    let again = store.add_account(&alice(), &[keys("SCRAM-SHA-256", 9)]).await.unwrap_err();
    assert!(matches!(again, StoreError::AccountExists(account) if account == alice()));
    // The refused one left the keys alone.
    assert_eq!(store.keys(&alice()).await.unwrap(), [keys("SCRAM-SHA-256", 1)]);
}

#[tokio::test]
async fn versions_change_with_the_keys_and_the_account() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let version = async || Some(store.credentials(&alice()).await.unwrap()?.version);
    let first = version().await;
    assert!(first.is_some());
    assert_eq!(version().await, first);
    store.set_keys(&alice(), &[keys("SCRAM-SHA-256", 9)]).await.unwrap();
    let second = version().await;
    assert_ne!(second, first);
    let known = store.account_versions(&[&alice(), &nobody()]).await.unwrap();
    assert_eq!(known, [(alice(), second.unwrap())]);
    store.remove_account(&alice()).await.unwrap();
    assert_eq!(version().await, None);
    store.add_account(&alice(), &[]).await.unwrap();
    let third = version().await;
    assert!(third.is_some() && third != first && third != second);
}

#[tokio::test]
async fn spellings_are_one_account() {
    let world = World::new().await;
    let store = &world.store;
    store.add_account(&jid("Ä@bücher.example"), &[]).await.unwrap();
    assert!(store.has_account(&jid("ä@xn--bcher-kva.example")).await.unwrap());
    let listed = store.accounts(Some(&"BÜCHER.example".parse().unwrap())).await.unwrap();
    assert_eq!(listed, [jid("ä@bücher.example")]);
}

#[tokio::test]
async fn need_a_local_part() {
    let world = World::new().await;
    let store = &world.store;
    assert!(store.add_account(&jid("ours.example"), &[]).await.is_err());
    assert_eq!(store.accounts(None).await.unwrap(), []);
}

#[tokio::test]
async fn keys_are_replaced_as_a_whole() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let both = [keys("SCRAM-SHA-1", 3), keys("SCRAM-SHA-256", 4)];
    store.set_keys(&alice(), &both).await.unwrap();
    assert_eq!(store.keys(&alice()).await.unwrap(), both);
    assert_eq!(store.keys(&bob()).await.unwrap(), [keys("SCRAM-SHA-256", 2)]);
    store.set_keys(&alice(), &both[1..]).await.unwrap();
    assert_eq!(store.keys(&alice()).await.unwrap(), both[1..]);

    // The same hash twice is refused, and nothing of it happened.
    let twice = [keys("SCRAM-SHA-1", 5), keys("SCRAM-SHA-1", 6)];
    assert!(store.set_keys(&alice(), &twice).await.is_err());
    assert_eq!(store.keys(&alice()).await.unwrap(), both[1..]);

    assert!(is_no_account(store.set_keys(&nobody(), &both).await));
    assert_eq!(store.keys(&nobody()).await.unwrap(), []);
}

#[tokio::test]
async fn are_listed_sorted_by_domain() {
    let world = World::new().await;
    let store = &world.store;
    for account in ["b@z.example", "b@a.example", "a@z.example", "a@a.example"] {
        store.add_account(&jid(account), &[]).await.unwrap();
    }
    let text =
        |accounts: Vec<Jid>| accounts.iter().map(Jid::to_string).collect::<Vec<_>>().join(" ");
    let domain = |name: &str| name.parse::<Domain>().unwrap();
    assert_eq!(
        text(store.accounts(None).await.unwrap()),
        "a@a.example b@a.example a@z.example b@z.example"
    );
    assert_eq!(
        text(store.accounts(Some(&domain("z.example"))).await.unwrap()),
        "a@z.example b@z.example"
    );
    assert_eq!(text(store.accounts(Some(&domain("example.com"))).await.unwrap()), "");
}

#[tokio::test]
async fn take_everything_with_them() {
    let world = World::with_accounts().await;
    let store = &world.store;
    for account in [alice(), bob()] {
        store.put_contact(&account, &contact("c@theirs.example")).await.unwrap();
        store.put_contact(&account, &contact("d@theirs.example")).await.unwrap();
        store.remove_contact(&account, &jid("d@theirs.example")).await.unwrap();
        store.push_offline(&account, 1, "<message/>", WIDE).await.unwrap();
        store.set_vcard(&account, "<vCard/>").await.unwrap();
        store.block(&account, &[jid("spam.example")]).await.unwrap();
    }
    let last_seen = store.contacts(&alice()).await.unwrap().version;
    store.remove_account(&alice()).await.unwrap();
    assert!(is_no_account(store.remove_account(&nobody()).await));
    assert!(!store.has_account(&alice()).await.unwrap());

    // Nothing of it is left in any table, and bob has lost nothing.
    for table in
        ["scram_keys", "contacts", "roster_removals", "offline_messages", "vcards", "blocked"]
    {
        assert_eq!(rows(&world.path(), table).await, 1, "{table}");
    }

    // Nor does it come back with the name.
    store.add_account(&alice(), &[]).await.unwrap();
    assert_eq!(store.keys(&alice()).await.unwrap(), []);
    assert_eq!(store.contacts(&alice()).await.unwrap().contacts, []);
    assert_eq!(store.offline(&alice()).await.unwrap(), []);
    assert_eq!(store.vcard(&alice()).await.unwrap(), None);
    assert_eq!(store.blocked(&alice()).await.unwrap(), []);
    assert_eq!(store.contacts_since(&alice(), last_seen).await.unwrap(), None);
    assert!(store.contacts(&alice()).await.unwrap().version > last_seen);
}

#[test]
fn keys_are_not_printed() {
    assert_eq!(format!("{:?}", keys("SCRAM-SHA-1", 7)), "StoredKeys(SCRAM-SHA-1, [redacted])");
}
