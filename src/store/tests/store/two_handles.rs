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
