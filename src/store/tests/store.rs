//! Every method with its yes and its no, on a database file of its own.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only the bodies of tests, not what they call"
)]

use std::path::{Path, PathBuf};

use gatehouse_store::{
    Contact, ContactCount, ContactLimits, OfflineLimits, RosterChange, Store, StoreError,
    StoredKeys, Subscription,
};
use gatehouse_types::{Domain, Jid};
use tempfile::TempDir;

/// A store in a directory that goes away with it.
struct World {
    directory: TempDir,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("gatehouse.sqlite")).await.unwrap();
        Self { directory, store }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("gatehouse.sqlite")
    }

    /// With alice and bob.
    async fn with_accounts() -> Self {
        let world = Self::new().await;
        world.store.add_account(&alice(), &[keys("SCRAM-SHA-256", 1)]).await.unwrap();
        world.store.add_account(&bob(), &[keys("SCRAM-SHA-256", 2)]).await.unwrap();
        world
    }
}

fn jid(text: &str) -> Jid {
    text.parse().unwrap()
}

fn alice() -> Jid {
    jid("alice@ours.example")
}

fn bob() -> Jid {
    jid("bob@ours.example")
}

fn nobody() -> Jid {
    jid("nobody@ours.example")
}

fn keys(mechanism: &str, seed: u8) -> StoredKeys {
    StoredKeys {
        mechanism: mechanism.to_owned(),
        salt: vec![seed; 16],
        iterations: 10_000,
        stored_key: vec![seed; 32],
        server_key: vec![seed.wrapping_add(1); 32],
    }
}

fn contact(address: &str) -> Contact {
    Contact {
        jid: jid(address),
        in_roster: true,
        name: None,
        subscription: Subscription::None,
        pending_out: false,
        pending_in: None,
        approved: false,
        groups: Vec::new(),
    }
}

fn request(address: &str) -> Contact {
    Contact {
        in_roster: false,
        pending_in: Some(format!("<presence from='{address}' type='subscribe'/>")),
        ..contact(address)
    }
}

const WIDE: OfflineLimits = OfflineLimits { per_account: 100, per_node: 30_000 };

fn is_no_account<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NoAccount(account)) if account == nobody())
}

mod accounts {
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
}

mod contacts {
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
        let others =
            [Subscription::None, Subscription::To, Subscription::Both].map(|subscription| {
                let name = format!("{}@theirs.example", subscription.as_str());
                Contact { subscription, ..contact(&name) }
            });
        let asking = request("asks@theirs.example");
        for each in others.iter().chain([&full, &asking]) {
            store.put_contact(&alice(), each).await.unwrap();
            assert_eq!(store.contact(&alice(), &each.jid).await.unwrap().as_ref(), Some(each));
        }
        let [none, to, both] = others;
        assert_eq!(
            store.contacts(&alice()).await.unwrap().contacts,
            [asking, both, none, to, full]
        );
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
        let put =
            async |contact: &Contact| store.put_contact_within(&alice(), contact, limits).await;
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
}

mod offline {
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
}

mod small_things {
    use super::*;

    #[tokio::test]
    async fn vcards() {
        let world = World::with_accounts().await;
        let store = &world.store;
        assert_eq!(store.vcard(&alice()).await.unwrap(), None);
        store.set_vcard(&alice(), "<vCard>1</vCard>").await.unwrap();
        store.set_vcard(&alice(), "<vCard>2</vCard>").await.unwrap();
        assert_eq!(store.vcard(&alice()).await.unwrap().as_deref(), Some("<vCard>2</vCard>"));
        assert_eq!(store.vcard(&bob()).await.unwrap(), None);
        assert_eq!(store.vcard(&nobody()).await.unwrap(), None);
        assert!(is_no_account(store.set_vcard(&nobody(), "<vCard/>").await));
    }

