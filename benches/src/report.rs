//! The figures of all runs, as a table with ratios to what they are held against in the same round.

use crate::scenario::{Base, Scenario};

/// One run. What was not measured is zero.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Measured {
    pub(crate) round: usize,
    pub(crate) scenario: &'static str,
    pub(crate) subject: String,
    /// Acknowledged.
    pub(crate) spans: u64,
    pub(crate) refused_requests: u64,
    /// User and system CPU of the subject's process over load and delivery.
    pub(crate) cpu_seconds_per_million: f64,
    /// From the first request to the last delivery.
    pub(crate) spans_per_second: f64,
    /// Spans of one request to a destination.
    pub(crate) spans_per_delivery: f64,
    /// From request to answer.
    pub(crate) ack_ms: Percentiles,
    /// From the making of a request to the arrival of its spans, all destinations together.
    pub(crate) delivery_ms: Percentiles,
    pub(crate) peak_rss_mb: f64,
    /// Acknowledged ids that a sink does not have, over all sinks.
    pub(crate) missing: u64,
    /// Ids whose content is not what was sent.
    pub(crate) altered: u64,
    pub(crate) duplicates: u64,
    /// What the columns have no place for.
    pub(crate) remarks: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Percentiles {
    /// Of times in microseconds, as milliseconds.
    pub(crate) fn of_us(mut times: Vec<u32>) -> Percentiles {
        times.sort_unstable();
        let at = |q: f64| {
            let i = ((times.len() as f64 * q) as usize).min(times.len().saturating_sub(1));
            times.get(i).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// One line while the rounds go on.
pub(crate) fn brief(run: &Measured) -> String {
    if !run.remarks.is_empty() {
        return run.remarks.join("; ");
    }
    format!(
        "{:.2} CPU s/M, {:.0} spans/s, ack p99 {:.1} ms, delivery p99 {:.0} ms, {:.0} MB, {} missing, {} altered, {} duplicates",
        run.cpu_seconds_per_million,
        run.spans_per_second,
        run.ack_ms.p99,
        run.delivery_ms.p99,
        run.peak_rss_mb,
        run.missing,
        run.altered,
        run.duplicates
    )
}

/// Per scenario and subject the median over the rounds, every round's CPU, and the ratio with its target.
pub(crate) fn print(scenarios: &[Scenario], all: &[Measured]) {
    println!(
        "| scenario | subject | CPU s per million spans (rounds) | ratio (target) | spans/s | spans per delivery | ack ms p50 / p99 / p999 | delivery ms p50 / p99 / p999 | peak RSS MB | lost | altered | duplicates |"
    );
    println!("| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |");
    let mut remarks = Vec::new();
    for scenario in scenarios {
        let mut subjects: Vec<&str> = Vec::new();
        for run in all.iter().filter(|run| run.scenario == scenario.name) {
            if !subjects.contains(&run.subject.as_str()) {
                subjects.push(&run.subject);
            }
        }
        for subject in subjects {
            let runs: Vec<&Measured> =
                all.iter().filter(|run| run.scenario == scenario.name && run.subject == subject).collect();
            let said = runs.iter().flat_map(|run| {
                run.remarks.iter().map(|remark| format!("- {}, {subject}: {remark}", scenario.about))
            });
            remarks.extend(said);
            if runs.iter().any(|run| run.cpu_seconds_per_million > 0.0) {
                println!("{}", row(scenario, &runs, all));
            }
        }
    }
    if !remarks.is_empty() {
        println!("\n{}", remarks.join("\n"));
    }
}

fn row(scenario: &Scenario, runs: &[&Measured], all: &[Measured]) -> String {
    let of = |figure: &dyn Fn(&Measured) -> f64| median(runs.iter().map(|run| figure(run)).collect());
    let sum = |figure: &dyn Fn(&Measured) -> u64| runs.iter().map(|run| figure(run)).sum::<u64>();
    let triple = |figure: &dyn Fn(&Measured) -> Percentiles| {
        let part = |which: &dyn Fn(Percentiles) -> f64| of(&|run| which(figure(run)));
        format!("{:.2} / {:.2} / {:.2}", part(&|p| p.p50), part(&|p| p.p99), part(&|p| p.p999))
    };
    let subject = runs.first().map_or("", |run| run.subject.as_str());
    let rounds: Vec<String> = runs.iter().map(|run| format!("{:.2}", run.cpu_seconds_per_million)).collect();
    let head = format!(
        "| {}: {} | {subject} | {:.2} ({}) | {} |",
        scenario.name,
        scenario.about,
        of(&|run| run.cpu_seconds_per_million),
        rounds.join(" "),
        ratio(scenario, runs, all)
    );
    if runs.iter().all(|run| run.spans == 0) {
        return format!("{head} | | | | | | | |");
    }
    format!(
        "{head} {:.0} | {:.0} | {} | {} | {:.0} | {} | {} | {} |",
        of(&|run| run.spans_per_second),
        of(&|run| run.spans_per_delivery),
        triple(&|run| run.ack_ms),
        triple(&|run| run.delivery_ms),
        of(&|run| run.peak_rss_mb),
        sum(&|run| run.missing),
        sum(&|run| run.altered),
        sum(&|run| run.duplicates),
    )
}

/// The median of the rounds' ratios to the base, and what it may be.
fn ratio(scenario: &Scenario, runs: &[&Measured], all: &[Measured]) -> String {
    let ratios: Vec<f64> = runs
        .iter()
        .filter_map(|run| {
            let base = all.iter().find(|other| {
                other.round == run.round
                    && match scenario.base {
                        Base::Floor => other.scenario == run.scenario && other.subject == "floor",
                        Base::Zlib => other.scenario == run.scenario && other.subject == "zlib-rs alone",
                        Base::Scenario(name) => other.scenario == name && other.subject == run.subject,
                        Base::Nothing => false,
                    }
            })?;
            Some(run.cpu_seconds_per_million / base.cpu_seconds_per_million)
        })
        .collect();
    if ratios.is_empty() {
        return String::new();
    }
    let [memory, durable] = scenario.targets;
    let target = match runs.first().map(|run| run.subject.as_str()) {
        Some("tracecast memory") => memory,
        Some("tracecast durable") => durable,
        _ => None,
    };
    let target = target.map_or(String::new(), |target| format!(" ({target})"));
    format!("{:.2}{target}", median(ratios))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
