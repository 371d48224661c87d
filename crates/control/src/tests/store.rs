//! What is on disk: it comes back, it is private, it is sealed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::json;

use super::{
    DESTINATIONS, FakeRuntime, Gateway, MANAGEMENT_KEY, canaries, configs, expose, langfuse, options,
    path_of, webhook,
};
use crate::{Control, Error, hex, read_workspaces, reset_management_key};

#[tokio::test]
async fn everything_comes_back_after_a_restart() {
    let gateway = Gateway::new().await;
    let mut bodies = Vec::new();
    for (kind, config) in configs() {
        let body = json!({ "type": kind.as_str(), "name": "n", "config": config, "privacy_mode": true });
        bodies.push(gateway.created(DESTINATIONS, &body).await);
    }
    let gone = gateway.created(DESTINATIONS, &webhook("gone")).await;
    gateway.delete(&path_of(&gone)).await;
    let secret = gateway.ordinary_key().await;
    let keys = gateway.ok("/api/v1/keys").await;
    let stored = |gateway: &Gateway| -> Vec<_> {
        let model = gateway.control.model();
        model.destinations.values().map(|entry| entry.destination.to_stored()).collect()
    };
    let (before, generation) = (stored(&gateway), gateway.snapshot().generation);

    let gateway = gateway.restart().await;
    assert_eq!(stored(&gateway), before);
    assert_eq!(gateway.ok(&format!("{DESTINATIONS}?limit=100")).await["data"], json!(bodies));
    assert_eq!(gateway.ok("/api/v1/keys").await, keys);
    assert!(gateway.snapshot().generation > generation);
    assert!(gateway.snapshot().keys.contains_key(&hex::sha256(&secret)));
    assert_eq!(gateway.get(&path_of(&gone)).await.0, 404);
}

#[tokio::test]
async fn no_secret_is_in_any_file() {
    let gateway = Gateway::new().await;
    let mut secrets = vec![MANAGEMENT_KEY.to_owned()];
    for (kind, config) in configs() {
        let body = json!({ "type": kind.as_str(), "name": "n", "config": config });
        let created = gateway.created(DESTINATIONS, &body).await;
        gateway.patch(&path_of(&created), &json!({ "name": "m" })).await;
        secrets.extend(canaries(&config));
    }
    assert!(secrets.len() > 17, "{secrets:?}");
    secrets.push(gateway.ordinary_key().await);
    // Not secret, so it shows that the search finds what is there.
    let control = "......traces-bucket......".to_owned();
    secrets.push(control.clone());
    let found = |dir: &Path| -> Vec<String> {
        let files: Vec<Vec<u8>> =
            fs::read_dir(dir).unwrap().map(|f| fs::read(f.unwrap().path()).unwrap()).collect();
        assert!(files.iter().map(Vec::len).sum::<usize>() > 10_000);
        let holds = |secret: &str| {
            // Also without the ends, which the masked form shows.
            let core = &secret.as_bytes()[6..secret.len() - 6];
            files.iter().any(|file| file.windows(core.len()).any(|window| window == core))
        };
        secrets.iter().filter(|secret| holds(secret)).cloned().collect()
    };
    assert!(gateway.dir.path().join("control.sqlite-wal").exists());
    assert_eq!(found(gateway.dir.path()), std::slice::from_ref(&control));
    let dir = gateway.stop().await;
    assert_eq!(found(dir.path()), [control]);
}

#[tokio::test]
async fn files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/data");
    let opened = Control::open(options(&dir), Arc::new(FakeRuntime::default())).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
    assert!(dir.join("master.key").exists());
    opened.control.close().await;
}

#[tokio::test]
async fn a_wrong_or_missing_master_key_is_refused_with_advice() {
    let right = "ab".repeat(32);
    let given = |key: &str| Some(SecretString::from(key));
    let gateway = Gateway::with(|options| options.master_key = given(&right)).await;
    gateway.created(DESTINATIONS, &langfuse("lf")).await;
    assert!(!gateway.dir.path().join("master.key").exists());
    let dir = gateway.stop().await;
    for (key, advice) in [
        (given(&"cd".repeat(32)), "another master key"),
        (None, "the master key is missing"),
        (given("short"), "32 bytes"),
    ] {
        let mut options = options(dir.path());
        options.master_key = key;
        let error = Control::open(options, Arc::new(FakeRuntime::default())).await.unwrap_err();
        assert!(matches!(error, Error::MasterKey { .. } | Error::Invalid(_)));
        let message = error.to_string();
        assert!(message.contains(advice) && message.contains("TRACECAST_MASTER_KEY"), "{message}");
        assert!(!message.contains("cdcdcd"), "{message}");
    }
    assert!(!dir.path().join("master.key").exists(), "a refused start creates no key");
    let mut options = options(dir.path());
    options.master_key = given(&right);
    let opened = Control::open(options, Arc::new(FakeRuntime::default())).await.unwrap();
    assert_eq!(opened.control.model().destinations.size(), 1);
}

