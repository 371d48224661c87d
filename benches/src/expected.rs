//! What must be at a receiver: every acknowledged id, saying what was sent.

use bytes::Bytes;
use tracecast_genai::Privacy;
use tracecast_loadkit::load;
use tracecast_loadkit::tally::{self, Tally};
use tracecast_loadkit::traffic::{Template, span_id};
use tracecast_otlp::write::select;
use tracecast_otlp::{Limits, SpanSet, Traces};

/// Checksums of the spans of a load's templates, in order.
#[derive(Clone, Debug)]
pub(crate) struct Expected(Vec<Vec<u64>>);

/// How a receiver's spans compare.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    /// Acknowledged and not there.
    pub(crate) missing: u64,
    /// There, and not saying what was sent.
    pub(crate) altered: u64,
}

impl Expected {
    /// Of spans delivered as they are sent, or in privacy mode.
    pub(crate) fn of(options: &load::Options, private: bool) -> anyhow::Result<Expected> {
        let checksums = |template: &Template| {
            let mut body = template.request(0, 0, 2_000_000_000);
            if private {
                body = without_content(body)?;
            }
            let spans = tally::read(&body).ok_or_else(|| anyhow::anyhow!("a template is no OTLP request"))?;
            Ok(spans.into_iter().map(|span| span.checksum).collect())
        };
        options.templates().iter().map(checksums).collect::<anyhow::Result<_>>().map(Expected)
    }

    /// Holds a receiver's spans against what a run acknowledged.
    pub(crate) fn judge(&self, report: &load::Report, tally: &Tally) -> Verdict {
        let mut verdict = Verdict::default();
        for (first, count) in &report.acked {
            let request = (first / count.max(&1)) as usize;
            let Some(checksums) = self.0.get(request % self.0.len().max(1)) else { continue };
            for (number, expected) in (*first..first + count).zip(checksums) {
                match tally.checksum(&span_id(report.run, number)) {
                    None => verdict.missing += 1,
                    Some(checksum) => verdict.altered += u64::from(checksum != Some(*expected)),
                }
            }
        }
        verdict
    }
}

fn without_content(body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let traces =
        Traces::index(Bytes::from(body), &Limits::default()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut out = Vec::new();
    select(&traces, &SpanSet::all(traces.len() as u32), Some(&Privacy), &mut out);
    for content in ["gen_ai.input.messages", "gen_ai.output.messages"] {
        let there = out.windows(content.len()).any(|window| window == content.as_bytes());
        anyhow::ensure!(!there, "privacy mode keeps {content}");
    }
    Ok(out)
}
