//! Other software in the comparison: a small YAML file says how to start and configure it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A peer's file: a command and its config, in which `{listen}` (host:port), `{sinks}` (URLs, comma separated),
/// `{sink}` (the first), `{config}` and `{dir}` (a directory of its own) are replaced.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// The name in the table.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The text of its config file.
    #[serde(default)]
    pub(crate) config: String,
    /// Path that takes OTLP/HTTP protobuf.
    #[serde(default = "traces_path")]
    pub(crate) path: String,
    /// Scenarios it can do.
    pub(crate) scenarios: Vec<String>,
}

fn traces_path() -> String {
    "/v1/traces".to_owned()
}

impl Peer {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Peer> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let peer: Peer = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
        anyhow::ensure!(!peer.command.is_empty(), "{}: command names no program", path.display());
        Ok(peer)
    }

    /// Replaces the names in braces.
    pub(crate) fn fill(text: &str, listen: &str, sinks: &[String], config: &Path, dir: &Path) -> String {
        text.replace("{listen}", listen)
            .replace("{sinks}", &sinks.join(","))
            .replace("{sink}", sinks.first().map_or("", String::as_str))
            .replace("{config}", &config.display().to_string())
            .replace("{dir}", &dir.display().to_string())
    }
}

/// Every file named on the command line.
pub(crate) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Peer>> {
    paths.iter().map(|path| Peer::read(path)).collect()
}
