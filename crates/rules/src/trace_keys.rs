//! How what the trace memory learned is written into a record.
//!
//! ```text
//! version 1 (1 byte), then per item:
//!   trace id      16 bytes
//!   form          1 byte: low 2 bits the key (0 none, 1 the trace id, 2 a text, 3 the text of the last 2),
//!                 bit 2 verdicts follow; other bits 0
//!   key 2         varint length (at most MAX_KEY_BYTES), bytes
//!   verdicts      varint count, then per verdict varint slot, 1 byte: 1 passed, 0 refused
//! ```
//!
//! A trace may occur in several items; they add up. Reading stops at the first thing that cannot be
//! true and keeps what came before.

use std::sync::Arc;
use tracecast_otlp::TraceId;

/// Session ids longer than this are not remembered. Upstream allows 256 characters, at most this many bytes.
pub const MAX_KEY_BYTES: usize = 1024;

const VERSION: u8 = 1;
const KEY_TRACE_ID: u8 = 1;
const KEY_TEXT: u8 = 2;
const KEY_SAME_TEXT: u8 = 3;
const KEY_MASK: u8 = 3;
const VERDICTS: u8 = 4;

/// The sampling key of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredKey {
    /// Its own id.
    TraceId,
    /// A session id.
    Session(Arc<[u8]>),
}

/// What a destination's filter said about the generations of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) slot: u32,
    /// At least one generation passed.
    pub(crate) passed: bool,
}

/// Collects items; empty as long as there are none.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
    last_text: Option<Arc<[u8]>>,
}

impl Writer {
    pub(crate) fn key(&mut self, trace: &TraceId, key: &StoredKey) {
        self.begin(trace);
        match key {
            StoredKey::TraceId => self.out.push(KEY_TRACE_ID),
            StoredKey::Session(text) if self.last_text.as_ref() == Some(text) => self.out.push(KEY_SAME_TEXT),
            StoredKey::Session(text) => {
                self.out.push(KEY_TEXT);
                write_varint(text.len() as u64, &mut self.out);
                self.out.extend_from_slice(text);
                self.last_text = Some(text.clone());
            }
        }
    }

    pub(crate) fn verdicts(&mut self, trace: &TraceId, verdicts: impl Iterator<Item = Verdict> + Clone) {
        self.begin(trace);
        self.out.push(VERDICTS);
        write_varint(verdicts.clone().count() as u64, &mut self.out);
        for verdict in verdicts {
            write_varint(verdict.slot.into(), &mut self.out);
            self.out.push(verdict.passed.into());
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn begin(&mut self, trace: &TraceId) {
        if self.out.is_empty() {
            self.out.push(VERSION);
        }
        self.out.extend_from_slice(trace);
    }
}

/// One item as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) trace: TraceId,
    pub(crate) key: Option<StoredKey>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// The items up to the end or the first damage. Bytes of an unknown version hold none.
pub(crate) fn read(bytes: &[u8]) -> impl Iterator<Item = Item> {
    let mut rest = match bytes {
        [VERSION, rest @ ..] => rest,
        _ => &[],
    };
    let mut last_text = None;
    std::iter::from_fn(move || {
        let item = read_item(&mut rest, &mut last_text);
        if item.is_none() {
            rest = &[];
        }
        item
    })
}

fn read_item(rest: &mut &[u8], last_text: &mut Option<Arc<[u8]>>) -> Option<Item> {
    let trace: TraceId = *rest.split_off(..16)?.first_chunk()?;
    let form = *rest.split_off_first()?;
    if form & !(KEY_MASK | VERDICTS) != 0 {
        return None;
    }
    let key = match form & KEY_MASK {
        KEY_TRACE_ID => Some(StoredKey::TraceId),
        KEY_TEXT => {
            let len = usize::try_from(read_varint(rest)?).ok().filter(|len| *len <= MAX_KEY_BYTES)?;
            let text: Arc<[u8]> = rest.split_off(..len)?.into();
            *last_text = Some(text.clone());
            Some(StoredKey::Session(text))
        }
        KEY_SAME_TEXT => Some(StoredKey::Session(last_text.clone()?)),
        _ => None,
    };
    let mut verdicts = Vec::new();
    if form & VERDICTS != 0 {
        for _ in 0..read_varint(rest)? {
            let slot = u32::try_from(read_varint(rest)?).ok()?;
            let passed = match *rest.split_off_first()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            verdicts.push(Verdict { slot, passed });
        }
    }
    Some(Item { trace, key, verdicts })
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
