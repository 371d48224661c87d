//! The shared segment log, its settlement journal and the books.
//!
//! One record per request is written once; a destination is a *slot* that counts its own spans (ordinals). What
//! became of them is journaled. Figures come from record and journal and from nothing else, so they survive the
//! process.
//!
//! ```text
//! append ─► queue ─► commit ──one write, one sync──► segment      settle ─► queue ─► journal thread ─► journal
//!                      │                                                                │
//!                      └─► books ─► answers ─► Subscriber::committed                    └─► books (now visible)
//! keeper: seal, sync, checkpoint, carry over, give back, give_up        pool: makes files ahead of need
//! ```
//!
//! # Files
//!
//! | file | holds | written | read at the start |
//! | --- | --- | --- | --- |
//! | `lock` | - | locked while open | - |
//! | `segments/NNNNNNNN.seg` | records of one *life* (number, epoch, nonce) at a time | per commit | header pages of all; from the checkpoint's segment on in full; the others when somebody reads on in them |
//! | `journal-G.log` | slots, settlements since checkpoint `G` | within 20 ms, synced every second | in full, from the checkpoint's generation on |
//! | `slots` | slots and their owners, once more: should checkpoint and journal both be lost | with each new slot | before the journals |
//! | `checkpoint` | figures of every slot, trace keys, wanted segments | at each seal, every 64 MiB of log, at `close` | first |
//! | `dead-letters/N.dead` | copies of refused spans | per letter, synced | names only |
//! | `quarantine/*` | damaged bytes and files | by recovery | never |
//!
//! Files are 0600, directories 0700. Numbers are little endian, `v` is a LEB128 varint, checksums are CRC32C. Every
//! format has a version (now 1, of carry segments 2); a newer one is refused by name, an older one is read. A file
//! name is not content:
//! a segment file keeps its name over its lives.
//!
//! # Segment
//!
//! | offset | bytes |
//! | --- | --- |
//! | 0 | `TCASTSEG`, crc32 of 12..2048, version u16, kind u8 (1 log, 2 carry), flags u8, number u64, epoch u32, nonce u32, first sequence u64, file bytes u64, created u64, count u16, then (number u64, end u64) per earlier segment whose seal is not known to be on disk |
//! | 2048 | once sealed: `TCASTEND`, crc32, version u16, flags u16 (1 carry, 2 content of the segments it stands for was left out), number u64, epoch u32, nonce u32, first u64, last u64, records u64, end u64, index bytes u32; of a carry segment: the last number it stands for u64 |
//! | 4096 | records, each at a multiple of 8; after the last one the index record |
//!
//! Record: a header of 72 bytes, the meta, the payload, zeros to a multiple of 8.
//!
//! | offset | bytes |
//! | --- | --- |
//! | 0 | `tcR\xF1`, crc32 of 8..72 and the meta, crc32 of the payload, payload bytes u32, meta bytes u32 |
//! | 20 | kind u8 (1 record, 2 index; others are passed over), version u8, flags u16 (2 carried copy; 1 routing by back-reference: reserved, 0) |
//! | 24 | sequence u64, received u64, number u64, epoch u32, nonce u32 |
//! | 56 | *answered* u64: records below this offset had been answered when this one was written |
//! | 64 | spans accepted u32, spans of the payload u32 |
//! | 72 | meta: workspace 16, config generation v, routes (count v; slot v, projection u8, first ordinal v, bytes v, span set), skips (count v; slot v, reason u8, spans v), trace keys (length v, bytes); then, unless both are empty and nothing follows, via and sender (length v, bytes each); then, of a carried copy that was cut, the set of positions whose spans the payload still has |
//!
//! Bits of a projection: 1 without content, 2 requeued (the spans count as `requeued` instead of `selected`: a
//! replayed dead letter, a backfill or what the gateway has made is a record of its own, with one route and nothing accepted), 128 refused at arrival.
//!
//! Index record (its meta): version u8; the records with routes (count v, length v; offset delta/8 v, sequence v,
//! received v, meta bytes v, payload bytes v, spans v, length v + meta up to the routes and the via); then by slot
//! (count v; slot v, first ordinal v, width v, count v, record number deltas v). Room for it is kept free while the segment fills.
//! A record never crosses segments; one that is larger than a segment gets a file of its own size.
//!
//! # Journal
//!
//! `TCASTJNL`, crc32, version u16, flags u16, generation u64, epoch u32, 0 u32; then frames: marker `A7` and body
//! length u24, crc32 of length and body, body. Body: kind u8; 1 slot (slot v, key 16); 2 settled (flags u8: 1 =
//! span bitmap, reserved; outcome u8, reason u8, slot v, highest sequence v, first ordinal v, spans v, bytes v);
//! 4 synced (offset v: all below was on disk when this was written; what is no entry there is damage, what is none above
//! was cut off with the power); 3 intent (a batch about to be sent: slot v, count v; first ordinal v, spans v); 5 slot
//! retired: reserved; 6 settled together (slot v, count v; outcome u8, reason u8, highest sequence v, first ordinal v,
//! spans v, bytes v): what one answer decided is one frame, so that a crash leaves all of it or nothing. Unknown kinds are passed over. A generation begins
//! with all slots, so that a lost checkpoint never hands a slot's records to another destination. The file `slots` has
//! this format too.
//!
//! # Checkpoint
//!
//! `TCASTCKP`, crc32 of the rest, version u16, then sections: tag u16, length u32, body. Tags: 1 position (epoch,
//! last sequence counted, segment, journal generation, accepted), 2 slots (key, counters, next ordinal, pending
//! bytes, oldest time, done set), 3 wanted segments, 4 trace keys, 5 damage, 8 what slots have in the wanted segments
//! (number, last sequence, then per slot: first ordinal, width), 9 ages of pending records (per slot: ordinal and
//! receive time of some), 10 segments that are held (count v; number v, file v, receive time of the newest record v);
//! 7 intents of which nothing has ended (count v; slot v, ranges as in the journal). Unknown tags are passed over. Written to a temporary file, synced, renamed,
//! directory synced.
//!
//! # What is written when
//!
//! 1. A slot's owner is synced in the journal before the first record that names the slot is written.
//! 2. Commit: header page if the segment is new, records, a sync (durable) or nothing (buffered: synced every
//!    100 ms). Then books, answers, subscriber, in this order. Durable commits are written in whole blocks past the page
//!    cache where the file system can, the last block of one again with the next; else through it, then `fdatasync`. A
//!    commit is made by the append that completes it, or by the writer's thread (see `queue`).
//! 3. Settlement: journal entry written, then the books. So whatever was visible is in the page cache at least and
//!    survives `kill -9`. The journal is synced every second, always after the log it speaks of.
//! 4. Segment full: the next one begins at once and names the old one's end; index, seal and a sync follow in the
//!    background, then a checkpoint.
//! 5. Checkpoint: new journal generation (with all slots), synced; figures taken between two journal writes; log
//!    synced (buffered); checkpoint replaced; older journals removed.
//! 6. A segment goes back to the pool when it is sealed, nobody wants a span of it, a checkpoint counts its records,
//!    and the settlements are synced. Its bytes stay until a new life overwrites them in place: the log
//!    does not erase what everybody has. Only content that a copy has left out (see Space) goes with the file, which is
//!    removed instead.
//! 7. A dead letter is synced before `append` returns, hence before its settlement is journaled.
//!
//! # Reading on
//!
//! Of a slot's backlog nothing is in memory but its done set and, per segment, between which ordinals its spans
//! there lie. A page of it ([`Log::pending`]) is read through the index of the segment that has the next ordinal,
//! sealed or still growing. Pages and payloads are served by one scheduler, one read at a time, below appends;
//! payloads in blocks of 1 MiB in the order in which they lie, each read once for everyone who wants something of
//! it. Encoded indexes (8 MiB) and blocks (8 MiB) are kept for who comes next. A segment whose index is damaged is
//! walked instead, and what no record accounts for is counted `dropped{damaged}` by who gets there first. What was
//! not read is settled by ordinals ([`Log::settle_range`]).
//!
//! # Recovery
//!
//! Checkpoint; journals since; header pages; segments from the checkpoint's on, every checksum verified: records
//! above the checkpoint's sequence are counted, in order. Then settlements are applied by ordinal. What is left
//! is pending, and is not read: neither backlog nor destinations make a start longer. The last process's open segment gets its index and seal, a new checkpoint and journal
//! are written, and only then may a file be overwritten. Every start has a new epoch and begins a new segment at one
//! above the highest sequence in log, journal and checkpoint.
//!
//! - Only records of the segment's present life count. The nonce is random, so bytes in a payload cannot pose as one.
//! - Torn tail: cut at the last good record. Damage with good records behind it (found by `answered`, or by the
//!   end that a seal or a later segment states) is copied to `quarantine/`, and reading goes on at the next good
//!   record; its spans are counted `dropped{damaged}`, missing sequences in [`Damage`]. A commit that was not
//!   answered leaves no such trace.
//! - Journal entries beyond the recovered end (possible after a power cut in buffered mode) are counted and never
//!   applied; their ordinals are never used again.
//! - A lost checkpoint costs the counters of records that are gone, and may send delivered spans again; whose slots
//!   they are, journal and `slots` each say alone. Nothing
//!   else that is damaged stops a start.
//!
//! # Failures
//!
//! A failed write or sync is never repeated on the same file: the segment ends where the answered records end (the
//! next header says so, whatever the failed write left behind), and the same records are written to a new segment
//! before anyone is answered. If that fails too, the waiters get the error, their numbers are taken back,
//! `is_writable` turns false, and a new segment is tried every second.
//!
//! # Space
//!
//! All segment files together stay within `max_bytes`. When neither a free file nor room for one is left besides the
//! segment being written, the slot with the most pending bytes, and no other, is asked to give up its oldest
//! segment's spans, then the next, until a file is free. Spans in flight keep their segment until they are settled.
//! With `drop_newest`, slots that hold at least the average, and half of the most, get nothing new while the last
//! eighth of the cap (two segments at least) is in use: their routes are written as refused, final from the start and
//! counted as dropped.
//! An append that finds no space waits up to 2 s, or up to 8 s while files are on their way back, then fails with
//! `Full`.
//!
//! Carry-over: 10 s after their last record, or at once from 80 % of the cap on, neighbouring segments whose wanted
//! spans fit one file are copied into one: of each record the spans that are still wanted, with sequence, times, positions
//! and ordinals as they were, and without content where only those want them that get none; it takes their place under
//! the number of the first. So what is held is at least half wanted, and a destination that is slow but wants little
//! holds little. The last free file is the copier's; nobody is asked to give up anything
//! while there is something to carry over. Index, seal and sync, then the checkpoint that names the new file instead
//! of the old ones, and only then are these given back; a copy that no checkpoint names does not count. Readers look
//! again where a record lies when its segment was replaced under them. Segments that are retained are left alone
//! until space is short.
//!
//! With `retain`, segments that nobody wants stay so long after their newest record, for [`Log::history`]; when space
//! is short the oldest of them goes first, before anybody is asked to give up anything.

mod backlog;
mod blocks;
mod books;
mod cache;
mod carry;
mod checkpoint;
mod codec;
mod commit;
mod dead_letters;
mod disk;
mod durations;
mod entry;
mod examine;
mod format;
mod history;
mod index;
pub mod inspect;
mod journal;
mod keeper;
mod log;
mod memory;
mod pool;
mod quarantine;
mod queue;
mod ranges;
mod reader;
mod reads;
mod recovery;
mod segment;
mod segments;
mod settle;
mod shared;
mod slots;
#[cfg(test)]
mod tests;
mod types;
mod walk;
mod want;
pub mod world;
mod writer;

pub use backlog::Pending;
pub use dead_letters::{DeadLetter, DeadLetters, LetterFilter, LetterHead};
pub use durations::Durations;
pub use entry::{Entry, EntryRoute, Stored};
pub use history::{Past, PastRoute};
pub use log::Log;
pub use types::{
    Activity, Backlog, Books, Damage, DeadReason, DropReason, Durability, LogError, NewRecord, OnFull,
    Options, Origin, Outcome, Projection, Recovered, Route, Sequence, Settlement, Skip, SkipReason, Slot,
    SlotKey, Subscriber, WithoutContent,
};
