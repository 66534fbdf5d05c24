use super::*;

#[tokio::test]
async fn come_back_as_they_were() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let full = Contact {
        name: Some("Zoë <z>".to_owned()),
        subscription: Subscription::From,
        pending_out: true,
        approved: true,
        groups: vec!["Friends".to_owned(), "\"quoted\" [x]".to_owned()],
        ..contact("z@theirs.example")
    };
    let others = [Subscription::None, Subscription::To, Subscription::Both].map(|subscription| {
        let name = format!("{}@theirs.example", subscription.as_str());
        Contact { subscription, ..contact(&name) }
    });
    let asking = request("asks@theirs.example");
    for each in others.iter().chain([&full, &asking]) {
        store.put_contact(&alice(), each).await.unwrap();
        assert_eq!(store.contact(&alice(), &each.jid).await.unwrap().as_ref(), Some(each));
    }
    let [none, to, both] = others;
    assert_eq!(store.contacts(&alice()).await.unwrap().contacts, [asking, both, none, to, full]);
    assert_eq!(store.contacts(&bob()).await.unwrap().contacts, []);
    assert_eq!(store.contact(&bob(), &jid("z@theirs.example")).await.unwrap(), None);
}

#[tokio::test]
async fn of_no_account() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let some = contact("c@theirs.example");
    assert!(is_no_account(store.put_contact(&nobody(), &some).await));
    assert!(is_no_account(store.remove_contact(&nobody(), &some.jid).await));
    assert_eq!(store.contacts(&nobody()).await.unwrap(), Default::default());
    assert_eq!(store.contact_count(&nobody()).await.unwrap(), ContactCount::default());
    assert_eq!(store.contacts_since(&nobody(), 0).await.unwrap(), None);
}

#[tokio::test]
async fn only_the_roster_has_versions() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let start = store.contacts(&alice()).await.unwrap().version;
    let put = async |contact: &Contact| store.put_contact(&alice(), contact).await.unwrap();
    let address = "c@theirs.example";

    // A request, changed or removed, is not in the roster.
    assert_eq!(put(&request(address)).await, start);
    assert_eq!(put(&request(address)).await, start);
    assert_eq!(store.remove_contact(&alice(), &jid(address)).await.unwrap(), start);
    assert_eq!(store.contacts_since(&alice(), start).await.unwrap(), Some(vec![]));
    // Into the roster, changed there, out of it, and gone.
    assert_eq!(put(&request(address)).await, start);
    assert_eq!(put(&contact(address)).await, start + 1);
    assert_eq!(put(&contact(address)).await, start + 2);
    assert_eq!(put(&request(address)).await, start + 3);
    assert_eq!(store.remove_contact(&alice(), &jid(address)).await.unwrap(), start + 3);
    assert_eq!(put(&contact(address)).await, start + 4);
    assert_eq!(store.remove_contact(&alice(), &jid(address)).await.unwrap(), start + 5);
    // What is not there cannot be removed.
    assert_eq!(store.remove_contact(&alice(), &jid(address)).await.unwrap(), start + 5);

    assert_eq!(store.contacts(&alice()).await.unwrap().version, start + 5);
    assert_ne!(store.contacts(&bob()).await.unwrap().version, start + 5);
}

