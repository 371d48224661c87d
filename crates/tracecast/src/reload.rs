//! A changed config file, taken over while the gateway runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config;
use crate::gateway::Gateway;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The config file of a running gateway.
#[derive(Debug)]
pub(crate) struct Watched {
    file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    /// As it was when it was last read.
    read: Option<Stamp>,
}

/// What tells one state of a file from another, also where a symbolic link was turned to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> Option<Stamp> {
        let found = std::fs::metadata(file).ok()?;
        Some(Stamp { inode: found.ino(), bytes: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

impl Watched {
    /// The file that was read just now, and the data directory it was read with.
    pub(crate) fn new(file: Option<PathBuf>, data_dir: Option<PathBuf>) -> Watched {
        let read = file.as_deref().and_then(Stamp::of);
        Watched { file, data_dir, read }
    }

    /// Resolves when the file is another one than was read, and nobody has written to it for a moment.
    pub(crate) async fn changed(&self) {
        let mut before = self.read;
        loop {
            tokio::time::sleep(EVERY).await;
            let now = self.file.as_deref().and_then(Stamp::of);
            if now.is_some() && now != self.read && now == before {
                return;
            }
            before = now;
        }
    }

    /// Reads the file and takes over what can be; a file with a mistake changes nothing.
    pub(crate) async fn reload(&mut self, gateway: &Gateway) {
        let Some(file) = &self.file else {
            tracing::warn!("there is no config file to read again: serve was started without --config");
            return;
        };
        self.read = Stamp::of(file);
        let (path, data_dir) = (file.clone(), self.data_dir.clone());
        // It reads the store's workspaces as well, which blocks.
        let loaded =
            tokio::task::spawn_blocking(move || config::load(Some(&path), data_dir.as_deref())).await;
        match loaded {
            Ok(Ok(config)) => gateway.reload(config).await,
            Ok(Err(mistakes)) => {
                tracing::error!("the config file is wrong, nothing has changed:\n{mistakes}")
            }
            Err(error) => tracing::error!(%error, "the config file could not be read, nothing has changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_counts_as_changed_once_it_is_still() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, "a").unwrap();
        let watched = Watched::new(Some(path.clone()), None);
        let unchanged = tokio::time::timeout(10 * EVERY, watched.changed()).await;
        assert!(unchanged.is_err());
        // More often than it is looked at: no two looks see the same.
        let writing = async {
            for n in 1..20 {
                std::fs::write(&path, "b".repeat(n)).unwrap();
                tokio::time::sleep(EVERY / 2).await;
            }
            std::future::pending::<()>().await;
        };
        let started = tokio::time::Instant::now();
        tokio::select! {
            () = watched.changed() => {}
            () = writing => {}
        }
        assert!(started.elapsed() >= 9 * EVERY, "{:?}", started.elapsed());
        // Gone for a moment, as while it is being replaced.
        std::fs::remove_file(&path).unwrap();
        assert!(tokio::time::timeout(10 * EVERY, watched.changed()).await.is_err());
    }
}
