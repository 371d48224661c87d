//! Opening the SQLite file: the private directory, the lock, pragmas, migrations, the master key check.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use super::seal::{self, Sealer};
use crate::Error;

pub(crate) const STORE_FILE: &str = "control.sqlite";
const LOCK_FILE: &str = "control.lock";
const MASTER_KEY_FILE: &str = "master.key";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Associated data and text of the value that tells the right master key from a wrong one.
const SEAL_CHECK_OWNER: &[u8] = b"tracecast master key check";
const SEAL_CHECK_TEXT: &[u8] = b"tracecast";

/// Creates the data directory if it is missing, readable by the owner only.
pub(crate) fn prepare_dir(data_dir: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::DataDir {
        path: data_dir.to_owned(),
        reason: format!("the data directory cannot be used: {error}"),
    };
    if !data_dir.exists() {
        return DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed);
    }
    let metadata = fs::metadata(data_dir).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(Error::DataDir { path: data_dir.to_owned(), reason: "is not a directory".to_owned() });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %data_dir.display(), "the data directory is open to other users; `chmod 700` closes it");
    }
    Ok(())
}

/// The lock on the store: released when the file is closed, also by a crash.
pub(crate) fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join(LOCK_FILE);
    let failed = |reason: String| Error::DataDir { path: path.clone(), reason };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed(format!("cannot be created: {error}")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed(
            "the data directory is in use by another process: stop it, or give another data_dir".to_owned(),
        )),
        Err(TryLockError::Error(error)) => Err(failed(format!("cannot be locked: {error}"))),
    }
}

/// Opens the store, creating it 0600 (its WAL inherits the mode), and brings its schema up to date.
pub(crate) async fn connect(data_dir: &Path) -> Result<SqlitePool, Error> {
    let path = data_dir.join(STORE_FILE);
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(|error| {
        Error::DataDir { path: path.clone(), reason: format!("cannot be opened: {error}") }
    })?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        // An answered write survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("secure_delete", "ON");
    // One connection: there is one writer, and reads are answered from memory.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .map_err(|error| unusable(&path, &error))?;
    match MIGRATIONS.run(&pool).await {
        Ok(()) => Ok(pool),
        Err(MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _)) => {
            Err(Error::DataDir {
                path,
                reason: format!(
                    "the store has schema version {version}, which this build does not know: it was written by a \
                     newer tracecast; run that version, or restore an older copy"
                ),
            })
        }
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(unusable(&path, &error))
        }
        Err(error) => Err(Error::DataDir { path, reason: error.to_string() }),
    }
}

/// A look at the store that takes no lock and changes nothing.
pub(crate) async fn connect_read_only(data_dir: &Path) -> Result<SqliteConnection, Error> {
    let path = data_dir.join(STORE_FILE);
    SqliteConnectOptions::new()
        .filename(&path)
        .read_only(true)
        .busy_timeout(Duration::from_secs(5))
        .connect()
        .await
        .map_err(|error| unusable(&path, &error))
}

fn unusable(path: &Path, error: &sqlx::Error) -> Error {
    Error::DataDir { path: path.to_owned(), reason: format!("the store cannot be opened: {error}") }
}

/// The sealer of this store: under the given master key, else the key file, else (only for a store that never
/// sealed anything) a new key file. A key that is not the store's is refused.
pub(crate) async fn sealer(
    pool: &SqlitePool,
    data_dir: &Path,
    given: Option<&SecretString>,
) -> Result<Sealer, Error> {
    let store_path = data_dir.join(STORE_FILE);
    let key_path = data_dir.join(MASTER_KEY_FILE);
    let check: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'seal_check'").fetch_optional(pool).await?;
    let refused = |reason: &str| Error::MasterKey { path: store_path.clone(), reason: reason.to_owned() };

    let key = match given {
        Some(text) => seal::parse_master_key(text.expose_secret()).ok_or_else(|| {
            Error::Invalid(
                "TRACECAST_MASTER_KEY: must be 32 bytes as 64 hex digits or base64, such as the output of \
                 `openssl rand -hex 32`"
                    .to_owned(),
            )
        })?,
        None => match seal::read_master_key(&key_path)? {
            Some(key) => key,
            None if check.is_none() => seal::create_master_key(&key_path)?,
            None => {
                return Err(refused(
                    "the store holds sealed secrets and the master key is missing: set TRACECAST_MASTER_KEY to it, \
                     or put the file master.key back beside the store; without it, move the data directory away to \
                     start empty",
                ));
            }
        },
    };

    let sealer = Sealer::new(&key).map_err(|_| refused("the master key cannot be used"))?;
    match check {
        Some(sealed) => match sealer.open(SEAL_CHECK_OWNER, &sealed) {
            Ok(text) if text.as_slice() == SEAL_CHECK_TEXT => {}
            _ => {
                return Err(refused(
                    "the store was sealed with another master key: give the one it was created with (in \
                     TRACECAST_MASTER_KEY, or the file master.key beside the store with the variable unset); without \
                     it, move the data directory away to start empty",
                ));
            }
        },
        None => {
            let sealed = sealer
                .seal(SEAL_CHECK_OWNER, SEAL_CHECK_TEXT)
                .map_err(|_| refused("the master key cannot be used"))?;
            sqlx::query("INSERT INTO meta (name, value) VALUES ('seal_check', ?)")
                .bind(sealed)
                .execute(pool)
                .await?;
        }
    }
    Ok(sealer)
}
