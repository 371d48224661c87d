//! Secrets at rest: AES-256-GCM under the master key, bound to the destination they belong to.
//!
//! A sealed value is `key id (1 byte) | nonce (12) | ciphertext | tag (16)`. The nonce is random and new for each
//! sealing; the associated data is the id of the destination, so a value moved to another row does not open. The
//! key id leaves room for rotating the master key; today there is one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{Error, hex};

const KEY_ID: u8 = 1;
const TAG_BYTES: usize = 16;
/// What the key of the fingerprints is derived for.
const FINGERPRINT_PURPOSE: &[u8] = b"tracecast request fingerprints";

/// 32 bytes that seal everything secret in the store.
pub(crate) type MasterKey = Zeroizing<[u8; 32]>;

/// Seals and opens values under one master key.
pub(crate) struct Sealer {
    key: RandomizedNonceKey,
    fingerprint_key: hmac::Key,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// The value was sealed with another key, for another owner, or was altered.
#[derive(Debug, thiserror::Error)]
#[error("the sealed value does not open: it was sealed with another master key, or was altered")]
pub(crate) struct Unsealable;

impl Sealer {
    pub(crate) fn new(key: &MasterKey) -> Result<Sealer, Unsealable> {
        let fingerprint_key =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), FINGERPRINT_PURPOSE);
        Ok(Sealer {
            key: RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| Unsealable)?,
            fingerprint_key: hmac::Key::new(hmac::HMAC_SHA256, fingerprint_key.as_ref()),
        })
    }

    /// HMAC-SHA-256 under a key of its own, derived from the master key: equal texts have equal fingerprints, and
    /// nobody who has only the store can try out texts.
    pub(crate) fn fingerprint(&self, text: &[u8]) -> [u8; 32] {
        let mut fingerprint = [0; 32];
        for (to, from) in fingerprint.iter_mut().zip(hmac::sign(&self.fingerprint_key, text).as_ref()) {
            *to = *from;
        }
        fingerprint
    }

    pub(crate) fn seal(&self, owner: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unsealable> {
        // Room for the tag up front: growing would leave a copy of the plain text behind.
        let mut text = Vec::with_capacity(plain.len() + TAG_BYTES);
        text.extend_from_slice(plain);
        let nonce = self.key.seal_in_place_append_tag(Aad::from(owner), &mut text).map_err(|_| Unsealable)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(KEY_ID);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    pub(crate) fn open(&self, owner: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let (&[key_id], rest) = sealed.split_first_chunk::<1>().ok_or(Unsealable)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        if key_id != KEY_ID {
            return Err(Unsealable);
        }
        let mut text = Zeroizing::new(text.to_vec());
        let plain_bytes = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(owner), &mut text)
            .map_err(|_| Unsealable)?
            .len();
        text.truncate(plain_bytes);
        Ok(text)
    }
}

/// A master key as people write it: 64 hex digits, or base64 of 32 bytes.
pub(crate) fn parse_master_key(text: &str) -> Option<MasterKey> {
    let text = text.trim();
    if let Some(bytes) = hex::decode(text) {
        return Some(Zeroizing::new(bytes));
    }
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|engine| {
        let bytes = Zeroizing::new(engine.decode(text).ok()?);
        Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
    })
}

/// Reads the key file; `None` if there is none. A file others could read is closed to them.
pub(crate) fn read_master_key(path: &Path) -> Result<Option<MasterKey>, Error> {
    let failed = |reason: String| Error::MasterKey { path: path.to_owned(), reason };
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(format!("cannot be read: {error}"))),
    };
    let key = parse_master_key(&text).ok_or_else(|| {
        failed(
            "does not hold a master key (64 hex digits, or base64 of 32 bytes): restore the file from a backup, or \
             give the key in TRACECAST_MASTER_KEY"
                .to_owned(),
        )
    })?;
    let mode =
        fs::metadata(path).map_err(|error| failed(format!("cannot be read: {error}")))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the master key file could be read by others, setting its mode to 0600");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(format!("cannot be closed to others: {error}")))?;
    }
    Ok(Some(key))
}

/// Creates the key file, complete or not at all, and synced: a store sealed with a key that a power cut took away
/// would be lost.
pub(crate) fn create_master_key(path: &Path) -> Result<MasterKey, Error> {
    let failed = |reason: String| Error::MasterKey { path: path.to_owned(), reason };
    let mut key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(key.as_mut())
        .map_err(|_| failed("the system gave no random numbers".to_owned()))?;
    let text = Zeroizing::new(hex::encode(key.as_ref()) + "\n");
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("key.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error| failed(format!("cannot be created: {error}")))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&Zeroizing::new([byte; 32])).unwrap()
    }

    #[test]
    fn opens_only_with_the_same_key_and_owner() {
        let sealed = sealer(1).seal(b"owner", b"secret").unwrap();
        assert_eq!(sealer(1).open(b"owner", &sealed).unwrap().as_slice(), b"secret");
        assert!(sealer(2).open(b"owner", &sealed).is_err());
        assert!(sealer(1).open(b"other", &sealed).is_err());
    }

    #[test]
    fn layout_is_key_id_nonce_text_tag() {
        let sealed = sealer(1).seal(b"", b"secret").unwrap();
        assert_eq!(sealed.len(), 1 + 12 + 6 + 16);
        assert_eq!(sealed[0], 1);
    }

    #[test]
    fn nonces_differ() {
        let sealer = sealer(1);
        let nonces: std::collections::HashSet<Vec<u8>> =
            (0..100).map(|_| sealer.seal(b"", b"x").unwrap()[1..13].to_vec()).collect();
        assert_eq!(nonces.len(), 100);
    }

    #[test]
    fn every_altered_or_shortened_value_is_refused() {
        let sealer = sealer(1);
        let sealed = sealer.seal(b"o", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(sealer.open(b"o", &altered).is_err(), "byte {at}");
            assert!(sealer.open(b"o", &sealed[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn master_keys_are_hex_or_base64_of_32_bytes() {
        let bytes = [0xfb; 32];
        let spellings = [
            "fb".repeat(32),
            "FB".repeat(32),
            format!(" {}\n", STANDARD.encode(bytes)),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
        ];
        for text in spellings {
            assert_eq!(*parse_master_key(&text).unwrap(), bytes, "{text}");
        }
        for text in ["", "fb", &"fb".repeat(31), &"fg".repeat(32), &STANDARD.encode([1; 31])] {
            assert!(parse_master_key(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_key_file_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        assert!(read_master_key(&path).unwrap().is_none());
        let created = create_master_key(&path).unwrap();
        assert_eq!(read_master_key(&path).unwrap(), Some(created));
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        read_master_key(&path).unwrap();
        assert_eq!(mode(), 0o600);
        fs::write(&path, "not a key, but s3cret").unwrap();
        let message = read_master_key(&path).unwrap_err().to_string();
        assert!(message.contains("TRACECAST_MASTER_KEY") && !message.contains("s3cret"), "{message}");
    }
}
