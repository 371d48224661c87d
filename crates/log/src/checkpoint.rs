//! The checkpoint: one file from which, with the journal since and the tail of the log, everything is rebuilt.
//!
//! A sequence of tagged sections under one checksum; unknown tags are passed over.
use std::path::Path;

use bytes::Bytes;

use crate::books::{Account, Counters, Ledger, Marks};
use crate::codec::{Cursor, put_at, put_sized, put_varint};
use crate::disk::Disk;
use crate::format::VERSION;
use crate::journal::{put_ranges, read_ranges};
use crate::ranges::Done;
use crate::types::{Damage, LogError, Sequence, Slot, SlotKey};

const MAGIC: [u8; 8] = *b"TCASTCKP";
const TAG_POSITION: u16 = 1;
const TAG_SLOTS: u16 = 2;
const TAG_SEGMENTS: u16 = 3;
const TAG_TRACES: u16 = 4;
const TAG_DAMAGE: u16 = 5;
const TAG_HELD: u16 = 8;
const TAG_MARKS: u16 = 9;
const TAG_AGES: u16 = 10;
const TAG_INTENTS: u16 = 7;

pub(crate) const FILE: &str = "checkpoint";

#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    /// Number of this start.
    pub(crate) epoch: u32,
    /// Every record up to here is in the figures.
    pub(crate) applied: Sequence,
    /// Later records are in this segment or in later ones.
    pub(crate) segment: u64,
    /// Settlements from this journal on are not in the figures.
    pub(crate) journal: u64,
    pub(crate) ledger: Ledger,
    /// Earlier segments that still hold something wanted.
    pub(crate) wanted: Vec<Wanted>,
    /// Earlier segments that are held, wanted or only retained: number, file, when the newest record came.
    pub(crate) ages: Vec<(u64, u32, u64)>,
    /// (received, keys) of the last minutes.
    pub(crate) traces: Vec<(u64, Bytes)>,
    pub(crate) damage: Damage,
}

/// A segment that still holds something wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) number: u64,
    pub(crate) file: u32,
    pub(crate) last_sequence: Sequence,
    /// Per slot: the ordinals between which its spans there lie. `None`: the segment's index must tell.
    pub(crate) held: Option<Vec<(Slot, u64, u64)>>,
}

