//! From an indexed request to records in the log: identity, rules, what is kept, the ack.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tracecast_destination::Region;
use tracecast_genai::identity::{StripIdentity, any_stated, stated_identity};
use tracecast_genai::media::StripMedia;
use tracecast_genai::{Chain, Privacy};
use tracecast_log::{LogError, NewRecord, Origin, Projection, Route, Skip, SkipReason};
use tracecast_otlp::write::{Edit, select};
use tracecast_otlp::{Payload, SpanSet, Traces};
use tracecast_rules::{CanAssert, Context, Decision, Snapshot};
use uuid::Uuid;

use crate::again;
use crate::answer::{Partial, Refusal};
use crate::auth::Sender;
use crate::budget::Reservation;
use crate::counters::Reason;
use crate::dedupe::{Claim, FirstCopy, Sorted};
use crate::mark::MarkOverLimit;
use crate::meter::KeyUsage;
use crate::{Decided, Ingest, Media};

/// At most this many reasons are spelled out in a partial success.
const REASONS_MAX: usize = 5;

/// Who a span is counted as: what its sender's credential says, or what it may state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) workspace: Uuid,
    pub(crate) key_hash: Option<[u8; 32]>,
    pub(crate) region: Region,
}

/// What the log is to take, and what is counted once it has.
struct Kept {
    record: NewRecord,
    claim: Claim,
    /// To be called with the record's number.
    observed: Option<crate::Kept>,
    /// `None`: no registered key is charged for it.
    usage: Option<KeyUsage>,
}

/// What one request becomes.
struct Work<'a> {
    /// Grows with every copy that has to be made.
    reservation: &'a mut Reservation,
    kept: Vec<Kept>,
    /// Spans that came before.
    duplicates: u64,
    first_copies: Vec<FirstCopy>,
}

impl Work<'_> {
    fn reserve(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.reservation.grow(bytes) { Ok(()) } else { Err(Refusal::out_of_memory()) }
    }
}

/// What came of a good request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Accepted {
    /// Spans that are in the log, copies of earlier ones included.
    pub(crate) spans: u64,
    pub(crate) partial: Partial,
}

impl Ingest {
    /// Decides and keeps the spans of one request; resolves when they are as durable as the log promises.
    pub(crate) async fn accept(
        &self,
        body: Bytes,
        sender: &Sender,
        reservation: &mut Reservation,
    ) -> Result<Accepted, Refusal> {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load_full();
        let now = now_unix_nano();
        let traces = Traces::index(body, &shared.otlp_limits)
            .map_err(|e| Refusal::malformed(format!("not a valid OTLP trace request: {e}")))?;
        let mut refused = Refused::default();
        for bad in traces.rejected() {
            refused.add(Reason::InvalidSpan, || format!("{}: {}", bad.path, bad.reason));
        }
        let mut work = Work { reservation, kept: Vec::new(), duplicates: 0, first_copies: Vec::new() };
        work.reserve(traces.index_bytes())?;
        self.records(traces, sender, &snapshot, now, &mut refused, &mut work)?;
        let Work { kept, duplicates, first_copies, .. } = work;
        let spans = duplicates + kept.iter().map(|k| u64::from(k.record.accepted)).sum::<u64>();
        if spans == 0
            && let Some(refusal) = refused.rate_limit.take()
        {
            // They can all come again.
            return Err(refusal);
        }
        for (reason, n) in refused.counts() {
            shared.counters.reject(reason, n);
        }
        let partial = refused.into_partial();
        if spans == 0 && partial.rejected > 0 {
            return Err(Refusal::nothing_usable(partial.message));
        }
        for Kept { record, claim, observed, usage } in kept {
            match shared.log.append(record).await.map_err(not_kept) {
                Ok(sequence) => {
                    claim.kept();
                    if let Some(observed) = observed {
                        observed(sequence);
                    }
                }
                Err(refusal) => {
                    claim.refused(&refusal);
                    return Err(refusal);
                }
            }
            if let Some(usage) = &usage {
                shared.meter.count(usage);
            }
        }
        // Only now that nobody waits for this request: two that hold each other's copies must not wait in a ring.
        for first in first_copies {
            first.answered().await?;
        }
        shared.counters.duplicate(duplicates);
        Ok(Accepted { spans, partial })
    }

