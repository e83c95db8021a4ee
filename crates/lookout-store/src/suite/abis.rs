//! ABIs on every engine: kept by name, apart by tenant, deleted and restored.

use lookout_types::ErrorKind;

use super::{NOW, Rig};
use crate::{Actor, Page, Store, StoreError};

suite!(memory, crate::suite::on_memory, [live_by_name, are_apart, bad_ones_are_refused]);
suite!(file, crate::suite::on_file, [live_by_name, are_apart, bad_ones_are_refused, one_of_many]);
suite!(
    postgres,
    crate::suite::on_postgres,
    [live_by_name, are_apart, bad_ones_are_refused, one_of_many]
);

const ABI: &str = r#"["event Sent(address indexed to, uint256 value)"]"#;
const OTHER: &str = "event Received(address from)\nfunction take()";

async fn names(store: &Store, tenant: &str) -> Vec<String> {
    let abis = store.list_abis(tenant, &Page::default()).await.unwrap();
    abis.into_iter().map(|abi| abi.name).collect()
}

async fn live_by_name(rig: &Rig) {
    let store = rig.migrated().await;
    let first = store.create_abi("acme", "vault", ABI, &Actor::Cli).await.unwrap();
    assert_eq!((first.created_at, first.deleted_at), (NOW, None));
    rig.clock.advance(1);
    store.create_abi("acme", "a.b-c_1", OTHER, &Actor::Cli).await.unwrap();
    assert_eq!(names(&store, "acme").await, ["a.b-c_1", "vault"]);
    for name in ["vault", first.id.as_str()] {
        assert_eq!(store.abi_text("acme", name).await.unwrap().unwrap(), ABI);
        assert_eq!(store.find_abi("acme", name).await.unwrap().unwrap(), first);
    }
    assert_eq!(store.abi_text("acme", "a.b-c_1").await.unwrap().unwrap(), OTHER);

    for _ in 0..2 {
        let gone = store.delete_abi("acme", &first.id, &Actor::Cli).await.unwrap();
        assert_eq!(gone.deleted_at, Some(NOW + 1));
    }
    assert_eq!(names(&store, "acme").await, ["a.b-c_1"]);
    assert_eq!(store.abi_text("acme", "vault").await.unwrap(), None);
    assert_eq!(store.abi_text("acme", &first.id).await.unwrap(), None);
    // The name is free, and stays with who has it.
    let second = store.create_abi("acme", "vault", OTHER, &Actor::Cli).await.unwrap();
    let error = store.restore_abi("acme", &first.id, &Actor::Cli).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    store.delete_abi("acme", &second.id, &Actor::Cli).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.restore_abi("acme", &first.id, &Actor::Cli).await.unwrap(), first);
    }
    assert_eq!(store.abi_text("acme", "vault").await.unwrap().unwrap(), ABI);
    let log = store.audit_log("acme", &Page::default()).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| entry.action.as_str()).collect();
    let expected =
        ["abi.restore", "abi.delete", "abi.create", "abi.delete", "abi.create", "abi.create"];
    assert_eq!(told, expected);
}

async fn are_apart(rig: &Rig) {
    let store = rig.migrated().await;
    let theirs = store.create_abi("other", "vault", ABI, &Actor::Cli).await.unwrap();
    store.create_abi("acme", "vault", OTHER, &Actor::Cli).await.unwrap();
    assert_eq!(store.abi_text("acme", "vault").await.unwrap().unwrap(), OTHER);
    assert_eq!(store.abi_text("acme", &theirs.id).await.unwrap(), None);
    assert_eq!(store.find_abi("acme", &theirs.id).await.unwrap(), None);
    for id in [theirs.id.as_str(), "x", "vault"] {
        for done in [
            store.delete_abi("acme", id, &Actor::Cli).await,
            store.restore_abi("acme", id, &Actor::Cli).await,
        ] {
            let error = done.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(error.to_string(), format!("no ABI `{id}`"));
        }
    }
    assert_eq!(names(&store, "other").await, ["vault"]);
}

async fn bad_ones_are_refused(rig: &Rig) {
    let store = rig.migrated().await;
    let long = "x".repeat(65);
    for (name, text, reason) in [
        ("", ABI, "is not a name of an ABI"),
        (&long, ABI, "is not a name of an ABI"),
        ("Vault", ABI, "is not a name of an ABI"),
        ("a b", ABI, "is not a name of an ABI"),
        ("-a", ABI, "is not a name of an ABI"),
        ("erc20", ABI, "is built in"),
        ("0198c0de-0000-7000-8000-000000000000", ABI, "is an id"),
        ("vault", "", "not a JSON array"),
        ("vault", "// \0\nevent A()", "NUL"),
        ("vault", "{}", "has no `abi` member"),
        ("vault", "[]", "neither events nor functions"),
        ("vault", r#"["event A(uint7)"]"#, "entry 0 of the ABI (event A(uint7))"),
    ] {
        let error = store.create_abi("acme", name, text, &Actor::Cli).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(names(&store, "acme").await, Vec::<String>::new());
    store.create_abi("acme", "vault", ABI, &Actor::Cli).await.unwrap();
    let error = store.create_abi("acme", "vault", OTHER, &Actor::Cli).await.unwrap_err();
    assert!(error.to_string().contains("there is an ABI `vault` already"), "{error}");
}

/// Of uploads under one name at the same time, exactly one stays.
async fn one_of_many(rig: &Rig) {
    rig.migrated().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = rig.open().await;
        tasks.spawn(async move { store.create_abi("acme", "vault", ABI, &Actor::Cli).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for error in refused {
        assert!(matches!(error.unwrap_err(), StoreError::Limit(_)));
    }
}