    #[tokio::test]
    async fn block_lists() {
        let world = World::with_accounts().await;
        let store = &world.store;
        let [domain, bare, full] = ["spam.example", "a@t.example", "a@t.example/x"].map(jid);
        store.block(&alice(), &[full.clone(), domain.clone()]).await.unwrap();
        store.block(&alice(), &[domain.clone(), bare.clone()]).await.unwrap();
        let mut all = vec![domain.clone(), bare.clone(), full.clone()];
        all.sort();
        assert_eq!(store.blocked(&alice()).await.unwrap(), all);
        assert_eq!(store.blocked(&bob()).await.unwrap(), []);

        // Exactly the address that is named.
        store.unblock(&alice(), &[bare.clone(), jid("never@t.example")]).await.unwrap();
        assert_eq!(store.blocked(&alice()).await.unwrap().len(), 2);
        assert!(!store.blocked(&alice()).await.unwrap().contains(&bare));
        store.block(&bob(), &[domain]).await.unwrap();
        store.unblock(&alice(), &[]).await.unwrap();
        assert_eq!(store.blocked(&alice()).await.unwrap(), []);
        assert_eq!(store.blocked(&bob()).await.unwrap().len(), 1);

        assert!(is_no_account(store.block(&nobody(), std::slice::from_ref(&bare)).await));
        assert_eq!(store.blocked(&nobody()).await.unwrap(), []);
        store.unblock(&nobody(), &[bare]).await.unwrap();
    }

    #[tokio::test]
    async fn secrets_stay() {
        let world = World::new().await;
        let store = &world.store;
        assert_eq!(store.secret("a", [1; 32]).await.unwrap(), [1; 32]);
        assert_eq!(store.secret("a", [2; 32]).await.unwrap(), [1; 32]);
        assert_eq!(store.secret("b", [2; 32]).await.unwrap(), [2; 32]);
    }
}

mod two_handles {
    use super::*;

    #[tokio::test]
    async fn see_what_the_other_wrote() {
        let world = World::with_accounts().await;
        let other = Store::open(&world.path()).await.unwrap();
        other.add_account(&jid("carol@ours.example"), &[keys("SCRAM-SHA-1", 1)]).await.unwrap();
        assert!(world.store.has_account(&jid("carol@ours.example")).await.unwrap());
        world.store.push_offline(&alice(), 1, "<m/>", WIDE).await.unwrap();
        assert_eq!(other.offline(&alice()).await.unwrap().len(), 1);
        assert_eq!(other.secret("s", [1; 32]).await.unwrap(), [1; 32]);
        assert_eq!(world.store.secret("s", [2; 32]).await.unwrap(), [1; 32]);
    }

    /// Reading and writing from both at once: nothing is lost, nothing fails as busy, no version is
    /// given twice.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn take_turns() {
        let world = World::with_accounts().await;
        let handles = [world.store.clone(), Store::open(&world.path()).await.unwrap()];
        let work = (0..40).map(|number| {
            let store = handles[number % 2].clone();
            async move {
                let each = contact(&format!("c{number}@t.example"));
                let version = store.put_contact(&alice(), &each).await.unwrap();
                let seen = store.contacts(&alice()).await.unwrap();
                assert!(seen.version >= version && seen.contacts.contains(&each));
                store.push_offline(&alice(), 1, "<m/>", WIDE).await.unwrap();
                version
            }
        });
        let mut versions = all_at_once(work).await;
        versions.sort_unstable();
        versions.dedup();
        assert_eq!(versions.len(), 40);
        assert_eq!(world.store.contact_count(&alice()).await.unwrap().roster, 40);
        assert_eq!(world.store.offline(&alice()).await.unwrap().len(), 40);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn may_make_the_file_at_once() {
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("new.sqlite");
            let opens = (0..6).map(|number| {
                let path = path.clone();
                async move {
                    let store = Store::open(&path).await.unwrap();
                    let account = jid(&format!("u{number}@ours.example"));
                    store.add_account(&account, &[]).await.unwrap();
                    store
                }
            });
            let stores = all_at_once(opens).await;
            assert_eq!(stores[0].accounts(None).await.unwrap().len(), 6);
        }
    }
}