    /// Fills `work` with the records one request becomes: one, unless it states identities of its own.
    fn records(
        &self,
        traces: Traces,
        sender: &Sender,
        snapshot: &Snapshot,
        now: u64,
        refused: &mut Refused,
        work: &mut Work<'_>,
    ) -> Result<(), Refusal> {
        if traces.is_empty() {
            return Ok(());
        }
        let own = Identity {
            workspace: sender.workspace,
            key_hash: sender.key_hash,
            region: self.shared.options.region,
        };
        if !any_stated(&traces) {
            self.charge_spans(sender, own.workspace, traces.body().len())?;
            return self.record(traces, own, sender, snapshot, now, work);
        }
        if sender.can_assert == CanAssert::None {
            let stating = traces.spans().filter(|s| !stated_identity(*s).is_empty()).count();
            self.shared.counters.ignore_identity(stating as u64);
            let all = SpanSet::all(traces.len() as u32);
            let traces = self.rewrite(&traces, &all, Some(&StripIdentity), work)?;
            return self.record(traces, own, sender, snapshot, now, work);
        }
        let mut groups: HashMap<Identity, Vec<u32>> = HashMap::new();
        let mut bytes: HashMap<Uuid, usize> = HashMap::new();
        for span in traces.spans() {
            match resolve(&stated_identity(span), own, sender.can_assert, snapshot) {
                Ok(identity) => {
                    groups.entry(identity).or_default().push(span.index() as u32);
                    *bytes.entry(identity.workspace).or_default() += span.encoded_len();
                }
                Err((reason, message)) => {
                    refused.add(reason, || format!("{}: {message}", span.path()));
                }
            }
        }
        for (workspace, bytes) in bytes {
            if let Err(refusal) = self.charge_spans(sender, workspace, bytes) {
                let over = groups.extract_if(|identity, _| identity.workspace == workspace);
                refused.over_rate(over.map(|(_, spans)| spans.len() as u64).sum(), workspace, refusal);
            }
        }
        for (identity, spans) in groups {
            let set = SpanSet::from_positions(traces.len() as u32, spans);
            let part = if set.is_all() { traces.clone() } else { self.rewrite(&traces, &set, None, work)? };
            self.record(part, identity, sender, snapshot, now, work)?;
        }
        Ok(())
    }

    /// Some spans of a request as a request of their own.
    fn rewrite(
        &self,
        traces: &Traces,
        spans: &SpanSet,
        edit: Option<&dyn Edit>,
        work: &mut Work<'_>,
    ) -> Result<Traces, Refusal> {
        work.reserve(traces.body().len() + traces.index_bytes())?;
        let mut out = Vec::with_capacity(traces.body().len());
        select(traces, spans, edit, &mut out);
        Traces::index(Bytes::from(out), &self.shared.otlp_limits)
            .map_err(|e| Refusal::malformed(format!("request could not be split by identity: {e}")))
    }