#[tokio::test]
async fn without_an_operators_key_one_is_generated_once() {
    let dir = tempfile::tempdir().unwrap();
    let without = || {
        let mut options = options(dir.path());
        options.management_key = None;
        options
    };
    let opened = Control::open(without(), Arc::new(FakeRuntime::default())).await.unwrap();
    let generated = expose(&opened.generated_management_key).to_owned();
    let digits = generated.strip_prefix("sk-tc-mgmt-").unwrap();
    assert_eq!(digits.len(), 64);
    assert!(!format!("{opened:?}").contains(digits));
    let hash = hex::sha256(&generated);
    assert!(opened.control.snapshot().load().management_keys.contains(&hash));
    opened.control.close().await;
    drop(opened);

    let again = Control::open(without(), Arc::new(FakeRuntime::default())).await.unwrap();
    assert!(again.generated_management_key.is_none());
    assert!(again.control.snapshot().load().management_keys.contains(&hash));
    again.control.close().await;
    drop(again);

    let reset = reset_management_key(dir.path()).await.unwrap();
    let last = Control::open(without(), Arc::new(FakeRuntime::default())).await.unwrap();
    assert!(last.generated_management_key.is_none());
    let keys = last.control.snapshot().load().management_keys.clone();
    assert_eq!(keys.iter().copied().collect::<Vec<_>>(), [hex::sha256(expose(&Some(reset)))]);
}

#[tokio::test]
async fn an_operators_key_holds_only_while_it_is_set() {
    let gateway = Gateway::new().await;
    assert_eq!(gateway.get(DESTINATIONS).await.0, 200);
    let gateway = gateway
        .restart_with(|options| {
            options.management_key = Some(SecretString::from("another-key-of-at-least-32-chars"))
        })
        .await
        .unwrap();
    assert_eq!(gateway.get(DESTINATIONS).await.0, 401);
    let error = gateway
        .restart_with(|options| {
            options.management_key = Some(SecretString::from("0123456789012345678901234567890"))
        })
        .await
        .err()
        .unwrap();
    let message = error.to_string();
    assert!(message.contains("31 characters") && message.contains("32"), "{message}");
}

#[tokio::test]
async fn the_store_has_one_owner() {
    let gateway = Gateway::new().await;
    let second = Control::open(options(gateway.dir.path()), Arc::new(FakeRuntime::default())).await;
    let message = second.unwrap_err().to_string();
    assert!(message.contains("in use by another process"), "{message}");
    assert!(reset_management_key(gateway.dir.path()).await.is_err());
}

#[tokio::test]
async fn an_unusable_directory_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Control::open(options(&path), Arc::new(FakeRuntime::default())).await.unwrap_err();
        assert!(matches!(&error, Error::DataDir { path: named, .. } if *named == path), "{error}");
    }
    fs::write(parent.path().join("control.sqlite"), "this is no database, whatever its name says").unwrap();
    let error = Control::open(options(parent.path()), Arc::new(FakeRuntime::default())).await.unwrap_err();
    assert!(error.to_string().contains("control.sqlite"), "{error}");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let gateway = Gateway::new().await;
    let dir = gateway.stop().await;
    let path = dir.path().join("control.sqlite");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'x', 1, x'00', 0)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let error = Control::open(options(dir.path()), Arc::new(FakeRuntime::default())).await.unwrap_err();
    assert!(error.to_string().contains("newer tracecast"), "{error}");
}

#[tokio::test]
async fn workspaces_can_be_read_without_opening() {
    let dir = tempfile::tempdir().unwrap();
    let slugs = async |path: &Path| -> Vec<String> {
        read_workspaces(path).await.unwrap().into_iter().map(|(_, slug)| slug).collect()
    };
    assert_eq!(slugs(dir.path()).await, ["default"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "reading creates nothing");
    let gateway = Gateway::new().await;
    gateway.created("/api/v1/workspaces", &json!({ "name": "W", "slug": "w" })).await;
    assert_eq!(slugs(gateway.dir.path()).await.len(), 2, "also while the gateway runs");
    let dir = gateway.stop().await;
    let mut found = slugs(dir.path()).await;
    found.sort();
    assert_eq!(found, ["default", "w"]);
}
