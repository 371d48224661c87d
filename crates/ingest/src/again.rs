//! Deciding a kept record once more, by the rules of today: who sent it is stored with it.

use bytes::Bytes;
use tracecast_destination::Region;
use tracecast_genai::Privacy;
use tracecast_otlp::write::{Edit, select};
use tracecast_otlp::{Payload, SpanSet};
use tracecast_rules::Context;
use uuid::Uuid;

use crate::Ingest;

/// Version of what is stored of a sender.
const VERSION: u8 = 1;

/// What a destination would get of a kept record today.
#[derive(Debug)]
pub struct Again {
    /// The selected spans, without content if `private`.
    pub payload: Payload,
    /// They go without content.
    pub private: bool,
}

impl Ingest {
    /// Decides the spans of a record for the destination of `slot`; `pending` are those it is to get anyway.
    /// `None` if it would get none.
    pub fn decide_again(
        &self,
        workspace: Uuid,
        received_unix_nano: u64,
        sender: &[u8],
        payload: &Payload,
        slot: u32,
        pending: Option<&SpanSet>,
    ) -> Option<Again> {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load();
        let plan = snapshot.plan(&workspace)?;
        let context = Context { now_unix_nano: received_unix_nano, ..decode(sender)? };
        let traces = payload.traces().ok()?;
        let decision = plan.decide_again(traces, &context, &shared.memory);
        let route = decision.routes.into_iter().find(|route| route.slot == slot)?;
        let spans = pending.map_or(route.spans.clone(), |pending| route.spans.difference(pending));
        if spans.is_empty() {
            return None;
        }
        let edit: Option<&dyn Edit> = if route.private { Some(&Privacy) } else { None };
        let mut out = Vec::new();
        select(traces, &spans, edit, &mut out);
        Some(Again { payload: Payload::new(Bytes::from(out), spans.count()), private: route.private })
    }
}

/// Who sent a request, as stored: version u8, region u8, 1 u8 and the key's hash or 0 u8, the key's name.
pub(crate) fn encode(context: &Context<'_>) -> Bytes {
    let region = match context.region {
        Region::Global => 0,
        Region::Europe => 1,
        Region::Us => 2,
    };
    let mut out = vec![VERSION, region, u8::from(context.api_key_hash.is_some())];
    out.extend(context.api_key_hash.iter().flatten());
    out.extend(context.api_key_name.unwrap_or_default().as_bytes());
    out.into()
}

fn decode(bytes: &[u8]) -> Option<Context<'_>> {
    let [version, region, has_key, rest @ ..] = bytes else { return None };
    let region = match (*version, *region) {
        (VERSION, 0) => Region::Global,
        (VERSION, 1) => Region::Europe,
        (VERSION, 2) => Region::Us,
        _ => return None,
    };
    let (api_key_hash, name) = match has_key {
        0 => (None, rest),
        _ => rest.split_first_chunk::<32>().map(|(hash, name)| (Some(*hash), name))?,
    };
    let name = std::str::from_utf8(name).ok()?;
    Some(Context {
        region,
        api_key_hash,
        api_key_name: Some(name).filter(|name| !name.is_empty()),
        now_unix_nano: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_comes_back_as_it_was_stored() {
        for region in [Region::Global, Region::Europe, Region::Us] {
            for api_key_hash in [None, Some([7; 32])] {
                for api_key_name in [None, Some("schlüssel")] {
                    let context = Context { region, api_key_hash, api_key_name, now_unix_nano: 0 };
                    let stored = encode(&context);
                    let found = decode(&stored).unwrap();
                    assert_eq!(
                        (found.region, found.api_key_hash, found.api_key_name),
                        (region, api_key_hash, api_key_name)
                    );
                }
            }
        }
        for foreign in [&b""[..], &[1], &[9, 0, 0], &[1, 7, 0], &[1, 0, 1, 5], &[1, 0, 0, 0xff]] {
            assert!(decode(foreign).is_none(), "{foreign:?}");
        }
    }
}
