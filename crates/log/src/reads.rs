//! The one scheduler of what is read back from disk: pages of backlog and payloads, for everyone who lags.
//!
//! Whoever asks while nobody serves starts a blocking task that serves all requests until none is left: there is no
//! thread per read, and none while nothing is read. Payloads are read in the order in which they lie, in blocks,
//! each read once for everyone who wants something of it; an append that waits goes first.
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::backlog::{self, Pending};
use crate::disk::DiskFile;
use crate::entry::{Location, Stored};
use crate::reader::read_payload;
use crate::shared::{Inner, lock};
use crate::types::{LogError, Sequence, Slot};
use crate::world::{self, Condvar, Mutex};

/// What is read at once.
const BLOCK: u64 = 1 << 20;
/// Blocks kept for those who come next.
const BLOCKS_MAX: usize = 8;
/// How long a read lets a waiting append go first, and how often.
const YIELD: Duration = Duration::from_millis(1);
const YIELDS_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    waiting: Mutex<Waiting>,
    blocks: Mutex<Blocks>,
    pause: Condvar,
}

#[derive(Debug)]
struct Page {
    slot: Slot,
    from: u64,
    max: usize,
    answer: oneshot::Sender<Result<Pending, LogError>>,
}

#[derive(Debug)]
struct Record {
    sequence: Sequence,
    location: Location,
    answer: oneshot::Sender<Result<Stored, LogError>>,
}

#[derive(Debug, Default)]
struct Waiting {
    pages: VecDeque<Page>,
    /// By segment and offset.
    records: BTreeMap<(u64, u64), Vec<Record>>,
    /// Where the last block ended: reading goes on from there, and begins anew when nothing follows.
    at: (u64, u64),
    page_was_last: bool,
    served: bool,
}

enum Next {
    Page(Page),
    /// Everything wanted of one block.
    Block(Vec<Record>),
}

impl Waiting {
    fn next(&mut self) -> Option<Next> {
        if (!self.page_was_last || self.records.is_empty())
            && let Some(page) = self.pages.pop_front()
        {
            self.page_was_last = true;
            return Some(Next::Page(page));
        }
        self.page_was_last = false;
        let following = self.records.range(self.at..).next().or_else(|| self.records.first_key_value());
        let Some((&(number, offset), _)) = following else {
            self.served = false;
            return None;
        };
        let end = (number, (offset / BLOCK + 1) * BLOCK);
        let rest = self.records.split_off(&(number, offset));
        let mut before = std::mem::replace(&mut self.records, rest);
        let after = self.records.split_off(&end);
        let block = std::mem::replace(&mut self.records, after);
        self.records.append(&mut before);
        self.at = end;
        Some(Next::Block(block.into_values().flatten().collect()))
    }
}

/// Asks for what follows in a slot.
pub(crate) async fn page(inner: &Arc<Inner>, slot: Slot, from: u64, max: usize) -> Result<Pending, LogError> {
    let (answer, answered) = oneshot::channel();
    let page = Page { slot, from, max, answer };
    ask(inner, answered, |waiting| waiting.pages.push_back(page)).await
}

/// Asks for a record's payload.
pub(crate) async fn payload(
    inner: &Arc<Inner>,
    sequence: Sequence,
    location: Location,
) -> Result<Stored, LogError> {
    let (answer, answered) = oneshot::channel();
    let record = Record { sequence, location, answer };
    let place = (location.life.number, location.offset);
    ask(inner, answered, |waiting| waiting.records.entry(place).or_default().push(record)).await
}

async fn ask<T>(
    inner: &Arc<Inner>,
    mut answered: oneshot::Receiver<Result<T, LogError>>,
    add: impl FnOnce(&mut Waiting),
) -> Result<T, LogError> {
    let serves = {
        let mut waiting = lock(&inner.reads.waiting);
        add(&mut waiting);
        !std::mem::replace(&mut waiting.served, true)
    };
    if serves {
        let own = inner.clone();
        // Once begun it goes on without this caller, who has his answer when it comes.
        let mut serving = pin!(world::blocking(move || serve(&own)));
        tokio::select! {
            biased;
            _ = &mut serving => {}
            answer = &mut answered => return answer.unwrap_or(Err(LogError::Closed)),
        }
    }
    answered.await.unwrap_or(Err(LogError::Closed))
}

/// Lets the next who asks serve, however this one ends.
struct Serving<'a>(&'a Reads);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.waiting);
        // Left behind by a panic: they are told that there is no answer.
        let left = (std::mem::take(&mut waiting.pages), std::mem::take(&mut waiting.records));
        waiting.served = false;
        drop(waiting);
        drop(left);
    }
}

fn serve(inner: &Inner) {
    let reads = &inner.reads;
    let serving = Serving(reads);
    let mut blocks = lock(&reads.blocks);
    loop {
        let mut waiting = lock(&reads.waiting);
        for _ in 0..YIELDS_MAX {
            if !inner.queue.is_waiting() {
                break;
            }
            waiting = reads.pause.wait_timeout(waiting, YIELD).0;
        }
        let next = waiting.next();
        drop(waiting);
        // Whoever asked may have gone.
        match next {
            None => break,
            Some(Next::Page(Page { slot, from, max, answer })) => {
                let _ = answer.send(backlog::pending(inner, slot, from, max));
            }
            Some(Next::Block(records)) => {
                for Record { sequence, location, answer } in records {
                    if !answer.is_closed() {
                        let _ = answer.send(read_payload(inner, &mut blocks, sequence, location));
                    }
                }
            }
        }
    }
    // Nobody waits any more; who asks from here on serves himself.
    std::mem::forget(serving);
}

/// The last blocks read.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    kept: VecDeque<Block>,
}

#[derive(Debug)]
struct Block {
    file: u32,
    at: u64,
    bytes: Vec<u8>,
}

impl Blocks {
    /// `len` bytes of a file from `offset`, or as many as there are. `afresh`: not what is kept, which may be older
    /// than what was written since.
    pub(crate) fn read(
        &mut self,
        (number, file): (u32, &DiskFile),
        offset: u64,
        len: usize,
        afresh: bool,
    ) -> io::Result<Vec<u8>> {
        if len as u64 > BLOCK / 2 {
            let mut bytes = vec![0; len];
            let read = file.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            return Ok(bytes);
        }
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let block = self.block((number, file), at / BLOCK * BLOCK, afresh)?;
            let start = (at % BLOCK) as usize;
            let there = block.get(start..).unwrap_or_default();
            let part = there.get(..len - bytes.len()).unwrap_or(there);
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }

    fn block(&mut self, (number, file): (u32, &DiskFile), at: u64, afresh: bool) -> io::Result<&[u8]> {
        let known = self.kept.iter().position(|b| b.file == number && b.at == at);
        let block = match known.and_then(|i| self.kept.remove(i)) {
            Some(block) if !afresh => block,
            before => {
                drop(before);
                let len = file.len()?.saturating_sub(at).min(BLOCK);
                let mut bytes = vec![0; len as usize];
                let read = file.read_at(&mut bytes, at)?;
                bytes.truncate(read);
                Block { file: number, at, bytes }
            }
        };
        if self.kept.len() >= BLOCKS_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(block);
        Ok(self.kept.back().map_or(&[], |b| b.bytes.as_slice()))
    }
}
