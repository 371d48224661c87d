//! A log in memory, scripted adapters, and the questions the tests ask.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy};
use tracecast_log::{
    Books, DeadLetter, Durability, Entry, Log, NewRecord, Options as LogOptions, Projection, Route, Sequence,
    Slot, Subscriber,
};
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use tracecast_otlp::{Payload, SpanSet};
use tracecast_sinks::{
    Adapter, Answer, Batch, BatchLimits, BuildError, Diagnosis, Failure, Item, ItemAnswer, Sent, TestReport,
};
use uuid::Uuid;

use crate::stats::unix_nano;
use crate::{Delivery, Options, Standing, State, Stats};

/// A span: the record's sequence and the position in its payload.
pub(super) type SpanKey = (Sequence, u32);

/// What one call to an adapter was.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) at: Instant,
    pub(super) token: String,
    pub(super) attempt: u32,
    pub(super) spans: Vec<SpanKey>,
    /// Spans per item.
    pub(super) items: Vec<Vec<SpanKey>>,
    pub(super) private: bool,
    /// Of the payloads, whatever is selected of them.
    pub(super) bytes: usize,
    pub(super) replayed: bool,
    pub(super) first_seen_unix_nano: Option<u64>,
    pub(super) via: bytes::Bytes,
}

/// What an adapter does with a call.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Answer(Answer),
    Later(Duration, Answer),
    Hang,
    Panic,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply::Answer(answer)
    }
}

type Script = Box<dyn FnMut(&Call) -> Reply + Send>;

/// An adapter that follows a script and notes what it was asked and what it took.
pub(super) struct Scripted {
    limits: BatchLimits,
    keeps_batches: bool,
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    taken: Mutex<BTreeMap<SpanKey, u32>>,
    /// Requests under way, and the most there ever were.
    load: Mutex<(usize, usize)>,
    /// Nothing leaves the process any more: it was killed.
    cut_off: AtomicBool,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

pub(super) const LIMITS: BatchLimits = BatchLimits {
    spans_max: 100,
    bytes_max: 1 << 20,
    age_max: Duration::from_millis(200),
    concurrency_max: 4,
};

impl Scripted {
    pub(super) fn new(
        limits: BatchLimits,
        script: impl FnMut(&Call) -> Reply + Send + 'static,
    ) -> Arc<Scripted> {
        Scripted::made(limits, false, script)
    }

    /// One that tells repetitions by their token.
    pub(super) fn keeping(
        limits: BatchLimits,
        script: impl FnMut(&Call) -> Reply + Send + 'static,
    ) -> Arc<Scripted> {
        Scripted::made(limits, true, script)
    }

    fn made(
        limits: BatchLimits,
        keeps_batches: bool,
        script: impl FnMut(&Call) -> Reply + Send + 'static,
    ) -> Arc<Scripted> {
        Arc::new(Scripted {
            limits,
            keeps_batches,
            script: Mutex::new(Box::new(script)),
            calls: Mutex::default(),
            taken: Mutex::default(),
            load: Mutex::default(),
            cut_off: AtomicBool::new(false),
        })
    }

    /// Takes everything.
    pub(super) fn willing() -> Arc<Scripted> {
        Scripted::new(LIMITS, |_| Answer::Delivered.into())
    }

    /// Gives these answers, one per call, then takes everything.
    pub(super) fn answers(answers: Vec<Answer>) -> Arc<Scripted> {
        let mut answers = answers.into_iter();
        Scripted::new(LIMITS, move |_| answers.next().unwrap_or(Answer::Delivered).into())
    }

