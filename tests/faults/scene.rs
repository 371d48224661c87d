//! A gateway, its destinations, and the oracle: what every scenario is made of, and the three claims it ends in.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::JoinHandle;
use tracecast_loadkit::faultsink::{Fault, FaultSink};
use tracecast_loadkit::load::{self, Options, Pace, Report};
use tracecast_loadkit::oracle::Oracle;
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, PATIENCE, assert_balanced, is_timed};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// C3: how long a fresh event may take once the fault is over, on a machine that does nothing else.
const FRESH_WITHIN: Duration = Duration::from_secs(5);
/// Numbers of fresh events begin here, above those of any other.
const FRESH: u64 = 1 << 50;

static ALONE: Mutex<()> = Mutex::const_new(());

/// Waits for the machine: scenarios run one after the other.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// A destination and the sink behind it.
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) sink: FaultSink,
}

pub(crate) struct Scene {
    pub(crate) home: Home,
    pub(crate) oracle: Oracle,
    pub(crate) places: Vec<Place>,
    gateway: Option<Gateway>,
    environment: Vec<(&'static str, String)>,
    fresh: u64,
    _alone: Option<MutexGuard<'static, ()>>,
}

/// What the three claims found.
#[derive(Default)]
pub(crate) struct Conclusion {
    /// Spans acknowledged, fresh ones included.
    pub(crate) acknowledged: u64,
    /// Obligations neither met nor in a final state, over all destinations.
    pub(crate) lost: u64,
    /// Copies beyond the first, over all destinations.
    pub(crate) duplicates: u64,
    /// Over all destinations.
    pub(crate) dead_lettered: u64,
    /// Over all destinations.
    pub(crate) dropped: u64,
    /// The slowest destination's time to the fresh event.
    pub(crate) fresh: Duration,
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acknowledged, {} lost, {} came twice", self.acknowledged, self.lost, self.duplicates)?;
        if self.dead_lettered + self.dropped > 0 {
            write!(f, ", {} dead-lettered, {} dropped", self.dead_lettered, self.dropped)?;
        }
        write!(f, ", fresh event after {} ms", self.fresh.as_millis())
    }
}

impl Scene {
    /// Starts a gateway with these settings, alone on the machine.
    pub(crate) async fn open(settings: &str) -> Scene {
        Scene::open_with(settings, |_| Vec::new()).await
    }

