//! What is wrong with a configuration: all of it at once, each with its place and advice.

use std::fmt;
use std::path::{Path, PathBuf};

use super::tree::Origin;

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) origin: Option<Origin>,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// All of them, in the order found.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    pub(super) file: Option<PathBuf>,
    pub(super) list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn add(&mut self, origin: &Origin, path: &str, message: String, hint: Option<String>) {
        self.list.push(Mistake { origin: Some(origin.clone()), path: path.to_owned(), message, hint });
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    #[cfg(test)]
    pub(super) fn list(&self) -> &[Mistake] {
        &self.list
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or(Path::new("config")).display();
        for mistake in &self.list {
            match &mistake.origin {
                Some(Origin::File { line, column }) => write!(f, "{file}:{line}:{column}: ")?,
                Some(Origin::Env(name)) => write!(f, "{name}: ")?,
                None => write!(f, "{file}: ")?,
            }
            if !mistake.path.is_empty() {
                write!(f, "{}: ", mistake.path)?;
            }
            writeln!(f, "{}", mistake.message)?;
            if let Some(hint) = &mistake.hint {
                writeln!(f, "    hint: {hint}")?;
            }
        }
        Ok(())
    }
}
