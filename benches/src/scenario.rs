//! What is sent, to how many destinations, under which rules, and what it may cost.

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What is done to the subject.
    pub(crate) course: Course,
    /// Receivers, one for each destination that selects what is sent.
    pub(crate) destinations: usize,
    pub(crate) spans_per_request: usize,
    /// Prompt and completion bytes per span.
    pub(crate) body_bytes: usize,
    /// The client compresses.
    pub(crate) gzip_in: bool,
    /// Towards the destinations bodies are compressed.
    pub(crate) gzip_out: bool,
    pub(crate) rules: Rules,
    /// Spans of a measured run.
    pub(crate) spans: u64,
    /// Requests per second; as fast as the connections can if absent.
    pub(crate) rate: Option<f64>,
    pub(crate) base: Base,
    /// What the ratio to the base may be: in memory mode, in durable mode.
    pub(crate) targets: [Option<f64>; 2],
}

/// How a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// Load, until everything has arrived.
    Load,
    /// Nothing at all, after some load.
    Idle,
    /// A gigabyte waits for a paused destination, and is drained beside live traffic.
    Backlog,
}

/// Which rules the gateway's destinations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Sampling evaluated, an allowlist of ten keys, a filter on the model, privacy on the fifth destination.
    Usual,
    /// None at all.
    None,
    /// So many destinations with rules of all kinds, of which the first alone selects what is sent.
    OneOf(usize),
    /// As `OneOf(10)`, in a workspace beside 999 others that have ten destinations each.
    Tenants,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// The floor under the same load.
    Floor,
    /// Deflate, or inflate, of the same bytes alone.
    Zlib,
    /// The same subject in another scenario.
    Scenario(&'static str),
    /// Nothing: the figures speak for themselves.
    Nothing,
}

const PLAIN: Scenario = Scenario {
    name: "",
    about: "",
    course: Course::Load,
    destinations: 1,
    spans_per_request: 10,
    body_bytes: 4096,
    gzip_in: false,
    gzip_out: false,
    rules: Rules::Usual,
    spans: 300_000,
    rate: None,
    base: Base::Floor,
    targets: [None, None],
};

pub(crate) const ALL: [Scenario; 15] = [
    Scenario {
        name: "A",
        about: "1 destination, 10 spans per request",
        targets: [Some(1.3), Some(1.8)],
        ..PLAIN
    },
    Scenario {
        name: "B",
        about: "fan-out to 5, 10 spans per request",
        destinations: 5,
        spans: 150_000,
        targets: [Some(1.25), Some(1.45)],
        ..PLAIN
    },
    Scenario {
        name: "C",
        about: "1 destination, 4 spans of 32 KB per request",
        spans_per_request: 4,
        body_bytes: 32 << 10,
        spans: 60_000,
        targets: [Some(1.25), Some(1.8)],
        ..PLAIN
    },
    Scenario {
        name: "F",
        about: "1 destination, 1 span per request",
        spans_per_request: 1,
        spans: 100_000,
        targets: [Some(1.2), Some(1.6)],
        ..PLAIN
    },
    Scenario {
        name: "G",
        about: "as A, gzip towards the destination",
        gzip_out: true,
        spans: 100_000,
        base: Base::Zlib,
        targets: [Some(1.25), Some(1.4)],
        ..PLAIN
    },
    Scenario {
        name: "BG",
        about: "fan-out to 5 with gzip",
        destinations: 5,
        gzip_out: true,
        spans: 60_000,
        base: Base::Zlib,
        targets: [Some(1.53), Some(1.66)],
        ..PLAIN
    },
    Scenario {
        name: "H",
        about: "as A, the client sends gzip",
        gzip_in: true,
        spans: 100_000,
        base: Base::Zlib,
        ..PLAIN
    },
    Scenario {
        name: "L",
        about: "as A, 300 requests/s",
        spans: 60_000,
        rate: Some(300.0),
        targets: [Some(1.7), Some(1.7)],
        ..PLAIN
    },
    Scenario {
        name: "Q",
        about: "1 span per request, 2,000 requests/s",
        spans_per_request: 1,
        spans: 40_000,
        rate: Some(2000.0),
        ..PLAIN
    },
    Scenario { name: "I", about: "idle after load", course: Course::Idle, base: Base::Nothing, ..PLAIN },
    Scenario {
        name: "K",
        about: "1 GB of backlog beside live traffic",
        course: Course::Backlog,
        spans: 200_000,
        base: Base::Nothing,
        ..PLAIN
    },
    Scenario { name: "R1", about: "as A, without rules", rules: Rules::None, ..PLAIN },
    Scenario {
        name: "R100",
        about: "as A, 100 destinations of which one matches",
        rules: Rules::OneOf(100),
        base: Base::Scenario("R1"),
        targets: [Some(1.2), Some(1.2)],
        ..PLAIN
    },
    Scenario {
        name: "M10",
        about: "as A, 10 destinations of which one matches",
        rules: Rules::OneOf(10),
        ..PLAIN
    },
    Scenario {
        name: "M10000",
        about: "the same beside 999 workspaces with 10 each",
        rules: Rules::Tenants,
        base: Base::Scenario("M10"),
        targets: [Some(1.2), Some(1.2)],
        ..PLAIN
    },
];

/// The scenarios of a list such as `A,B` or `all`. What another is held against comes with it.
pub(crate) fn of(names: &str) -> anyhow::Result<Vec<Scenario>> {
    if names.eq_ignore_ascii_case("all") {
        return Ok(ALL.to_vec());
    }
    let mut chosen: Vec<Scenario> = Vec::new();
    for name in names.split(',') {
        let scenario = named(name.trim())?;
        if let Base::Scenario(base) = scenario.base
            && !chosen.iter().any(|other| other.name == base)
        {
            chosen.push(named(base)?);
        }
        chosen.push(scenario);
    }
    Ok(chosen)
}

fn named(name: &str) -> anyhow::Result<Scenario> {
    ALL.into_iter().find(|scenario| scenario.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        anyhow::anyhow!("--scenario {name}: there are {} and all", known.join(", "))
    })
}
