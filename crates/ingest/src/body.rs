//! Request bodies: read with their bounds enforced as they grow, inflated under the same bounds.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt as _;

use crate::answer::Refusal;
use crate::budget::Reservation;

/// A client may pause this long between two pieces of its body.
const STALL: Duration = Duration::from_secs(30);
/// Above this inflated size the ratio of inflated to sent bytes is bounded too.
const RATIO_FREE_BYTES: usize = 1 << 20;
const RATIO_MAX: usize = 100;
/// Bodies above this size are inflated off the async workers.
const INFLATE_INLINE_BYTES: usize = 64 << 10;

/// What a request body has to be: bytes, and errors that can be told.
pub trait RequestBody: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin {}

impl<B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin> RequestBody for B {}

/// Request codings we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
}

impl Coding {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Coding, Refusal> {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = codings.next() else { return Ok(Coding::Identity) };
        let name = value.to_str().unwrap_or("").trim().to_ascii_lowercase();
        if codings.next().is_some() {
            return Err(Refusal::unsupported("content-encoding: more than one coding is not supported"));
        }
        match name.as_str() {
            "" | "identity" => Ok(Coding::Identity),
            "gzip" | "x-gzip" => Ok(Coding::Gzip),
            "zstd" => Ok(Coding::Zstd),
            "deflate" => Ok(Coding::Deflate),
            _ => Err(Refusal::unsupported(format!(
                "content-encoding `{}` is not supported: use identity, gzip, zstd or deflate",
                name.chars().take(64).collect::<String>()
            ))),
        }
    }
}

/// Bounds of one body, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) sent: usize,
    pub(crate) inflated: usize,
}

/// Reads the body as sent. `reservation` grows with what arrived, never with what was announced.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: impl RequestBody,
    bounds: Bounds,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|n| n > bounds.sent as u64) {
        return Err(over(bounds.sent, "body"));
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    loop {
        let frame = match tokio::time::timeout(STALL, body.frame()).await {
            Err(_) => return Err(Refusal::timeout("the body stalled for 30 s")),
            Ok(None) => break,
            Ok(Some(Err(e))) => return Err(Refusal::incomplete(format!("the body broke off: {e}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + data.len() > bounds.sent {
            return Err(over(bounds.sent, "body"));
        }
        if !reservation.grow(data.len()) {
            return Err(Refusal::out_of_memory());
        }
        match &mut rest {
            None if first.is_empty() => first = data,
            None => {
                let hint = announced.unwrap_or(0).min(1 << 20) as usize;
                let mut joined = BytesMut::with_capacity(hint.max(2 * (first.len() + data.len())));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                rest = Some(joined);
            }
            Some(joined) => joined.extend_from_slice(&data),
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// Undoes the coding. Every member or frame of the body is read, to its end.
pub(crate) async fn inflate(
    coding: Coding,
    sent: Bytes,
    bounds: Bounds,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal> {
    if coding == Coding::Identity {
        return Ok(sent);
    }
    let inflated = if sent.len() <= INFLATE_INLINE_BYTES {
        inflate_now(coding, &sent, bounds, reservation)?
    } else {
        let mut moved = std::mem::replace(reservation, reservation.empty());
        let (result, moved) = tokio::task::spawn_blocking(move || {
            let result = inflate_now(coding, &sent, bounds, &mut moved);
            (result, moved)
        })
        .await
        .map_err(|_| Refusal::overloaded("inflating was cut short", 1))?;
        *reservation = moved;
        result?
    };
    Ok(Bytes::from(inflated))
}

fn inflate_now(
    coding: Coding,
    sent: &[u8],
    bounds: Bounds,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refusal> {
    match coding {
        Coding::Identity => Ok(sent.to_vec()),
        Coding::Gzip => {
            drain(flate2::bufread::MultiGzDecoder::new(sent), "gzip", sent.len(), bounds, reservation)
        }
        Coding::Deflate => {
            // HTTP's "deflate" is zlib, but raw deflate is in the wild: the first two bytes tell.
            let zlib = sent.len() >= 2
                && sent[0] & 0x0f == 8
                && (u16::from(sent[0]) << 8 | u16::from(sent[1])).is_multiple_of(31);
            if zlib {
                drain(flate2::bufread::ZlibDecoder::new(sent), "deflate", sent.len(), bounds, reservation)
            } else {
                drain(flate2::bufread::DeflateDecoder::new(sent), "deflate", sent.len(), bounds, reservation)
            }
        }
        Coding::Zstd => {
            let broken = |e: std::io::Error| Refusal::malformed(format!("body is not valid zstd: {e}"));
            let mut decoder = zstd::stream::read::Decoder::with_buffer(sent).map_err(broken)?;
            // 128 MiB windows are the most zstd's own default accepts; a body never needs more than its bound.
            decoder.window_log_max(26).map_err(broken)?;
            drain(decoder, "zstd", sent.len(), bounds, reservation)
        }
    }
}

fn drain(
    mut decoder: impl Read,
    name: &str,
    sent: usize,
    bounds: Bounds,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refusal> {
    let mut out: Vec<u8> = Vec::with_capacity((sent * 4).min(256 << 10));
    let mut chunk = [0u8; 16 << 10];
    loop {
        let n = decoder
            .read(&mut chunk)
            .map_err(|e| Refusal::malformed(format!("body is not valid {name}: {e}")))?;
        if n == 0 {
            return Ok(out);
        }
        let total = out.len() + n;
        if total > bounds.inflated {
            return Err(over(bounds.inflated, "inflated body"));
        }
        if total > RATIO_FREE_BYTES && total / RATIO_MAX > sent {
            return Err(Refusal::too_large(format!("body inflates more than {RATIO_MAX} times its size")));
        }
        if !reservation.grow(n) {
            return Err(Refusal::out_of_memory());
        }
        out.extend_from_slice(&chunk[..n]);
    }
}

fn over(limit: usize, what: &str) -> Refusal {
    Refusal::too_large(format!("{what} is over the limit of {limit} bytes: send smaller batches"))
}