mod files {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn are_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let made = directory.path().join("data/core");
        let path = made.join("gatehouse.sqlite");
        let store = Store::open(&path).await.unwrap();
        store.add_account(&alice(), &[]).await.unwrap();
        assert!(store.has_account(&alice()).await.unwrap());
        assert_eq!((mode(&made), mode(made.parent().unwrap())), (0o700, 0o700));
        let mut names = vec![];
        for entry in std::fs::read_dir(&made).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["gatehouse.sqlite", "gatehouse.sqlite-shm", "gatehouse.sqlite-wal"]);

        // Closed: one whole file, which can be copied.
        store.close().await;
        assert_eq!(std::fs::read_dir(&made).unwrap().count(), 1);
        assert!(store.has_account(&alice()).await.is_err());
    }

    #[tokio::test]
    async fn that_were_open_to_others_are_closed_to_them() {
        let world = World::with_accounts().await;
        world.store.close().await;
        std::fs::set_permissions(world.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        Store::open(&world.path()).await.unwrap();
        assert_eq!(mode(&world.path()), 0o600);
    }

    #[tokio::test]
    async fn keep_everything_over_a_restart() {
        let world = World::with_accounts().await;
        let store = &world.store;
        store.put_contact(&alice(), &contact("c@theirs.example")).await.unwrap();
        store.push_offline(&alice(), 7, "<message/>", WIDE).await.unwrap();
        store.set_vcard(&alice(), "<vCard/>").await.unwrap();
        store.block(&alice(), &[jid("spam.example")]).await.unwrap();
        store.secret("s", [1; 32]).await.unwrap();
        let (contacts, offline) =
            (store.contacts(&alice()).await.unwrap(), store.offline(&alice()).await.unwrap());
        store.close().await;

        // Opening again, also twice, changes nothing.
        Store::open(&world.path()).await.unwrap().close().await;
        let store = Store::open(&world.path()).await.unwrap();
        assert_eq!(store.accounts(None).await.unwrap(), [alice(), bob()]);
        assert_eq!(store.keys(&alice()).await.unwrap(), [keys("SCRAM-SHA-256", 1)]);
        assert_eq!(store.contacts(&alice()).await.unwrap(), contacts);
        assert_eq!(store.offline(&alice()).await.unwrap(), offline);
        assert_eq!(store.vcard(&alice()).await.unwrap().as_deref(), Some("<vCard/>"));
        assert_eq!(store.blocked(&alice()).await.unwrap(), [jid("spam.example")]);
        assert_eq!(store.secret("s", [2; 32]).await.unwrap(), [1; 32]);
    }

    #[tokio::test]
    async fn of_a_newer_version_are_refused_and_left_alone() {
        let world = World::with_accounts().await;
        world.store.close().await;
        execute(
            &world.path(),
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', TRUE, x'00', 0)",
        )
        .await;
        let before = std::fs::read(world.path()).unwrap();
        let error = Store::open(&world.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("newer Gatehouse") && text.contains("9999"), "{text}");
        assert_eq!(std::fs::read(world.path()).unwrap(), before);
    }

    #[tokio::test]
    async fn that_are_not_ours_are_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let noise = directory.path().join("noise");
        std::fs::write(&noise, "not a database, and long enough to have a header ".repeat(40))
            .unwrap();
        let foreign = directory.path().join("foreign.sqlite");
        std::fs::write(&foreign, "").unwrap();
        execute(&foreign, "CREATE TABLE prosody (host TEXT)").await;
        for path in [noise.as_path(), foreign.as_path(), directory.path()] {
            let before = std::fs::read(path).ok();
            let error = Store::open(path).await.unwrap_err();
            assert!(matches!(&error, StoreError::Open { .. }), "{error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(std::fs::read(path).ok(), before);
        }
    }
}

async fn connect(path: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap()
}

async fn execute(path: &Path, statement: &'static str) {
    let mut connection = connect(path).await;
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
}

async fn rows(path: &Path, table: &str) -> i64 {
    let mut connection = connect(path).await;
    let statement = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap()
}

/// Runs all of them at the same time.
async fn all_at_once<T: Send + 'static>(
    work: impl IntoIterator<Item: Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    work.into_iter().collect::<tokio::task::JoinSet<T>>().join_all().await
}

mod held {
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
}