/// Why a checkpoint could not be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Newer(u16),
    Damaged,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_le_bytes());
        section(&mut out, TAG_POSITION, |out| {
            put_varint(out, u64::from(self.epoch));
            put_varint(out, self.applied);
            put_varint(out, self.segment);
            put_varint(out, self.journal);
            put_varint(out, self.ledger.accepted);
        });
        section(&mut out, TAG_SLOTS, |out| {
            put_varint(out, self.ledger.len() as u64);
            for account in &self.ledger.accounts {
                encode_account(out, account);
            }
        });
        section(&mut out, TAG_SEGMENTS, |out| {
            put_varint(out, self.wanted.len() as u64);
            for wanted in &self.wanted {
                put_varint(out, wanted.number);
                put_varint(out, u64::from(wanted.file));
            }
        });
        section(&mut out, TAG_HELD, |out| {
            let known = self.wanted.iter().filter_map(|wanted| Some((wanted, wanted.held.as_ref()?)));
            put_varint(out, known.clone().count() as u64);
            for (wanted, held) in known {
                put_varint(out, wanted.number);
                put_varint(out, wanted.last_sequence);
                put_varint(out, held.len() as u64);
                for (slot, first, end) in held {
                    put_varint(out, u64::from(*slot));
                    put_varint(out, *first);
                    put_varint(out, end - first);
                }
            }
        });
        section(&mut out, TAG_MARKS, |out| {
            let marked = (0u64..).zip(&self.ledger.accounts).filter(|(_, a)| a.pending() > 0);
            put_varint(out, marked.clone().count() as u64);
            for (slot, account) in marked {
                put_varint(out, slot);
                put_varint(out, account.marks.iter().count() as u64);
                for (ordinal, received) in account.marks.iter() {
                    put_varint(out, ordinal);
                    put_varint(out, received);
                }
            }
        });
        section(&mut out, TAG_AGES, |out| {
            put_varint(out, self.ages.len() as u64);
            for (number, file, newest) in &self.ages {
                put_varint(out, *number);
                put_varint(out, u64::from(*file));
                put_varint(out, *newest);
            }
        });
        section(&mut out, TAG_INTENTS, |out| {
            let accounts = (0u64..).zip(&self.ledger.accounts);
            let intents: Vec<_> =
                accounts.flat_map(|(slot, a)| a.open_intents().into_iter().map(move |r| (slot, r))).collect();
            put_varint(out, intents.len() as u64);
            for (slot, ranges) in intents {
                put_varint(out, slot);
                put_ranges(out, &ranges);
            }
        });
        section(&mut out, TAG_TRACES, |out| {
            put_varint(out, self.traces.len() as u64);
            for (received, keys) in &self.traces {
                put_varint(out, *received);
                put_sized(out, keys);
            }
        });
        section(&mut out, TAG_DAMAGE, |out| {
            put_varint(out, self.damage.records);
            put_varint(out, self.damage.journal_entries);
            put_varint(out, self.damage.journal_spans);
            put_varint(out, self.damage.quarantined_bytes);
        });
        let crc = crc32c::crc32c(out.get(12..).unwrap_or_default());
        put_at(&mut out, 8, &crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Checkpoint, Unusable> {
        let mut c = Cursor::new(bytes);
        let intact =
            c.array::<8>() == Some(MAGIC) && c.u32().is_some_and(|crc| crc == crc32c::crc32c(c.rest()));
        if !intact {
            return Err(Unusable::Damaged);
        }
        match c.u16() {
            Some(version) if version > VERSION => Err(Unusable::Newer(version)),
            Some(_) => decode_sections(c).ok_or(Unusable::Damaged),
            None => Err(Unusable::Damaged),
        }
    }

    pub(crate) fn write(&self, disk: &Disk, dir: &Path) -> Result<(), LogError> {
        let path = dir.join(FILE);
        disk.replace(&path, &self.encode()).map_err(|source| LogError::Io { path, source })
    }
}

fn section(out: &mut Vec<u8>, tag: u16, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&tag.to_le_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = (out.len() - at - 4) as u32;
    put_at(out, at, &len.to_le_bytes());
}

fn encode_account(out: &mut Vec<u8>, account: &Account) {
    match &account.key {
        Some(key) => {
            out.push(1);
            out.extend_from_slice(key);
        }
        None => out.push(0),
    }
    let counters = &account.counters;
    put_varint(out, counters.selected);
    put_varint(out, counters.requeued);
    put_varint(out, counters.delivered);
    for list in [&counters.skipped[..], &counters.dead_lettered[..], &counters.dropped[..]] {
        put_varint(out, list.len() as u64);
        for count in list {
            put_varint(out, *count);
        }
    }
    put_varint(out, account.next_ordinal);
    put_varint(out, account.pending_bytes);
    put_varint(out, account.books().oldest_pending_unix_nano.unwrap_or(0));
    put_varint(out, account.done.low());
    put_varint(out, account.done.above_len() as u64);
    let mut last = account.done.low();
    for (start, end) in account.done.above() {
        put_varint(out, start - last);
        put_varint(out, end - start);
        last = end;
    }
}

fn decode_account(c: &mut Cursor<'_>) -> Option<(Option<SlotKey>, Account)> {
    let key = match c.u8()? {
        0 => None,
        _ => Some(c.array()?),
    };
    let mut counters = Counters { selected: c.varint()?, requeued: c.varint()?, ..Counters::default() };
    counters.delivered = c.varint()?;
    read_counts(c, &mut counters.skipped)?;
    read_counts(c, &mut counters.dead_lettered)?;
    read_counts(c, &mut counters.dropped)?;
    let (next_ordinal, pending_bytes, oldest) = (c.varint()?, c.varint()?, c.varint()?);
    let low = c.varint()?;
    let mut done = Done::starting_at(low);
    let mut last = low;
    for _ in 0..c.count()? {
        let start = last.checked_add(c.varint()?)?;
        last = start.checked_add(c.varint()?)?;
        done.insert(start, last);
    }
    let mut marks = Marks::default();
    marks.restart((oldest > 0).then_some((low, oldest)).into_iter());
    Some((key, Account { key, counters, next_ordinal, done, pending_bytes, marks, ..Account::default() }))
}

