//! Who sends: the credential of a request, looked up by its SHA-256.

use base64::Engine as _;
use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use tracecast_destination::DEFAULT_WORKSPACE_ID;
use tracecast_rules::{CanAssert, Snapshot};
use uuid::Uuid;

use crate::Auth;
use crate::answer::Refusal;

/// The authorised sender of a request.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) workspace: Uuid,
    pub(crate) key_hash: Option<[u8; 32]>,
    pub(crate) key_name: Option<String>,
    pub(crate) can_assert: CanAssert,
    /// The gateways the request has passed, as `x-tracecast-via` named them.
    pub(crate) via: Bytes,
}

/// The secret a request presents: Bearer, the password of Basic (what the Langfuse SDK sends), or `x-api-key`.
fn presented(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Refusal> {
    if let Some(value) = headers.get(http::header::AUTHORIZATION) {
        let bytes = value.as_bytes();
        let (scheme, rest) = match bytes.iter().position(|b| *b == b' ') {
            Some(at) => (&bytes[..at], bytes[at + 1..].trim_ascii()),
            None => (bytes, &b""[..]),
        };
        if scheme.eq_ignore_ascii_case(b"bearer") && !rest.is_empty() {
            return Ok(Some(rest.to_vec()));
        }
        if scheme.eq_ignore_ascii_case(b"basic") {
            let decoded = base64::engine::general_purpose::STANDARD.decode(rest).map_err(|_| {
                Refusal::unauthorized("authorization header: Basic credentials are not base64")
            })?;
            let at = decoded.iter().position(|b| *b == b':').ok_or_else(|| {
                Refusal::unauthorized("authorization header: Basic credentials have no colon")
            })?;
            return Ok(Some(decoded[at + 1..].to_vec()));
        }
        return Err(Refusal::unauthorized(
            "authorization header: use `Bearer <key>`, or Basic with the key as password",
        ));
    }
    Ok(headers.get("x-api-key").map(|v| v.as_bytes().trim_ascii().to_vec()).filter(|v| !v.is_empty()))
}

/// Finds the sender, or says why there is none.
pub(crate) fn authorize(
    headers: &HeaderMap,
    auth: Auth,
    snapshot: &Snapshot,
    now_unix_seconds: i64,
) -> Result<Sender, Refusal> {
    let secret = presented(headers)?;
    let hash: Option<[u8; 32]> = secret.map(|s| Sha256::digest(&s).into());
    if let Some(hash) = &hash
        && snapshot.management_keys.contains(hash)
    {
        return Err(Refusal::forbidden(
            "a management key manages and never ingests: use an ordinary key (tracecast key create)",
        ));
    }
    match auth {
        Auth::None => {
            // A sidecar sees the provider's own key: its hash is the identity, known or not.
            let name = hash.and_then(|h| snapshot.keys.get(&h)).map(|k| k.name.clone());
            Ok(Sender {
                workspace: DEFAULT_WORKSPACE_ID,
                key_hash: hash,
                key_name: name,
                can_assert: CanAssert::None,
                via: Bytes::new(),
            })
        }
        Auth::Keys => {
            let hash = hash.ok_or_else(|| {
                Refusal::unauthorized("missing key: send `Authorization: Bearer <key>` or `x-api-key`")
            })?;
            let key = snapshot.keys.get(&hash).ok_or_else(|| Refusal::unauthorized("unknown key"))?;
            if key.disabled {
                return Err(Refusal::unauthorized("this key is disabled"));
            }
            if key.expires_at.is_some_and(|at| at <= now_unix_seconds) {
                return Err(Refusal::unauthorized("this key has expired"));
            }
            Ok(Sender {
                workspace: key.workspace_id,
                key_hash: Some(hash),
                key_name: Some(key.name.clone()),
                can_assert: key.can_assert,
                via: Bytes::new(),
            })
        }
    }
}
