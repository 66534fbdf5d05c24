//! Tokens for log-ins, on a database file of their own.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only the bodies of tests, not what they call"
)]

use gatehouse_store::{AccountVersion, FastToken, Store};
use gatehouse_types::Jid;

const PHONE: &str = "phone-id";
const EXPR: &str = "HT-SHA-256-EXPR";

struct World {
    _directory: tempfile::TempDir,
    store: Store,
    alice: Jid,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("gatehouse.sqlite")).await.unwrap();
        let alice: Jid = "alice@ours.example".parse().unwrap();
        store.add_account(&alice, &[]).await.unwrap();
        Self { _directory: directory, store, alice }
    }

    async fn version(&self) -> AccountVersion {
        self.store.credentials(&self.alice).await.unwrap().unwrap().version
    }

    async fn add(&self, client: &str, token: &str, expires_ms: i64) -> bool {
        let token = FastToken { token: token.to_owned(), is_fresh: true, expires_ms };
        let version = self.version().await;
        self.store.add_token(version, client, EXPR, &token, 0).await.unwrap()
    }

    async fn known(&self, client: &str, mechanism: &str, now_ms: i64) -> Vec<String> {
        let found = self.store.fast_tokens(&self.alice, client, mechanism, now_ms).await.unwrap();
        found.unwrap().tokens.into_iter().map(|it| it.token).collect()
    }
}

#[tokio::test]
async fn the_old_one_is_good_until_the_new_one_is_used() {
    let world = World::new().await;
    assert!(world.add(PHONE, "one", 100).await);
    world.store.use_fresh_token(world.version().await, PHONE).await.unwrap();
    assert!(world.add(PHONE, "two", 100).await);
    assert_eq!(world.known(PHONE, EXPR, 0).await, ["one", "two"]);
    // The client did not get that one, and asked again.
    assert!(world.add(PHONE, "three", 100).await);
    assert_eq!(world.known(PHONE, EXPR, 0).await, ["one", "three"]);
    world.store.use_fresh_token(world.version().await, PHONE).await.unwrap();
    assert_eq!(world.known(PHONE, EXPR, 0).await, ["three"]);
    // There is no fresh one: the one in use stays.
    world.store.use_fresh_token(world.version().await, PHONE).await.unwrap();
    assert_eq!(world.known(PHONE, EXPR, 0).await, ["three"]);
    world.store.remove_tokens(world.version().await, "other").await.unwrap();
    assert_eq!(world.known(PHONE, EXPR, 0).await, ["three"]);
    world.store.remove_tokens(world.version().await, PHONE).await.unwrap();
    assert!(world.known(PHONE, EXPR, 0).await.is_empty());
}

#[tokio::test]
async fn a_token_is_good_for_one_client_one_mechanism_and_a_time() {
    let world = World::new().await;
    world.add(PHONE, "one", 100).await;
    assert_eq!(world.known(PHONE, EXPR, 99).await, ["one"]);
    assert!(world.known(PHONE, EXPR, 100).await.is_empty());
    assert!(world.known("other", EXPR, 0).await.is_empty());
    assert!(world.known(PHONE, "HT-SHA-256-NONE", 0).await.is_empty());
    let nobody = "nobody@ours.example".parse().unwrap();
    assert_eq!(world.store.fast_tokens(&nobody, PHONE, EXPR, 0).await.unwrap(), None);
}

#[tokio::test]
async fn other_keys_make_tokens_worthless() {
    let world = World::new().await;
    let before = world.version().await;
    world.add(PHONE, "one", 100).await;
    world.store.set_keys(&world.alice, &[]).await.unwrap();
    assert!(world.known(PHONE, EXPR, 0).await.is_empty());
    // Who logged in with the old ones gets no token either.
    let token = FastToken { token: "late".to_owned(), is_fresh: true, expires_ms: 100 };
    assert!(!world.store.add_token(before, PHONE, EXPR, &token, 0).await.unwrap());
    assert!(world.known(PHONE, EXPR, 0).await.is_empty());
    assert!(!format!("{token:?}").contains("late"));
    // And so does a new account of that name.
    world.add(PHONE, "two", 100).await;
    world.store.remove_account(&world.alice).await.unwrap();
    world.store.add_account(&world.alice, &[]).await.unwrap();
    assert!(world.known(PHONE, EXPR, 0).await.is_empty());
}

#[tokio::test]
async fn an_account_has_tokens_of_few_clients() {
    let world = World::new().await;
    for number in 0..25_i64 {
        world.add(&format!("client-{number}"), "one", 1000 - number).await;
    }
    // Each new one had its place, though its token expires first; then the next one took it.
    assert_eq!(world.known("client-24", EXPR, 0).await, ["one"]);
    assert!(world.known("client-23", EXPR, 0).await.is_empty());
    assert_eq!(world.known("client-18", EXPR, 0).await, ["one"]);
}