    /// The same with environment variables, made when the directory exists.
    pub(crate) async fn open_with(
        settings: &str,
        environment: impl FnOnce(&Home) -> Vec<(&'static str, String)>,
    ) -> Scene {
        let guard = alone().await;
        Scene { _alone: Some(guard), ..Scene::beside(settings, environment) }
    }

    /// One of several in a scenario that has the machine already.
    pub(crate) fn beside(
        settings: &str,
        environment: impl FnOnce(&Home) -> Vec<(&'static str, String)>,
    ) -> Scene {
        let home = Home::new(BINARY);
        home.config(settings);
        let environment = environment(&home);
        let mut scene = Scene {
            home,
            oracle: Oracle::default(),
            places: Vec::new(),
            gateway: None,
            environment,
            fresh: 0,
            _alone: None,
        };
        scene.start();
        scene
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("the gateway runs")
    }

    /// Starts the gateway; how long it took until it served.
    pub(crate) fn start(&mut self) -> Duration {
        let started = Instant::now();
        let mut command = self.home.serve();
        command.envs(self.environment.iter().cloned());
        self.gateway = Some(self.home.spawn(command));
        started.elapsed()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.gateway.take().expect("the gateway runs").kill();
    }

    /// SIGTERM; how long the end took.
    pub(crate) async fn stop(&mut self) -> Duration {
        let gateway = self.gateway.take().expect("the gateway runs");
        let started = Instant::now();
        let code = tokio::task::spawn_blocking(move || gateway.stop()).await.expect("it stops");
        assert_eq!(code, 0, "{}", self.home.stderr());
        started.elapsed()
    }

    /// Starts a successor on the same data directory, to which the running process hands over.
    pub(crate) fn hand_over(&mut self) {
        let predecessor = self.gateway.take().expect("the gateway runs");
        tokio::task::block_in_place(|| {
            self.start();
            assert_eq!(predecessor.ended(), 0, "{}", self.home.stderr());
        });
    }

    /// A collector that behaves like this, and a destination for it.
    pub(crate) async fn place(&mut self, name: &str, fault: Fault) -> usize {
        let sink = FaultSink::start(fault).await.expect("a sink");
        let url = sink.url();
        self.place_at(name, sink, &url).await
    }

    /// A destination at `endpoint`, whose events are to arrive at `sink` in the end.
    pub(crate) async fn place_at(&mut self, name: &str, sink: FaultSink, endpoint: &str) -> usize {
        let id = self.gateway().simple("otel-collector", name, json!({ "endpoint": endpoint })).await;
        self.places.push(Place { id, name: name.to_owned(), sink });
        self.places.len() - 1
    }

    /// Gives a destination another address.
    pub(crate) async fn readdress(&self, place: usize, endpoint: &str) {
        let path = format!("/observability/destinations/{}", self.places[place].id);
        let patch = json!({ "config": { "endpoint": endpoint } });
        let (status, answer) = self.gateway().api("PATCH", &path, Some(&patch)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Load in a closed loop of two.
    pub(crate) fn options(&self, spans: u64, per_request: usize, body_bytes: usize, seed: u64) -> Options {
        Options {
            url: format!("{}/v1/traces", self.gateway().http),
            key: Some(INGEST_KEY.into()),
            pace: Pace::Closed(2),
            spans_per_request: per_request,
            body_bytes,
            // The spans say when it ends, or a refusal; this is for a load that is stuck.
            duration: Duration::from_secs(600),
            spans_max: Some(spans),
            until_refused: false,
            gzip: false,
            seed,
        }
    }

    /// Sends load to its end; all of it must be acknowledged.
    pub(crate) async fn load(&mut self, options: Options) -> Report {
        let report = load::run(options.clone(), None).await.expect("a client");
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        self.oracle.add(&options, &report);
        report
    }

    /// Sends one body; it must be acknowledged.
    pub(crate) async fn send(&mut self, body: Vec<u8>) {
        assert_eq!(self.try_send(body).await, 200, "{}", self.home.stderr());
    }

    /// Sends one body; the status of the answer.
    pub(crate) async fn try_send(&mut self, body: Vec<u8>) -> u16 {
        self.oracle.offer(&body);
        let (status, _) = self.gateway().send(body.clone()).await;
        if status == 200 {
            self.oracle.acknowledge(&body);
        }
        status
    }

    pub(crate) async fn stats(&self, place: usize) -> Json {
        self.gateway().stats(&self.places[place].id).await
    }

    /// Polls the stats of a destination until they are as wanted.
    pub(crate) async fn until(&self, place: usize, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        self.until_within(PATIENCE, place, what, wanted).await
    }

    /// The same with another patience.
    pub(crate) async fn until_within(
        &self,
        patience: Duration,
        place: usize,
        what: &str,
        wanted: impl Fn(&Json) -> bool,
    ) -> Json {
        let started = Instant::now();
        loop {
            let stats = self.stats(place).await;
            if wanted(&stats) {
                return stats;
            }
            let name = &self.places[place].name;
            assert!(started.elapsed() < patience, "{name}: not {what} after {patience:?}: {stats:#}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// The fault of every sink ends, and every destination is told to try again.
    pub(crate) async fn recover(&self) {
        for place in &self.places {
            place.sink.behave(Fault::None);
            place.sink.cut();
            let path = format!("/observability/destinations/{}/resume", place.id);
            let (status, answer) = self.gateway().api("POST", &path, None).await;
            assert_eq!(status, 200, "{}: {answer}", place.name);
        }
    }

    /// C3: the time until a fresh event is at every destination.
    pub(crate) async fn fresh(&mut self) -> Duration {
        self.fresh += 1;
        let span = generation(FRESH + self.fresh, "fresh");
        let id = span.span_id;
        let started = Instant::now();
        self.send(request(&[span])).await;
        for place in &self.places {
            let most = if is_timed() { FRESH_WITHIN } else { PATIENCE };
            while !place.sink.with_receipts(|r| r.contains(&id)) {
                if started.elapsed() > most {
                    let stats = self.gateway().stats(&place.id).await;
                    panic!("{}: no fresh event within {most:?}: {stats:#}", place.name);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        started.elapsed()
    }

    /// C1, C2 and C3 at every destination.
    pub(crate) async fn conclude(&mut self) -> Conclusion {
        let fresh = self.fresh().await;
        assert!(!self.home.stderr().contains("panicked"), "{}", self.home.stderr());
        let mut conclusion =
            Conclusion { acknowledged: self.oracle.acknowledged(), fresh, ..Conclusion::default() };
        for place in 0..self.places.len() {
            self.judge(place, &mut conclusion).await;
        }
        assert_eq!(conclusion.lost, 0);
        conclusion
    }

    /// C1 and C2 at one destination, once nothing is pending there.
    async fn judge(&self, place: usize, conclusion: &mut Conclusion) {
        let stats = self.until(place, "drained", |stats| stats["pending"] == 0).await;
        let Place { name, sink, .. } = &self.places[place];
        let verdict = sink.with_receipts(|receipts| self.oracle.judge(receipts));
        let said = format!("{name}: {verdict:?}, {stats:#}");
        // C1
        assert_balanced(&stats);
        let n = |key: &str| stats[key].as_u64().expect("a number");
        let dropped: u64 =
            stats["dropped"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        let accepted = n("accepted");
        assert!(accepted >= self.oracle.acknowledged() && accepted <= self.oracle.offered(), "{said}");
        assert_eq!(verdict.taken, n("delivered"), "what was counted as delivered is what arrived: {said}");
        // C2
        assert_eq!((verdict.foreign, verdict.altered), (0, 0), "{said}");

        let ended = n("dead_lettered") + dropped;
        let lost = verdict.missing.saturating_sub(ended);
        assert_eq!(lost, 0, "{lost} acknowledged spans are lost: {said}");
        if self.oracle.offered() == self.oracle.acknowledged() {
            assert_eq!(verdict.missing, ended, "{said}");
        }
        conclusion.lost += lost;
        conclusion.duplicates += verdict.duplicates;
        conclusion.dead_lettered += n("dead_lettered");
        conclusion.dropped += dropped;
    }
}

impl Scene {
    /// The claims where the log itself was damaged: what is missing is counted as damaged. What was delivered
    /// before, but is not known to be any more, may be counted so as well, or come again.
    pub(crate) async fn conclude_damaged(&mut self, damage: &str, delivered_before: u64) -> Conclusion {
        let fresh = self.fresh().await;
        let stats = self.until(0, "drained", |stats| stats["pending"] == 0).await;
        let verdict = self.places[0].sink.with_receipts(|receipts| self.oracle.judge(receipts));
        let said = format!("{damage}: {verdict:?}, {stats:#}");
        assert_balanced(&stats);
        assert_eq!((verdict.foreign, verdict.altered), (0, 0), "{said}");
        let dropped = stats["dropped"]["damaged"].as_u64().expect("a number");
        assert!(dropped >= verdict.missing, "{} missing, not counted: {said}", verdict.missing);
        assert!(dropped - verdict.missing <= delivered_before, "counted, but not missing: {said}");
        let (duplicates, acknowledged) = (verdict.duplicates, self.oracle.acknowledged());
        Conclusion { acknowledged, duplicates, dropped, fresh, ..Conclusion::default() }
    }
}

/// Load that runs beside what a scenario does.
pub(crate) struct Running {
    options: Options,
    acknowledged: watch::Receiver<u64>,
    task: JoinHandle<Report>,
}

impl Running {
    pub(crate) fn start(options: Options) -> Running {
        let (reached, acknowledged) = watch::channel(0u64);
        let progress: load::Progress = Arc::new(move |n| {
            reached.send_replace(n);
        });
        let sent = options.clone();
        let task = tokio::spawn(async move { load::run(sent, Some(progress)).await.expect("a client") });
        Running { options, acknowledged, task }
    }

    /// Waits until so many spans are acknowledged.
    pub(crate) async fn acknowledged(&mut self, spans: u64) {
        self.acknowledged.wait_for(|n| *n >= spans).await.expect("the load gets that far");
    }

    /// Waits for the end and tells the oracle.
    pub(crate) async fn end(self, oracle: &mut Oracle) -> Report {
        let report = self.task.await.expect("the load ends");
        oracle.add(&self.options, &report);
        report
    }
}