    /// Decides one group of spans, without those that came before, and shapes what is kept of it.
    fn record(
        &self,
        traces: Traces,
        identity: Identity,
        sender: &Sender,
        snapshot: &Snapshot,
        now: u64,
        work: &mut Work<'_>,
    ) -> Result<(), Refusal> {
        let shared = &self.shared;
        let plan = snapshot
            .workspaces
            .get(&identity.workspace)
            .ok_or_else(|| Refusal::overloaded("the key's workspace is being removed", 1))?;
        let Sorted { claim, fresh, first_copies } = shared.dedupe.sort(identity.workspace, &traces);
        work.first_copies.extend(first_copies);
        let traces = match &fresh {
            None => traces,
            Some(fresh) => {
                work.duplicates += u64::from(traces.len() as u32 - fresh.count());
                if fresh.is_empty() {
                    return Ok(());
                }
                self.rewrite(&traces, fresh, None, work)?
            }
        };
        let accepted = traces.len() as u32;
        // A stated key is another key: the credential's name does not speak for it.
        let key_name = (identity.key_hash == sender.key_hash).then_some(sender.key_name.as_deref()).flatten();
        let context = Context {
            region: identity.region,
            api_key_hash: identity.key_hash,
            api_key_name: key_name,
            now_unix_nano: now,
        };
        let charged = identity.key_hash.and_then(|hash| {
            let key = snapshot.keys.get(&hash)?;
            // Who states a key of a workspace its event does not go to spends nothing of it.
            let is_own = Some(hash) == sender.key_hash || key.workspace_id == identity.workspace;
            is_own.then_some((hash, key))
        });
        let over_limit = charged.is_some_and(|(_, key)| key.over_limit);
        let usage = charged.map(|(hash, _)| KeyUsage::of(hash, &traces, now));
        let decision = plan.decide(&traces, &context, &shared.memory);
        let observed = shared.observer.get().map(|observer| {
            observer.decided(&Decided {
                workspace: identity.workspace,
                received_unix_nano: now,
                traces: &traces,
                decision: &decision,
            })
        });
        let Decision { routes, skips, union, all_private, trace_keys, .. } = decision;
        let payload = match &union {
            Some(kept) if !kept.is_empty() => {
                let received = traces.body().as_ptr();
                let payload = self.keep(traces, kept, all_private, over_limit);
                if payload.bytes().as_ptr() != received {
                    work.reserve(payload.bytes().len())?;
                }
                payload
            }
            _ => Payload::new(Bytes::new(), 0),
        };
        let routes = match &union {
            Some(kept) => routes
                .into_iter()
                .map(|r| Route {
                    slot: r.slot,
                    projection: if r.private { Projection::PRIVACY } else { Projection::AS_IS },
                    spans: r.spans.within(kept),
                })
                .collect(),
            None => Vec::new(),
        };
        let skips = skips
            .into_iter()
            .filter_map(|(slot, reason, spans)| {
                Some(Skip { slot, reason: SkipReason::from_code(reason as u8)?, spans })
            })
            .collect();
        let record = NewRecord {
            workspace: identity.workspace.into_bytes(),
            config_generation: snapshot.generation,
            received_unix_nano: now,
            accepted,
            routes,
            skips,
            trace_keys: Bytes::from(trace_keys),
            origin: Origin { via: sender.via.clone(), sender: again::encode(&context) },
            payload: Arc::new(payload),
        };
        work.kept.push(Kept { record, claim, observed, usage });
        Ok(())
    }

    /// The bytes that are kept: as received where nothing has to change.
    pub(crate) fn keep(
        &self,
        traces: Traces,
        kept: &SpanSet,
        all_private: bool,
        over_limit: bool,
    ) -> Payload {
        let strip_media =
            self.shared.options.media == Media::Strip && tracecast_genai::media::probe_bytes(traces.body());
        let mut edits: Vec<&dyn Edit> = Vec::new();
        if all_private {
            edits.push(&Privacy);
        }
        if strip_media {
            edits.push(&StripMedia);
        }
        if over_limit {
            edits.push(&MarkOverLimit);
        }
        if edits.is_empty() && kept.is_all() && traces.is_whole() {
            return Payload::from_traces(traces);
        }
        let mut out = Vec::with_capacity(traces.body().len());
        if edits.is_empty() {
            select(&traces, kept, None, &mut out);
        } else {
            select(&traces, kept, Some(&Chain(&edits)), &mut out);
        }
        Payload::new(Bytes::from(out), kept.count())
    }
}

