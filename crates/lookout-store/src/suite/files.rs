//! What is special about stores in files, and about closed ones.

use super::*;

#[tokio::test]
async fn a_store_file_is_private_and_its_folder_must_exist() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let rig = Rig::at(StoreUrl::SqliteFile(path.clone()));
    let store = rig.migrated().await;
    make(&store, "acme", "x").await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.path().display());
    }
    let url = StoreUrl::SqliteFile(folder.path().join("none/x.db"));
    let error = Store::open(&url, Arc::new(FixedClock::default())).await.unwrap_err();
    assert!(error.to_string().contains("none` of the store file"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let url = StoreUrl::SqliteFile(folder.path().into());
    let error = Store::open(&url, Arc::new(FixedClock::default())).await.unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");
}

#[tokio::test]
async fn a_closed_store_is_unavailable_and_says_no_one_is_wrong() {
    let store = Rig::at(StoreUrl::SqliteMemory).migrated().await;
    let (_, secret) = make(&store, "acme", "x").await;
    store.close().await;
    let error = store.authenticate(secret.expose()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(store.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