    pub(super) fn then(&self, script: impl FnMut(&Call) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// From now on a request is neither noted nor answered.
    pub(super) fn cut_off(&self) {
        self.cut_off.store(true, Ordering::SeqCst);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// How often each span was taken.
    pub(super) fn taken(&self) -> BTreeMap<SpanKey, u32> {
        self.taken.lock().unwrap().clone()
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.load.lock().unwrap().1
    }

    fn take(&self, call: &Call, answer: &Answer) {
        let mut taken = self.taken.lock().unwrap();
        let mut take = |spans: &[SpanKey]| spans.iter().for_each(|s| *taken.entry(*s).or_default() += 1);
        match answer {
            Answer::Delivered => take(&call.spans),
            Answer::Partial { refused, .. } => {
                take(&call.spans[..call.spans.len().saturating_sub(*refused as usize)]);
            }
            Answer::PerItem(answers) => {
                let stored = call.items.iter().zip(answers).filter(|(_, a)| **a == ItemAnswer::Delivered);
                stored.for_each(|(spans, _)| take(spans));
            }
            _ => {}
        }
    }
}

impl Adapter for Scripted {
    fn limits(&self) -> BatchLimits {
        self.limits
    }

    fn keeps_batches(&self) -> bool {
        self.keeps_batches
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            if self.cut_off.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            let items: Vec<Vec<SpanKey>> = batch.items.iter().map(keys).collect();
            let call = Call {
                at: Instant::now(),
                token: batch.token.clone(),
                attempt: batch.attempt,
                spans: items.concat(),
                items,
                private: batch.items.iter().all(|i| i.private),
                bytes: batch.items.iter().map(|i| i.payload.bytes().len()).sum(),
                replayed: batch.replayed,
                first_seen_unix_nano: batch.first_seen_unix_nano,
                via: batch.via.clone(),
            };
            let reply = (self.script.lock().unwrap())(&call);
            self.calls.lock().unwrap().push(call.clone());
            let _under_way = UnderWay::enter(&self.load);
            let answer = match reply {
                Reply::Answer(answer) => answer,
                Reply::Later(delay, answer) => {
                    tokio::time::sleep(delay).await;
                    answer
                }
                Reply::Hang => std::future::pending().await,
                Reply::Panic => panic!("scripted panic"),
            };
            self.take(&call, &answer);
            Sent { answer, bytes: 10 }
        })
    }

    fn test(&self) -> BoxFuture<'_, TestReport> {
        Box::pin(async {
            TestReport {
                ok: true,
                status: None,
                url: String::new(),
                latency_ms: 0,
                diagnosis: Diagnosis::Ok,
                hint: String::new(),
            }
        })
    }
}

/// The spans of an item by what they say of themselves: a span that was made smaller stands in a payload of its
/// own, but has the id of its place in the record.
fn keys(item: &Item) -> Vec<SpanKey> {
    let traces = item.payload.traces().expect("a whole payload");
    let place = |position: u32| {
        let id = u64::from_be_bytes(traces.span(position as usize).span_id());
        u32::try_from(id - 1).expect("an id made by `payload`")
    };
    item.spans.iter().map(|position| (item.sequence, place(position))).collect()
}

struct UnderWay<'a>(&'a Mutex<(usize, usize)>);

