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
