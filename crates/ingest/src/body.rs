//! Request bodies: read with their bounds enforced as they grow, inflated under the same bounds.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderName};
use http::request::Parts;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::answer::Refusal;
use crate::budget::Reservation;
use crate::connections::Place;

/// A client may pause this long between two pieces of its body.
const STALL: Duration = Duration::from_secs(30);
/// Slower than this, a body is given up once it has had its `STALL`.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;
/// First room for an inflated body.
const ROOM_MIN: usize = 16 << 10;
/// A piece of a body this long is kept as it was read. A piece holds the whole buffer that the connection read it into,
/// 64 KiB: a body of one piece leaves a quarter of it unused at most.
const KEEP_BYTES_MIN: usize = 48 << 10;
/// Above this inflated size the ratio of inflated to sent bytes is bounded too.
const RATIO_FREE_BYTES: usize = 1 << 20;
const RATIO_MAX: usize = 100;
/// Bodies above this size are inflated off the async workers.
const INFLATE_INLINE_BYTES: usize = 64 << 10;
/// Largest zstd window, as RFC 9659 has it for HTTP: 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The rest of a refused body is read and thrown away for so long, so that its sender comes to read the answer.
const DISCARD_WITHIN: Duration = Duration::from_secs(10);

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
    /// The coding of an HTTP request.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Coding, Refusal> {
        Coding::named(headers, CONTENT_ENCODING)
    }

    /// The coding that the header of this name says.
    pub(crate) fn named(headers: &HeaderMap, header: HeaderName) -> Result<Coding, Refusal> {
        let mut codings = headers.get_all(&header).iter();
        let Some(value) = codings.next() else { return Ok(Coding::Identity) };
        let name = value.to_str().unwrap_or("").trim().to_ascii_lowercase();
        if codings.next().is_some() {
            return Err(Refusal::unsupported(format!("{header}: more than one coding is not supported")));
        }
        match name.as_str() {
            "" | "identity" => Ok(Coding::Identity),
            "gzip" | "x-gzip" => Ok(Coding::Gzip),
            "zstd" => Ok(Coding::Zstd),
            "deflate" => Ok(Coding::Deflate),
            _ => Err(Refusal::unsupported(format!(
                "{header} `{}` is not supported: use identity, gzip, zstd or deflate",
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

/// Reads the body as sent. `reservation` grows with what arrived, never with what was announced; what is known not to
/// fit is refused before anything is read.
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
    if !reservation.fits(announced.map_or(1, |n| n as usize)) {
        return Err(Refusal::out_of_memory());
    }
    let started = Instant::now();
    // Fits `usize`: it is within the bound.
    let most = announced.map_or(bounds.sent, |n| n as usize);
    let mut pieces = Pieces::default();
    loop {
        let earned = Duration::from_secs(pieces.len as u64 / BYTES_PER_SECOND_MIN);
        let deadline = started + STALL + earned;
        let next = tokio::time::timeout_at(deadline.min(Instant::now() + STALL), body.frame());
        let frame = match next.await {
            Err(_) => return Err(Refusal::timeout("the body came too slowly: it stalled for 30 s in all")),
            Ok(None) => break,
            Ok(Some(Err(e))) => return Err(Refusal::incomplete(format!("the body broke off: {e}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if pieces.len + data.len() > bounds.sent {
            return Err(over(bounds.sent, "body"));
        }
        pieces.add(data, most, reservation)?;
    }
    pieces.join(reservation)
}

/// A body as it arrives.
#[derive(Default)]
struct Pieces {
    kept: Vec<Bytes>,
    /// Small pieces, copied: they would hold a buffer each. Those behind the last that is kept.
    open: Vec<u8>,
    len: usize,
}

impl Pieces {
    /// `most`: the body is not longer.
    fn add(&mut self, piece: Bytes, most: usize, reservation: &mut Reservation) -> Result<(), Refusal> {
        self.len += piece.len();
        if piece.len() < KEEP_BYTES_MIN {
            make_room(&mut self.open, piece.len(), most, reservation)?;
            self.open.extend_from_slice(&piece);
            return Ok(());
        }
        if !reservation.grow(piece.len()) {
            return Err(Refusal::out_of_memory());
        }
        self.close();
        self.kept.push(piece);
        Ok(())
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.kept.push(std::mem::take(&mut self.open).into());
        }
    }

    /// In one piece, without room to spare.
    fn join(mut self, reservation: &mut Reservation) -> Result<Bytes, Refusal> {
        if self.kept.is_empty() {
            return Ok(fitted(self.open, reservation));
        }
        self.close();
        if self.kept.len() == 1 {
            return Ok(self.kept.pop().unwrap_or_default());
        }
        let held: usize = self.kept.iter().map(|piece| piece.len()).sum();
        if !reservation.grow(self.len) {
            return Err(Refusal::out_of_memory());
        }
        let mut all = Vec::with_capacity(self.len);
        self.kept.into_iter().for_each(|piece| all.extend_from_slice(&piece));
        reservation.shrink(held);
        Ok(all.into())
    }
}

/// A request is refused: the rest of its body is read and thrown away, for a client that is cut off while it sends may
/// never see why; then its connection may be closed.
pub(crate) fn refuse(head: &Parts, body: impl RequestBody + Send + 'static) {
    let place = head.extensions.get::<Arc<Place>>().cloned();
    let ended = move || place.inspect(|place| place.refused_request_ended());
    if body.is_end_stream() {
        ended();
        return;
    }
    tokio::spawn(async move {
        discard(body).await;
        ended();
    });
}

async fn discard(mut body: impl RequestBody) {
    // hyper lets go of a body of known length only with the next request, if it was answered before it was read.
    let to_the_end = async { while !body.is_end_stream() && matches!(body.frame().await, Some(Ok(_))) {} };
    let _ = tokio::time::timeout(DISCARD_WITHIN, to_the_end).await;
}

/// Makes room for `more` bytes: doubled, but not beyond `most` unless it must be. The reservation counts what is
/// allocated.
fn make_room(
    out: &mut Vec<u8>,
    more: usize,
    most: usize,
    reservation: &mut Reservation,
) -> Result<(), Refusal> {
    let needed = out.len() + more;
    if needed <= out.capacity() {
        return Ok(());
    }
    let room = needed.max((2 * out.capacity()).max(ROOM_MIN).min(most));
    if !reservation.grow(room - out.capacity()) {
        return Err(Refusal::out_of_memory());
    }
    out.reserve_exact(room - out.len());
    Ok(())
}

/// The bytes without room to spare.
fn fitted(mut out: Vec<u8>, reservation: &mut Reservation) -> Bytes {
    let before = out.capacity();
    out.shrink_to_fit();
    reservation.shrink(before.saturating_sub(out.capacity()));
    Bytes::from(out)
}

/// Undoes the coding. Every member or frame of the body is read, to its end. `turns` bounds how many do so at once.
pub(crate) async fn inflate(
    coding: Coding,
    sent: Bytes,
    bounds: Bounds,
    turns: &Semaphore,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal> {
    if coding == Coding::Identity {
        return Ok(sent);
    }
    let sent_bytes = sent.len();
    let inflated = if sent_bytes <= INFLATE_INLINE_BYTES {
        inflate_now(coding, &sent, bounds, reservation)?
    } else {
        let cut_short = || Refusal::overloaded("inflating was cut short", 1);
        let _turn = turns.acquire().await.map_err(|_| cut_short())?;
        let mut moved = std::mem::replace(reservation, reservation.empty());
        let (result, moved) = tokio::task::spawn_blocking(move || {
            let result = inflate_now(coding, &sent, bounds, &mut moved);
            (result, moved)
        })
        .await
        .map_err(|_| cut_short())?;
        *reservation = moved;
        result?
    };
    // What was sent is gone.
    reservation.shrink(sent_bytes);
    Ok(fitted(inflated, reservation))
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
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
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
    let mut out: Vec<u8> = Vec::new();
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
        make_room(&mut out, n, bounds.inflated, reservation)?;
        out.extend_from_slice(&chunk[..n]);
    }
}

fn over(limit: usize, what: &str) -> Refusal {
    Refusal::too_large(format!("{what} is over the limit of {limit} bytes: send smaller batches"))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::budget::Budget;

    fn joined(pieces: &[Bytes], budget: &Budget, reservation: &mut Reservation) -> Result<Bytes, Refusal> {
        let most = pieces.iter().map(Bytes::len).sum();
        let mut all = Pieces::default();
        for piece in pieces {
            all.add(piece.clone(), most, reservation)?;
        }
        let body = all.join(reservation)?;
        assert!(budget.used() >= body.len(), "what is held is reserved");
        Ok(body)
    }

    #[test]
    fn a_body_of_one_long_piece_is_not_copied() {
        let budget = Budget::new(1 << 20);
        let mut reservation = budget.reservation();
        let long = Bytes::from(vec![7; KEEP_BYTES_MIN]);
        let body = joined(std::slice::from_ref(&long), &budget, &mut reservation).unwrap();
        assert_eq!(body.as_ptr(), long.as_ptr());
        // A short one would hold the whole buffer of its connection.
        let short = long.slice(1..);
        let body = joined(std::slice::from_ref(&short), &budget, &mut reservation).unwrap();
        assert_ne!(body.as_ptr(), short.as_ptr());
        assert_eq!(body, short);
    }

    #[test]
    fn pieces_are_joined_in_order_whatever_their_lengths() {
        let budget = Budget::new(1 << 20);
        let (long, short) = (vec![1; KEEP_BYTES_MIN], vec![2; 10]);
        let pieces = [short.clone(), long.clone(), short.clone(), short.clone(), long.clone(), long, short];
        let mut reservation = budget.reservation();
        let body = joined(&pieces.clone().map(Bytes::from), &budget, &mut reservation).unwrap();
        assert_eq!(body, pieces.concat());
        drop(reservation);
        assert_eq!(budget.used(), 0);
    }

    /// Of a request that is answered before it is read, how long its body is thrown away.
    async fn discarded_within(request: &[u8]) -> Duration {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let (end, ended) = tokio::sync::oneshot::channel();
        let end = std::sync::Mutex::new(Some(end));
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let end = end.lock().unwrap().take();
            tokio::spawn(async move {
                discard(request.into_body()).await;
                end.unwrap().send(()).unwrap();
            });
            async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(server), service);
        let started = Instant::now();
        let send = async {
            client.write_all(request).await.unwrap();
            ended.await.unwrap();
        };
        tokio::select! {
            // A body that is given up takes its connection with it.
            biased;
            () = send => {}
            _ = connection => panic!("the connection ended"),
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_thrown_away_ends_with_its_last_byte() {
        let request = |framing: &str, body: &str| {
            format!("POST / HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{body}").into_bytes()
        };
        let body = "x".repeat(100_000);
        let of_known_length = request("content-length: 100000", &body);
        let chunked = request("transfer-encoding: chunked", &format!("186a0\r\n{body}\r\n0\r\n\r\n"));
        assert_eq!(
            discarded_within(&of_known_length).await,
            Duration::ZERO,
            "nobody waits for the time to be up"
        );
        assert_eq!(discarded_within(&chunked).await, Duration::ZERO, "nobody waits for the time to be up");
        let broken_off = request("content-length: 100001", &body);
        assert_eq!(discarded_within(&broken_off).await, DISCARD_WITHIN, "nor for ever");
    }

    #[test]
    fn what_does_not_fit_the_budget_is_refused_and_given_back() {
        let long = Bytes::from(vec![1; KEEP_BYTES_MIN]);
        // Both pieces fit, the body they make beside them does not.
        let budget = Budget::new(3 * KEEP_BYTES_MIN);
        let mut reservation = budget.reservation();
        assert!(joined(&[long.clone(), long], &budget, &mut reservation).is_err());
        drop(reservation);
        assert_eq!(budget.used(), 0);
    }
}