/// What the span states, checked against what its credential may assert.
pub(crate) fn resolve(
    stated: &tracecast_genai::identity::StatedIdentity<'_>,
    own: Identity,
    can_assert: CanAssert,
    snapshot: &Snapshot,
) -> Result<Identity, (Reason, String)> {
    let mut identity = own;
    if let Some(text) = stated.workspace_id {
        let unknown = || (Reason::UnknownWorkspace, "tracecast.workspace_id: unknown workspace".to_owned());
        let id = Uuid::parse_str(text).map_err(|_| unknown())?;
        let allowed = id == own.workspace || can_assert == CanAssert::AnyWorkspace;
        if !allowed || !snapshot.workspaces.contains_key(&id) {
            return Err(unknown());
        }
        identity.workspace = id;
    }
    if let Some(text) = stated.api_key_hash {
        identity.key_hash = Some(tracecast_otlp::from_hex(text).ok_or_else(|| {
            (Reason::InvalidSpan, "tracecast.api_key_hash: not 64 hexadecimal digits".to_owned())
        })?);
    }
    if let Some(text) = stated.region {
        identity.region = Region::parse(text)
            .ok_or_else(|| (Reason::InvalidSpan, "tracecast.region: not global, europe or us".to_owned()))?;
    }
    Ok(identity)
}

/// A record the log did not take. The client is told to come back; nothing of it is acknowledged.
fn not_kept(error: LogError) -> Refusal {
    match error {
        LogError::Full => Refusal::overloaded("the log is full", 5),
        LogError::Closed => Refusal::overloaded("the gateway is stopping", 5),
        // The only way a request comes to this is by its size: sending it again cannot help.
        LogError::Invalid(why) => Refusal::too_large(format!("the log cannot take the request: {why}")),
        LogError::Io { .. } => {
            tracing::error!(%error, "log append failed");
            Refusal::overloaded("the log cannot be written", 5)
        }
        other => {
            tracing::error!(error = %other, "log append failed");
            Refusal::overloaded("the log did not take the record", 5)
        }
    }
}

/// Refused spans of one request, with the first reasons.
#[derive(Debug, Default)]
struct Refused {
    invalid: u64,
    unknown_workspace: u64,
    rate_limited: u64,
    /// What the request is answered with if nothing else of it is kept: the longest wait.
    rate_limit: Option<Refusal>,
    reasons: Vec<String>,
}

impl Refused {
    fn add(&mut self, reason: Reason, text: impl FnOnce() -> String) {
        match reason {
            Reason::UnknownWorkspace => self.unknown_workspace += 1,
            _ => self.invalid += 1,
        }
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(text());
        }
    }

    /// Spans for a workspace that has sent too much. Those of others in the same request are not held up by it.
    fn over_rate(&mut self, spans: u64, workspace: Uuid, refusal: Refusal) {
        self.rate_limited += spans;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(format!("{workspace}: {}", refusal.message));
        }
        let longest = self.rate_limit.as_ref().and_then(|r| r.retry_after_seconds);
        if longest < refusal.retry_after_seconds {
            self.rate_limit = Some(refusal);
        }
    }

    fn counts(&self) -> [(Reason, u64); 3] {
        [
            (Reason::InvalidSpan, self.invalid),
            (Reason::UnknownWorkspace, self.unknown_workspace),
            (Reason::RateLimited, self.rate_limited),
        ]
    }

    fn into_partial(self) -> Partial {
        let rejected = self.invalid + self.unknown_workspace + self.rate_limited;
        let mut message = self.reasons.join("; ");
        if rejected > self.reasons.len() as u64 {
            message.push_str(&format!("; and {} more", rejected - self.reasons.len() as u64));
        }
        Partial { rejected, message }
    }
}

pub(crate) fn now_unix_nano() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