/// A slot and the ordinals it has in a segment.
fn read_held(c: &mut Cursor<'_>) -> Option<(Slot, u64, u64)> {
    let (slot, first, width) = (c.varint32()?, c.varint()?, c.varint()?);
    Some((slot, first, first.checked_add(width)?))
}

/// A list of counters; a version with more reasons than we know adds the others to the last one, so that no span
/// leaves the books.
fn read_counts(c: &mut Cursor<'_>, into: &mut [u64]) -> Option<()> {
    let last = into.len().saturating_sub(1);
    for i in 0..c.count()? {
        let count = c.varint()?;
        let place = into.get_mut(i.min(last))?;
        *place = place.checked_add(count)?;
    }
    Some(())
}

fn decode_sections(mut c: Cursor<'_>) -> Option<Checkpoint> {
    let mut checkpoint = Checkpoint::default();
    while !c.is_empty() {
        let tag = c.u16()?;
        let len = c.u32()? as usize;
        let mut body = Cursor::new(c.take(len)?);
        match tag {
            TAG_POSITION => {
                checkpoint.epoch = body.varint32()?;
                checkpoint.applied = body.varint()?;
                checkpoint.segment = body.varint()?;
                checkpoint.journal = body.varint()?;
                checkpoint.ledger.accepted = body.varint()?;
            }
            TAG_SLOTS => {
                for slot in 0..body.count()? {
                    let slot = u32::try_from(slot).ok()?;
                    let (key, account) = decode_account(&mut body)?;
                    *checkpoint.ledger.account_made(slot) = account;
                    if let Some(key) = key {
                        checkpoint.ledger.assign(slot, key);
                    }
                }
            }
            TAG_SEGMENTS => {
                for _ in 0..body.count()? {
                    let (number, file) = (body.varint()?, body.varint32()?);
                    checkpoint.wanted.push(Wanted { number, file, ..Wanted::default() });
                }
            }
            TAG_HELD => {
                for _ in 0..body.count()? {
                    let (number, last_sequence) = (body.varint()?, body.varint()?);
                    let held =
                        (0..body.count()?).map(|_| read_held(&mut body)).collect::<Option<Vec<_>>>()?;
                    if let Some(wanted) = checkpoint.wanted.iter_mut().find(|w| w.number == number) {
                        (wanted.last_sequence, wanted.held) = (last_sequence, Some(held));
                    }
                }
            }
            TAG_MARKS => {
                for _ in 0..body.count()? {
                    let slot = body.varint32()?;
                    let marks = (0..body.count()?).map(|_| Some((body.varint()?, body.varint()?)));
                    let marks = marks.collect::<Option<Vec<_>>>()?;
                    checkpoint.ledger.account_mut(slot)?.marks.restart(marks.into_iter());
                }
            }
            TAG_AGES => {
                for _ in 0..body.count()? {
                    checkpoint.ages.push((body.varint()?, body.varint32()?, body.varint()?));
                }
            }
            TAG_INTENTS => {
                for _ in 0..body.count()? {
                    let (slot, ranges) = (body.varint32()?, read_ranges(&mut body)?);
                    checkpoint.ledger.account_mut(slot)?.intend(ranges);
                }
            }
            TAG_TRACES => {
                for _ in 0..body.count()? {
                    let received = body.varint()?;
                    checkpoint.traces.push((received, Bytes::copy_from_slice(body.sized()?)));
                }
            }
            TAG_DAMAGE => {
                checkpoint.damage = Damage {
                    records: body.varint()?,
                    journal_entries: body.varint()?,
                    journal_spans: body.varint()?,
                    quarantined_bytes: body.varint()?,
                };
            }
            _ => {}
        }
    }
    Some(checkpoint)
}
