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
    std::fs::write(&noise, "not a database, and long enough to have a header ".repeat(40)).unwrap();
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
