//! Opening the control plane: what a first start creates, which management keys hold, replacing a lost one.

use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tracecast_destination::{DEFAULT_WORKSPACE_ID, Destination, mask};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config_file::reconcile;
use crate::model::{Change, Key, KeyKind, Settings, Workspace, now};
use crate::publish::{Published, WriteFailed, publish};
use crate::queue::Queue;
use crate::snapshot::Touched;
use crate::store::{self, Audit, Record, Store};
use crate::{Control, Error, FileKey, Limits, Opened, Options, RuntimeHandle, hex};

pub(crate) const DEFAULT_WORKSPACE_SLUG: &str = "default";
const MANAGEMENT_KEY_PREFIX: &str = "sk-tc-mgmt-";
pub(crate) const ORDINARY_KEY_PREFIX: &str = "sk-tc-v1-";
/// Shortest key anybody may bring along.
pub(crate) const IMPORTED_KEY_CHARS_MIN: usize = 32;

const FIRST_START: &str = "first start";

pub(crate) async fn open(options: Options, runtime: RuntimeHandle) -> Result<Opened, Error> {
    let operator_key = options.management_key.as_ref().map(operator_management_key).transpose()?;
    let store = Store::open(&options.data_dir, options.master_key.as_ref()).await?;
    let mut model = store.load().await?;
    // Known before the files' keys are looked at, so that none of them can be a management key.
    let operator_hash = operator_key.as_ref().map(|key| key.hash);
    if let Some(key) = operator_key {
        model.apply(&Change::Key(Arc::new(key)));
    }

    let mut changes = Vec::new();
    let mut audit = Vec::new();
    if !model.workspaces.contains_key(&DEFAULT_WORKSPACE_ID)
        && !store.is_workspace_deleted(DEFAULT_WORKSPACE_ID).await?
    {
        changes.push(Change::Workspace(Arc::new(default_workspace())));
        audit.push(entry(FIRST_START, "workspace.create", DEFAULT_WORKSPACE_ID.to_string()));
    }
    let mut generated_management_key = None;
    if model.management.is_empty() {
        let (secret, mut key) = generate_key(KeyKind::Management, "First start")?;
        key.id = model.next_key_id;
        audit.push(entry(FIRST_START, "key.create", hex::encode(&key.hash)));
        changes.push(Change::Key(Arc::new(key)));
        generated_management_key = Some(secret);
    }
    for change in &changes {
        model.apply(change);
    }
    let from_file = reconcile(&model, runtime.0.as_ref(), &options.file_destinations, &options.file_keys)?;
    for change in &from_file.changes {
        model.apply(change);
    }
    changes.extend(from_file.changes);
    audit.extend(from_file.audit);

    model.generation = model.generation.saturating_add(1);
    store.commit(model.generation, &[Record { changes: &changes, audit: &audit, kept: None }]).await?;
    let touched = Touched::all(&model);
    let published = publish(model, touched, runtime.clone(), Arc::default()).await;
    let Published { model, snapshot } = published.map_err(|_| {
        Error::Invalid("the gateway failed to take over the stored configuration (see the log)".to_owned())
    })?;
    tracing::debug!(
        generation = model.generation,
        workspaces = model.workspaces.size(),
        destinations = model.destinations.size(),
        keys = model.keys.size(),
        management_key_of_operator = operator_hash.is_some(),
        "control store open"
    );

    let control = Control {
        store,
        runtime,
        model: ArcSwap::from_pointee(model),
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
        writes: Queue::default(),
        writer: Mutex::default(),
        tally: Mutex::default(),
        stale: ArcSwapOption::empty(),
        limits: Limits {
            destinations_per_kind: options.destinations_per_kind,
            max_body_bytes: options.max_body_bytes,
        },
    };
    Ok(Opened { control: Arc::new(control), generated_management_key })
}

pub(crate) async fn reload(
    control: &Arc<Control>,
    destinations: Vec<Destination>,
    keys: Vec<FileKey>,
) -> Result<(), Error> {
    let runtime = control.runtime.clone();
    control.write(move |model| reconcile(model, runtime.0.as_ref(), &destinations, &keys)).await
}

impl From<WriteFailed> for Error {
    fn from(failed: WriteFailed) -> Error {
        match failed {
            WriteFailed::Store(error) => Error::Store(error),
            WriteFailed::Panicked | WriteFailed::OtherRequest => {
                Error::Invalid("taking over the configuration failed (see the log)".to_owned())
            }
        }
    }
}

