//! A receiver of OTLP/HTTP that fails on purpose: by status, by words, by time, and below HTTP by bytes.
//!
//! [`FaultSink::behave`] says what is done with every request until told otherwise, [`FaultSink::queue`] what is
//! done with the next ones first. What it takes goes into [`Receipts`](crate::oracle::Receipts) for the oracle;
//! what it refuses, cuts or loses does not.
//!
//! It reads and writes HTTP/1.1 itself, because a server library answers only what is right.

mod answers;
mod black_hole;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tracecast_otlp::Traces;

pub use self::answers::{Reply, partial_success};
pub use self::black_hole::BlackHole;
use self::wire::{Head, Wire};
use crate::oracle::Receipts;

/// What is done with a request.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// None: the spans are taken and the answer says so.
    #[default]
    None,
    /// Taken, answered after this time.
    Slow(Duration),
    /// Refused with this answer.
    Refuse(Reply),
    /// Taken, with this answer instead of the one OTLP asks for.
    TakeSaying(Reply),
    /// OTLP partial success: all but the first `refused` spans are taken; the answer names no span.
    Partial {
        /// Spans that are not taken.
        refused: usize,
        /// The number the answer gives (honest if equal to `refused`).
        said: i64,
        /// What the answer says about it.
        message: String,
    },
    /// 413 to bodies above so many bytes; others are taken.
    Above(usize),
    /// Bodies that contain `marker` are refused with `reply`; others are taken.
    Poison {
        /// To be found in the inflated body.
        marker: String,
        /// The answer to those that have it.
        reply: Reply,
    },
    /// Read, never answered.
    Hang,
    /// Read and not taken; the answer comes at one byte per second.
    Drip,
    /// Reset when the head of the request is there.
    ResetAtHead,
    /// Reset after so many bytes of the request.
    ResetAt(usize),
    /// Reset when the whole request is there, nothing taken.
    ResetAfterBody,
    /// Closed in the ordinary way in the middle of the answer's head.
    TornAnswer,
    /// Taken; the connection is reset instead of the answer.
    LoseAnswer,
    /// Bytes that are no HTTP.
    Garbage,
    /// Answered with the head of the request, the body never read.
    EarlyReply(Reply),
    /// Taken and answered as if the connection would stay, then closed at once.
    CloseUnderReuse,
}

/// One request as the sink saw it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// When its first byte came.
    pub at: Instant,
    /// The status answered; `None` if there was no proper answer.
    pub status: Option<u16>,
    /// Body bytes as sent; 0 if it was not read.
    pub body_bytes: usize,
    /// Spans that were taken from it.
    pub taken: usize,
}

/// A running sink. Everything it holds open is cut when it is dropped.
#[derive(Debug)]
pub struct FaultSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<Script>,
    record: Mutex<Record>,
    cut: Notify,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Fault>,
    then: Fault,
}

#[derive(Debug, Default)]
struct Record {
    receipts: Receipts,
    exchanges: Vec<Exchange>,
    delays_us: Vec<u64>,
}

impl FaultSink {
    /// Listens on a free port of the loopback interface.
    pub async fn start(fault: Fault) -> std::io::Result<FaultSink> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        lock(&shared.script).then = fault;
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(FaultSink { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What is done with every request from now on, until told otherwise. What was queued is forgotten.
    pub fn behave(&self, fault: Fault) {
        *lock(&self.shared.script) = Script { next: VecDeque::new(), then: fault };
    }

    /// What is done with the next requests, one each.
    pub fn queue(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.shared.script).next.extend(faults);
    }

    /// Cuts every open connection, as a receiver that is restarted does.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Puts the receipts back to what they were: the receiver, too, can be set back to an earlier day.
    pub fn restore(&self, receipts: Receipts) {
        lock(&self.shared.record).receipts = receipts;
    }

    /// Everything that was taken so far.
    pub fn receipts(&self) -> Receipts {
        lock(&self.shared.record).receipts.clone()
    }

    /// Looks at what was taken without a copy of it.
    pub fn with_receipts<T>(&self, look: impl FnOnce(&Receipts) -> T) -> T {
        look(&lock(&self.shared.record).receipts)
    }

    /// Every request so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.shared.record).exchanges.clone()
    }

    /// The time from the end of each span to its arrival here, microseconds, since the last call.
    pub fn take_delays_us(&self) -> Vec<u64> {
        std::mem::take(&mut lock(&self.shared.record).delays_us)
    }
}

impl Drop for FaultSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, &shared) => {}
                () = shared.cut.notified() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What becomes of the connection after a request.
enum Then {
    Next,
    Close,
    Reset,
}

