//! What a seed stands for: the shape of the log, the destinations, and which faults may come.
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tracecast_log::Durability;
use tracecast_sinks::BatchLimits;

/// The settings of one simulation.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) log: tracecast_log::Options,
    pub(super) delivery: tracecast_delivery::Options,
    pub(super) lives: u32,
    /// Actions of one life.
    pub(super) actions: u32,
    /// Moods change.
    pub(super) moods: bool,
    /// The disk fills or fails.
    pub(super) disk_faults: bool,
    /// Reads fail too.
    pub(super) read_faults: bool,
    /// Bits flip.
    pub(super) damage: bool,
    /// The wall clock jumps.
    pub(super) clock: bool,
    /// Destinations come, change and go.
    pub(super) operators: bool,
    /// Dead letters are replayed, and destinations filled from what the log retains.
    pub(super) requeues: bool,
    pub(super) small_cap: bool,
    pub(super) expiry: bool,
}

impl Plan {
    pub(super) fn new(rng: &mut SmallRng) -> Plan {
        let small_cap = rng.random_bool(0.3);
        let expiry = rng.random_bool(0.12);
        let segment_bytes = [16, 16, 32, 64][rng.random_range(0..4)] * 1024;
        let segments = if small_cap { rng.random_range(4..8) } else { 200 };
        let max_age = if expiry { rng.random_range(20..600) } else { 24 * 3600 };
        Plan {
            log: tracecast_log::Options {
                dir: PathBuf::from("/data/log"),
                durability: match rng.random_range(0..20) {
                    0..11 => Durability::Durable,
                    11..17 => Durability::Buffered,
                    _ => Durability::Memory,
                },
                max_bytes: segment_bytes * segments,
                max_age: Duration::from_secs(max_age),
                retain: Duration::from_secs([0, 0, 60, 4 * 3600][rng.random_range(0..4)]),
                segment_bytes,
                cache_bytes: [0, 4 << 10, 64 << 10][rng.random_range(0..3)],
                without_content: Some(tracecast_delivery::without_content),
            },
            delivery: tracecast_delivery::Options {
                max_age: Duration::from_secs(max_age),
                ..tracecast_delivery::Options::default()
            },
            lives: rng.random_range(1..5),
            actions: [6, 12, 25, 50][rng.random_range(0..4)],
            moods: rng.random_bool(0.75),
            disk_faults: rng.random_bool(0.25),
            read_faults: rng.random_bool(0.06),
            damage: rng.random_bool(0.08),
            clock: rng.random_bool(0.15),
            operators: rng.random_bool(0.35),
            requeues: rng.random_bool(0.5),
            small_cap,
            expiry,
        }
    }
}

/// The bounds of a destination's batches.
pub(super) fn limits(rng: &mut SmallRng) -> BatchLimits {
    BatchLimits {
        spans_max: [1, 3, 10, 40][rng.random_range(0..4)],
        bytes_max: [1 << 10, 8 << 10, 64 << 10][rng.random_range(0..3)],
        age_max: Duration::from_millis([0, 20, 200][rng.random_range(0..3)]),
        concurrency_max: rng.random_range(1..5),
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Asked to stop.
    Stop,
    /// `kill -9`, at an operation on the disk or between actions.
    Kill(Option<u64>),
    PowerCut(Option<u64>),
}

impl End {
    pub(super) fn choose(rng: &mut SmallRng) -> End {
        // Often early, so that recovery and the first files are hit.
        let at = match rng.random_range(0..4) {
            0 => None,
            1 => Some(rng.random_range(1..30)),
            _ => Some(rng.random_range(1..400)),
        };
        match rng.random_range(0..10) {
            0..3 => End::Stop,
            3..7 => End::Kill(at),
            _ => End::PowerCut(at),
        }
    }
}
