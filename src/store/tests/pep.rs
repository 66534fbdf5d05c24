//! What accounts publish (XEP-0163), on a database file of its own.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only the bodies of tests, not what they call"
)]

use gatehouse_store::{PepAccess, PepConfig, PepItem, PepLimits, PepNode, Store, StoreError};
use gatehouse_types::Jid;
use tempfile::TempDir;

const LIMITS: PepLimits = PepLimits { nodes: 2, bytes: 40 };

fn alice() -> Jid {
    "alice@ours.example".parse().unwrap()
}

async fn store() -> (Store, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("gatehouse.sqlite")).await.unwrap();
    store.add_account(&alice(), &[]).await.unwrap();
    (store, directory)
}

fn node(name: &str, max_items: u64) -> PepNode {
    let config =
        PepConfig { access: PepAccess::Presence, max_items, persist: true, send_last: true };
    PepNode { node: name.to_owned(), config }
}

fn item(id: &str, payload: &str) -> PepItem {
    PepItem { id: id.to_owned(), payload: payload.to_owned() }
}

async fn ids(store: &Store, node: &str) -> Vec<String> {
    let items = store.pep_items(&alice(), node).await.unwrap();
    items.into_iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn the_oldest_items_give_way() {
    let (store, _files) = store().await;
    for id in ["a", "b", "a", "c"] {
        store.publish_pep(&alice(), &node("n", 2), &item(id, "<x/>"), LIMITS).await.unwrap();
    }
    assert_eq!(ids(&store, "n").await, ["a", "c"]);
    let newest = store.newest_pep_items(&alice(), "n", 1).await.unwrap();
    assert_eq!(newest, [item("c", "<x/>")]);
    // Fewer are kept from now on.
    store.put_pep_node(&alice(), &node("n", 1), LIMITS).await.unwrap();
    assert_eq!(ids(&store, "n").await, ["c"]);
    assert_eq!(store.pep_nodes(&alice()).await.unwrap(), [node("n", 1)]);
}

#[tokio::test]
async fn nodes_and_bytes_are_bounded() {
    let (store, _files) = store().await;
    for name in ["one", "two"] {
        store.publish_pep(&alice(), &node(name, 5), &item("1", "<x/>"), LIMITS).await.unwrap();
    }
    let third = store.publish_pep(&alice(), &node("three", 5), &item("1", ""), LIMITS).await;
    assert!(matches!(third, Err(StoreError::Full { limit: 2, .. })), "{third:?}");
    let long = "x".repeat(37);
    let heavy = store.publish_pep(&alice(), &node("one", 5), &item("2", &long), LIMITS).await;
    assert!(matches!(heavy, Err(StoreError::Full { limit: 40, .. })), "{heavy:?}");
    // All or nothing.
    assert_eq!(ids(&store, "one").await, ["1"]);
    // In place of what is there it fits.
    let fits = "x".repeat(36);
    store.publish_pep(&alice(), &node("one", 5), &item("1", &fits), LIMITS).await.unwrap();
}

#[tokio::test]
async fn what_is_removed_is_gone_and_what_is_not_there_is_said() {
    let (store, _files) = store().await;
    store.publish_pep(&alice(), &node("n", 5), &item("1", "<x/>"), LIMITS).await.unwrap();
    assert!(!store.remove_pep_items(&alice(), "n", Some("2")).await.unwrap());
    assert!(!store.remove_pep_items(&alice(), "m", Some("1")).await.unwrap());
    assert!(store.remove_pep_items(&alice(), "n", Some("1")).await.unwrap());
    store.publish_pep(&alice(), &node("n", 5), &item("3", "<x/>"), LIMITS).await.unwrap();
    assert!(store.remove_pep_items(&alice(), "n", None).await.unwrap());
    assert!(store.remove_pep_node(&alice(), "n").await.unwrap());
    assert!(!store.remove_pep_node(&alice(), "n").await.unwrap());
}

#[tokio::test]
async fn what_is_not_to_persist_is_not_stored() {
    let (store, _files) = store().await;
    let mut passing = node("n", 5);
    passing.config.persist = false;
    store.publish_pep(&alice(), &passing, &item("1", "<x/>"), LIMITS).await.unwrap();
    assert!(ids(&store, "n").await.is_empty());
}

#[tokio::test]
async fn it_goes_with_the_account() {
    let (store, _files) = store().await;
    store.publish_pep(&alice(), &node("n", 5), &item("1", "<x/>"), LIMITS).await.unwrap();
    store.remove_account(&alice()).await.unwrap();
    let late = store.publish_pep(&alice(), &node("n", 5), &item("1", "<x/>"), LIMITS).await;
    assert!(matches!(late, Err(StoreError::NoAccount(_))), "{late:?}");
    store.add_account(&alice(), &[]).await.unwrap();
    assert!(store.pep_nodes(&alice()).await.unwrap().is_empty());
}