/// Replaces every stored management key by a new one: for an operator who lost it. The gateway must not run.
pub async fn reset_management_key(data_dir: &Path) -> Result<SecretString, Error> {
    if !data_dir.is_dir() {
        return Err(Error::DataDir {
            path: data_dir.to_owned(),
            reason: "no such directory: give the data_dir of the gateway".to_owned(),
        });
    }
    let (_lock, pool) = store::open_without_secrets(data_dir).await?;
    let (secret, key) = generate_key(KeyKind::Management, "Reset")?;
    let audit = entry("command line", "key.reset_management", hex::encode(&key.hash));
    store::replace_management_keys(&pool, &key, &audit).await?;
    pool.close().await;
    Ok(secret)
}

/// Id and slug of every workspace in the store, for a config file that names workspaces by slug: to be asked before
/// [`Control::open`], or beside a running gateway. Before the first start: the default workspace.
pub async fn read_workspaces(data_dir: &Path) -> Result<Vec<(Uuid, String)>, Error> {
    let found = store::workspaces_of(data_dir).await?.filter(|workspaces| !workspaces.is_empty());
    Ok(match found {
        Some(workspaces) => workspaces.into_iter().map(|w| (w.id, w.slug)).collect(),
        None => vec![(DEFAULT_WORKSPACE_ID, DEFAULT_WORKSPACE_SLUG.to_owned())],
    })
}

/// The key given for this run: only its hash is kept, and only in memory.
fn operator_management_key(secret: &SecretString) -> Result<Key, Error> {
    let secret = secret.expose_secret();
    let chars = secret.chars().count();
    if chars < IMPORTED_KEY_CHARS_MIN {
        return Err(Error::Invalid(format!(
            "TRACECAST_MANAGEMENT_KEY: has {chars} characters and needs at least {IMPORTED_KEY_CHARS_MIN}: give a \
             longer one, such as the output of `openssl rand -hex 32`"
        )));
    }
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Invalid(
            "TRACECAST_MANAGEMENT_KEY: has a blank or a character outside ASCII, which a request header cannot carry"
                .to_owned(),
        ));
    }
    Ok(Key::new(hex::sha256(secret), KeyKind::Management, "TRACECAST_MANAGEMENT_KEY", mask(secret)))
}

/// A new key: the secret, shown once, and what is stored of it.
pub(crate) fn generate_key(kind: KeyKind, name: &str) -> Result<(SecretString, Key), Error> {
    let mut random = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(random.as_mut())
        .map_err(|_| Error::Invalid("the system gave no random numbers".to_owned()))?;
    let digits = Zeroizing::new(hex::encode(random.as_ref()));
    let prefix = match kind {
        KeyKind::Ordinary => ORDINARY_KEY_PREFIX,
        KeyKind::Management => MANAGEMENT_KEY_PREFIX,
    };
    let secret = SecretString::from(format!("{prefix}{}", digits.as_str()));
    let key = Key::new(hex::sha256(secret.expose_secret()), kind, name, label(secret.expose_secret()));
    Ok((secret, key))
}

/// The masked form of a key: prefix, 3 characters, `...`, the last 4. A key without a prefix we know shows its
/// first 12 characters, which is the same cut.
pub(crate) fn label(secret: &str) -> String {
    let shown_chars = if secret.starts_with(MANAGEMENT_KEY_PREFIX) {
        MANAGEMENT_KEY_PREFIX.len() + 3
    } else {
        ORDINARY_KEY_PREFIX.len() + 3
    };
    let head: String = secret.chars().take(shown_chars).collect();
    let tail_start = secret.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    format!("{head}...{}", &secret[tail_start..])
}

fn default_workspace() -> Workspace {
    Workspace {
        id: DEFAULT_WORKSPACE_ID,
        slug: DEFAULT_WORKSPACE_SLUG.to_owned(),
        name: "Default".to_owned(),
        settings: Settings::default(),
        created_at: now(),
        updated_at: None,
        created_by: None,
    }
}

/// An audit entry of something no API call did.
pub(crate) fn entry(actor: &str, action: &'static str, target: String) -> Audit {
    Audit {
        at: now(),
        actor: actor.to_owned(),
        action: action.into(),
        target,
        fields: Vec::new(),
        client: None,
    }
}