#[tokio::test]
async fn changes_are_told_once_each_and_in_order() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let start = store.contacts(&alice()).await.unwrap().version;
    let [a, b, c] = ["a@t.example", "b@t.example", "c@t.example"].map(contact);
    store.put_contact(&alice(), &a).await.unwrap(); // +1
    store.put_contact(&alice(), &b).await.unwrap(); // +2
    store.put_contact(&alice(), &c).await.unwrap(); // +3
    store.remove_contact(&alice(), &b.jid).await.unwrap(); // +4
    let named = Contact { name: Some("A".to_owned()), ..a };
    store.put_contact(&alice(), &named).await.unwrap(); // +5
    store.put_contact(&alice(), &request("s@t.example")).await.unwrap();

    let since = async |version: u64| store.contacts_since(&alice(), version).await.unwrap();
    let all = vec![
        RosterChange::Changed { version: start + 3, contact: c.clone() },
        RosterChange::Removed { version: start + 4, jid: b.jid.clone() },
        RosterChange::Changed { version: start + 5, contact: named.clone() },
    ];
    assert_eq!(since(start).await, Some(all.clone()));
    assert_eq!(since(start + 2).await, Some(all.clone()));
    assert_eq!(since(start + 3).await, Some(all[1..].to_vec()));
    assert_eq!(since(start + 4).await, Some(all[2..].to_vec()));
    assert_eq!(since(start + 5).await, Some(vec![]));
    // Never ours: from the future, from before the account, from another node.
    for version in [start + 6, start - 1, 0, u64::MAX] {
        assert_eq!(since(version).await, None, "{version}");
    }

    // Back again: no longer told as removed.
    store.put_contact(&alice(), &b).await.unwrap(); // +6
    assert_eq!(
        since(start + 5).await,
        Some(vec![RosterChange::Changed { version: start + 6, contact: b.clone() }])
    );
    // Out of the roster, but still known as a request.
    store.put_contact(&alice(), &request("c@t.example")).await.unwrap(); // +7
    assert_eq!(
        since(start + 6).await,
        Some(vec![RosterChange::Removed { version: start + 7, jid: c.jid }])
    );
}

#[tokio::test]
async fn old_removals_are_forgotten_and_the_client_gets_everything() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let start = store.contacts(&alice()).await.unwrap().version;
    let mut versions = vec![];
    for number in 0..201 {
        let each = contact(&format!("c{number}@t.example"));
        store.put_contact(&alice(), &each).await.unwrap();
        versions.push(store.remove_contact(&alice(), &each.jid).await.unwrap());
    }
    // The first of 201 removals is forgotten, so who has not seen it cannot be told.
    assert_eq!(store.contacts_since(&alice(), start).await.unwrap(), None);
    assert_eq!(store.contacts_since(&alice(), versions[0] - 1).await.unwrap(), None);
    let rest = store.contacts_since(&alice(), versions[0]).await.unwrap().unwrap();
    assert_eq!(rest.iter().map(RosterChange::version).collect::<Vec<_>>(), versions[1..]);
}

#[tokio::test]
async fn caps_hold_exactly_and_apart() {
    let world = World::with_accounts().await;
    let store = &world.store;
    let limits = ContactLimits { roster: 2, requests: 1, watchers: 1 };
    let put = async |contact: &Contact| store.put_contact_within(&alice(), contact, limits).await;
    let is_full = |result: Result<u64, StoreError>, want: &str, at: u64| matches!(result, Err(StoreError::Full { what, limit }) if what == want && limit == at);
    put(&request("s@t.example")).await.unwrap();
    let second = put(&request("t@t.example")).await;
    assert!(is_full(second, "the list of subscription requests", 1));

    // Strangers do not take the place of contacts.
    put(&contact("a@t.example")).await.unwrap();
    put(&contact("b@t.example")).await.unwrap();
    assert!(is_full(put(&contact("c@t.example")).await, "the roster", 2));
    // Nor does a request become a contact when there is no room.
    assert!(is_full(put(&contact("s@t.example")).await, "the roster", 2));
    assert_eq!(
        store.contact_count(&alice()).await.unwrap(),
        ContactCount { roster: 2, requests: 1 }
    );

    // What is there can be changed when all is full.
    put(&contact("a@t.example")).await.unwrap();
    put(&request("s@t.example")).await.unwrap();
    // Others are not concerned, and neither is a caller without caps.
    store.put_contact_within(&bob(), &contact("a@t.example"), limits).await.unwrap();
    store.put_contact(&alice(), &contact("c@t.example")).await.unwrap();
    assert_eq!(store.contact_count(&alice()).await.unwrap().roster, 3);
}