impl<'a> UnderWay<'a> {
    fn enter(load: &'a Mutex<(usize, usize)>) -> UnderWay<'a> {
        let mut now = load.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        drop(now);
        UnderWay(load)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

pub(super) fn failure(status: u16) -> Failure {
    Failure { status: Some(status), message: format!("status {status}"), retry_after: None }
}

pub(super) fn retry(status: u16) -> Answer {
    Answer::Retry(failure(status))
}

pub(super) fn retry_after(status: u16, wait: Duration) -> Answer {
    Answer::Retry(Failure { retry_after: Some(wait), ..failure(status) })
}

pub(super) fn isolate(by_size: bool) -> Answer {
    Answer::Isolate { by_size, failure: failure(if by_size { 413 } else { 400 }) }
}

/// What the builder gives a destination.
type Built = Result<Arc<Scripted>, String>;

/// A delivery runtime over a log in memory.
pub(super) struct Bench {
    pub(super) log: Log,
    pub(super) delivery: Delivery,
    adapters: Arc<Mutex<HashMap<Uuid, Built>>>,
    destinations: Mutex<BTreeMap<Slot, Arc<Destination>>>,
    committed: watch::Sender<Sequence>,
}

/// Passes on to the runtime and tells how far the log has come.
struct Tap {
    delivery: Delivery,
    committed: watch::Sender<Sequence>,
}

impl Subscriber for Tap {
    fn committed(&self, entry: Arc<Entry>) {
        let sequence = entry.sequence;
        self.delivery.committed(entry);
        self.committed.send_replace(sequence);
    }

    fn give_up(&self, slot: Slot, up_to: Sequence) {
        self.delivery.give_up(slot, up_to);
    }
}

pub(super) fn destination(name: &str) -> Destination {
    let body = json!({
        "type": "webhook", "name": name, "config": {"url": "https://example.com/hook"},
    });
    let now = jiff::Timestamp::UNIX_EPOCH;
    let id = Uuid::new_v5(&DEFAULT_WORKSPACE_ID, name.as_bytes());
    let defaults = CreateDefaults { id, workspace_id: DEFAULT_WORKSPACE_ID, managed_by: ManagedBy::Api, now };
    Destination::create(&body, defaults).expect("a valid webhook")
}

pub(super) fn id(name: &str) -> Uuid {
    Uuid::new_v5(&DEFAULT_WORKSPACE_ID, name.as_bytes())
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Bench {
        Bench::over(open(LogOptions { durability: Durability::Memory, ..log_options() }), options)
    }

    pub(super) fn over(log: Log, options: Options) -> Bench {
        let adapters: Arc<Mutex<HashMap<Uuid, Built>>> = Arc::default();
        let known = adapters.clone();
        let build = move |destination: &Destination| -> Result<Arc<dyn Adapter>, BuildError> {
            match known.lock().unwrap().get(&destination.id) {
                Some(Ok(adapter)) => Ok(adapter.clone()),
                Some(Err(reason)) => Err(BuildError::Invalid(reason.clone())),
                None => panic!("no adapter for {}", destination.name),
            }
        };
        let delivery = Delivery::with_builder(log.clone(), Arc::new(build), options);
        let committed = watch::Sender::new(0);
        log.subscribe(Arc::new(Tap { delivery: delivery.clone(), committed: committed.clone() }));
        Bench { log, delivery, adapters, destinations: Mutex::default(), committed }
    }

    pub(super) fn slot(&self, name: &str) -> Slot {
        self.log.slot(*id(name).as_bytes())
    }

    /// Adds or replaces a destination and applies.
    pub(super) fn add(&self, name: &str, adapter: &Arc<Scripted>) -> Slot {
        self.change(destination(name), Ok(adapter.clone()));
        self.slot(name)
    }

    /// The errors of the apply.
    pub(super) fn change(&self, destination: Destination, adapter: Built) -> Vec<(Uuid, String)> {
        let slot = self.log.slot(*destination.id.as_bytes());
        self.adapters.lock().unwrap().insert(destination.id, adapter);
        self.destinations.lock().unwrap().insert(slot, Arc::new(destination));
        self.apply()
    }

    /// The adapter a destination will have.
    pub(super) fn know(&self, name: &str, adapter: &Arc<Scripted>) {
        self.adapters.lock().unwrap().insert(id(name), Ok(adapter.clone()));
    }

    /// Says again how a destination stands, with its plain configuration.
    pub(super) fn stand(&self, name: &str, standing: Standing) {
        let destination = Arc::new(destination(name));
        self.delivery.put(self.slot(name), &destination, standing).expect("it can be built");
    }

    pub(super) fn remove(&self, name: &str) {
        self.destinations.lock().unwrap().remove(&self.slot(name));
        self.apply();
    }

    pub(super) fn apply(&self) -> Vec<(Uuid, String)> {
        let destinations: Vec<_> =
            self.destinations.lock().unwrap().iter().map(|(s, d)| (*s, d.clone())).collect();
        self.delivery.apply(&destinations)
    }

    /// One record of `spans` spans, all for each of `slots`.
    pub(super) async fn append(&self, spans: u32, slots: &[Slot]) -> Sequence {
        let routes = slots.iter().map(|slot| route(*slot, SpanSet::all(spans))).collect();
        self.append_routed(spans, routes).await
    }

    pub(super) async fn append_routed(&self, spans: u32, routes: Vec<Route>) -> Sequence {
        let record = record(payload(spans, |_| 20), spans, routes);
        self.append_record(record).await
    }

    /// Returns when the runtime has it. The clock stands still meanwhile: a blocking task keeps it from
    /// advancing.
    pub(super) async fn append_record(&self, record: NewRecord) -> Sequence {
        let (log, runtime) = (self.log.clone(), tokio::runtime::Handle::current());
        let mut committed = self.committed.subscribe();
        let append = move || {
            runtime.block_on(async {
                let sequence = log.append(record).await.expect("appended");
                committed.wait_for(|c| *c >= sequence).await.expect("the log lives");
                sequence
            })
        };
        tokio::task::spawn_blocking(append).await.expect("no panic")
    }

    /// Until no destination has anything to do: every queue is empty, every batch settled.
    pub(super) async fn quiet(&self) {
        let time = Duration::from_secs(40 * 24 * 3600);
        assert!(self.delivery.is_quiet_within(time).await, "destinations still have work after {time:?}");
    }

    pub(super) fn stats(&self, name: &str) -> Stats {
        self.delivery.stats(id(name)).expect("configured")
    }

    pub(super) fn state(&self, name: &str) -> State {
        self.stats(name).state
    }

    /// Closes the log, so that everything settled is booked, and returns the books, which must balance.
    pub(super) async fn books(&self, slot: Slot) -> Books {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || log.close()).await.expect("no panic");
        let books = self.log.books(slot);
        assert!(books.balanced(), "unbalanced: {books:?}");
        books
    }

    pub(super) async fn dead_letters(&self, slot: Slot) -> Vec<DeadLetter> {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || log.dead_letters().list(slot)).await.expect("no panic")
    }
}

pub(super) fn log_options() -> LogOptions {
    LogOptions {
        dir: std::path::PathBuf::new(),
        durability: Durability::Buffered,
        max_bytes: 256 << 20,
        max_age: Duration::from_secs(24 * 3600),
        retain: Duration::ZERO,
        segment_bytes: 4 << 20,
        cache_bytes: 4 << 20,
        without_content: None,
    }
}

pub(super) fn open(options: LogOptions) -> Log {
    Log::open(options).expect("the log opens").0
}

pub(super) fn route(slot: Slot, spans: SpanSet) -> Route {
    Route { slot, projection: Projection::AS_IS, spans }
}

pub(super) fn record(payload: Payload, spans: u32, routes: Vec<Route>) -> NewRecord {
    NewRecord {
        workspace: *DEFAULT_WORKSPACE_ID.as_bytes(),
        config_generation: 1,
        received_unix_nano: unix_nano(),
        accepted: spans,
        routes,
        skips: Vec::new(),
        trace_keys: Default::default(),
        origin: Default::default(),
        payload: Arc::new(payload),
    }
}

/// Text that privacy mode must remove.
pub(super) const PROMPT: &str = "what is the meaning of life";

/// OTLP bytes of `spans` spans; `size` gives the length of a filler attribute of each.
pub(super) fn payload(spans: u32, size: impl Fn(u32) -> usize) -> Payload {
    let spans_: Vec<SpanBuilder> = (0..spans)
        .map(|i| SpanBuilder {
            trace_id: [7; 16],
            span_id: (u64::from(i) + 1).to_be_bytes(),
            name: format!("span {i}"),
            kind: 3,
            start_unix_nano: 1,
            end_unix_nano: 2,
            attributes: vec![
                ("gen_ai.request.model".to_owned(), OwnedValue::Str("m".to_owned())),
                ("gen_ai.prompt".to_owned(), OwnedValue::Str(PROMPT.to_owned())),
                ("filler".to_owned(), OwnedValue::Str("x".repeat(size(i)))),
            ],
            ..SpanBuilder::default()
        })
        .collect();
    let mut out = Vec::new();
    resource_spans(&[], "test", "1", &spans_, &mut out);
    Payload::new(out.into(), spans)
}

/// A subscriber that keeps the entries, for tests below the level of `Delivery`.
#[derive(Default)]
pub(super) struct Keep(pub(super) Mutex<Vec<Arc<Entry>>>);

impl Subscriber for Keep {
    fn committed(&self, entry: Arc<Entry>) {
        self.0.lock().unwrap().push(entry);
    }

    fn give_up(&self, _: Slot, _: Sequence) {}
}