async fn connection(stream: TcpStream, shared: &Shared) {
    let mut wire = Wire::new(stream);
    while wire.first_byte().await {
        let fault = shared.next_fault();
        let slot = shared.begin();
        match exchange(&mut wire, &fault, shared, slot).await {
            Some(Then::Next) => {}
            Some(Then::Reset) => return wire.reset(),
            Some(Then::Close) | None => break,
        }
    }
    wire.close().await;
}

/// One request; `None` if the other side went away.
async fn exchange(wire: &mut Wire, fault: &Fault, shared: &Shared, slot: usize) -> Option<Then> {
    if let Fault::ResetAt(bytes) = fault {
        wire.read_up_to(*bytes).await;
        return Some(Then::Reset);
    }
    let head = wire.head().await?;
    match fault {
        Fault::ResetAtHead => return Some(Then::Reset),
        Fault::EarlyReply(reply) => {
            shared.answered(slot, reply.status);
            wire.write(&reply.bytes(false)).await?;
            return Some(Then::Close);
        }
        _ => {}
    }
    let body = wire.body(&head).await?;
    shared.note(slot, |exchange| exchange.body_bytes = body.len());
    match fault {
        Fault::ResetAfterBody => return Some(Then::Reset),
        Fault::Hang => {
            wire.gone().await;
            return None;
        }
        Fault::Garbage => {
            wire.write(b"\x16\x03\x01 220 mail.example ESMTP\r\n\x00\xff\xfe").await?;
            return Some(Then::Close);
        }
        Fault::Drip => {
            for byte in Reply::ok(&head).bytes(true) {
                wire.write(&[byte]).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            return Some(Then::Next);
        }
        _ => {}
    }
    let Some(traces) = read(&head, &body) else {
        let reply = Reply::new(400, "the body is not an OTLP trace request");
        shared.answered(slot, reply.status);
        wire.write(&reply.bytes(true)).await?;
        return Some(Then::Next);
    };
    let (reply, skipped) = verdict(fault, &head, &body, &traces);
    let taken = shared.take(&traces, skipped);
    shared.note(slot, |exchange| exchange.taken = taken);
    match fault {
        Fault::LoseAnswer => return Some(Then::Reset),
        Fault::TornAnswer => {
            let bytes = reply.bytes(true);
            wire.write(bytes.get(..12).unwrap_or(&bytes)).await?;
            return Some(Then::Close);
        }
        Fault::Slow(time) => tokio::time::sleep(*time).await,
        _ => {}
    }
    shared.answered(slot, reply.status);
    wire.write(&reply.bytes(true)).await?;
    Some(if matches!(fault, Fault::CloseUnderReuse) { Then::Close } else { Then::Next })
}

/// The answer, and how many spans from the front are not taken.
fn verdict(fault: &Fault, head: &Head, body: &[u8], traces: &Traces) -> (Reply, usize) {
    let all = traces.len();
    match fault {
        Fault::Refuse(reply) => (reply.clone(), all),
        Fault::TakeSaying(reply) => (reply.clone(), 0),
        Fault::Partial { refused, said, message } => {
            (partial_success(head.is_json(), *said, message), *refused)
        }
        Fault::Above(bytes) if body.len() > *bytes => (Reply::new(413, "request entity too large"), all),
        Fault::Poison { marker, reply } if contains(traces.body(), marker.as_bytes()) => (reply.clone(), all),
        Fault::TornAnswer => (Reply::ok(head), all),
        _ => (Reply::ok(head), 0),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len().max(1)).any(|window| window == needle)
}

fn read(head: &Head, body: &Bytes) -> Option<Traces> {
    let body = crate::sink::decode(&head.headers, body.clone())?;
    crate::sink::index(&head.headers, &body)
}

impl Shared {
    fn next_fault(&self) -> Fault {
        let mut script = lock(&self.script);
        script.next.pop_front().unwrap_or_else(|| script.then.clone())
    }

    /// A place in the record for a request that begins.
    fn begin(&self) -> usize {
        let exchanges = &mut lock(&self.record).exchanges;
        exchanges.push(Exchange { at: Instant::now(), status: None, body_bytes: 0, taken: 0 });
        exchanges.len() - 1
    }

    fn note(&self, slot: usize, change: impl FnOnce(&mut Exchange)) {
        if let Some(exchange) = lock(&self.record).exchanges.get_mut(slot) {
            change(exchange);
        }
    }

    fn answered(&self, slot: usize, status: u16) {
        self.note(slot, |exchange| exchange.status = Some(status));
    }

    fn take(&self, traces: &Traces, skipped: usize) -> usize {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let mut record = lock(&self.record);
        let mut taken = 0;
        for span in traces.spans().skip(skipped) {
            record.receipts.take_one(span);
            record.delays_us.push(now.saturating_sub(span.end_unix_nano()) / 1000);
            taken += 1;
        }
        taken
    }
}
