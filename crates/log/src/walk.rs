//! Reads a segment record by record, past damage, believing nothing that a checksum does not confirm.
use crate::disk::DiskFile;
use crate::format::{ALIGN, HEADER_PAGE, Life, RECORD_HEADER, RECORD_MAGIC, RecordHeader, is_intact};

/// What is read at once to find header and meta.
const HEAD_BYTES: usize = 4096;
/// What is read at once to check a payload or to look for the next record.
const WINDOW: usize = 256 * 1024;

/// One intact record.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) offset: u64,
    pub(crate) header: RecordHeader,
    pub(crate) meta: Vec<u8>,
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) enum Step {
    Record(Walked),
    /// Bytes that are no record, with intact records behind them.
    Hole {
        from: u64,
        to: u64,
    },
}

/// Walks the records of one life of a segment file, up to `limit`.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a DiskFile,
    life: Life,
    at: u64,
    limit: u64,
    /// Records with a higher sequence have their payload checked too.
    verify_above: Option<u64>,
    buffer: Vec<u8>,
    found: Option<u64>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(file: &'a DiskFile, life: Life, limit: u64, verify_above: Option<u64>) -> Walk<'a> {
        Walk { file, life, at: HEADER_PAGE, limit, verify_above, buffer: Vec::new(), found: None }
    }

    /// The next step; `None` when no intact record follows.
    pub(crate) fn step(&mut self) -> Option<Step> {
        if let Some(to) = self.found.take() {
            // The search has checked it once; a read that fails now ends the walk.
            self.at = to;
        }
        let verify = |sequence| self.verify_above.is_some_and(|above| sequence > above);
        if let Some(record) = self.record_at(self.at, verify) {
            self.at += record.header.total_len();
            return Some(Step::Record(record));
        }
        let to = self.search(self.at + ALIGN)?;
        self.found = Some(to);
        Some(Step::Hole { from: self.at, to })
    }

    fn record_at(&self, offset: u64, verify: impl Fn(u64) -> bool) -> Option<Walked> {
        if offset + RECORD_HEADER as u64 > self.limit {
            return None;
        }
        let mut head = vec![0; HEAD_BYTES];
        let read = self.file.read_at(&mut head, offset).ok()?;
        head.truncate(read);
        let (header, crc) = RecordHeader::decode(&head)?;
        if header.life != self.life || offset.checked_add(header.total_len())? > self.limit {
            return None;
        }
        let meta_end = RECORD_HEADER + header.meta_len as usize;
        if head.len() < meta_end {
            let have = head.len();
            head.resize(meta_end, 0);
            let rest = head.get_mut(have..)?;
            let wanted = rest.len();
            if self.file.read_at(rest, offset + have as u64).ok()? < wanted {
                return None;
            }
        }
        if !is_intact(&head, header.meta_len, crc) {
            return None;
        }
        if verify(header.sequence) && !self.payload_is_intact(offset + meta_end as u64, &header) {
            return None;
        }
        head.truncate(meta_end);
        head.drain(..RECORD_HEADER);
        Some(Walked { offset, header, meta: head })
    }

    fn payload_is_intact(&self, offset: u64, header: &RecordHeader) -> bool {
        let mut buffer = vec![0; WINDOW.min(header.payload_len as usize)];
        let (mut crc, mut done) = (0, 0u64);
        while done < u64::from(header.payload_len) {
            let now = (u64::from(header.payload_len) - done).min(WINDOW as u64) as usize;
            let Some(part) = buffer.get_mut(..now) else { return false };
            match self.file.read_at(part, offset + done) {
                Ok(read) if read == now => crc = crc32c::crc32c_append(crc, part),
                _ => return false,
            }
            done += now as u64;
        }
        crc == header.payload_crc
    }

    /// The next fully intact record at or after `from`.
    fn search(&mut self, from: u64) -> Option<u64> {
        let mut window = std::mem::take(&mut self.buffer);
        window.resize(WINDOW, 0);
        let mut base = from.next_multiple_of(ALIGN);
        let mut found = None;
        'search: while base + (RECORD_HEADER as u64) <= self.limit {
            let wanted = (self.limit - base).min(WINDOW as u64) as usize;
            let part = window.get_mut(..wanted).unwrap_or_default();
            // An unreadable block must not hide what lies behind it.
            let Ok(read) = self.file.read_at(part, base) else {
                base += HEAD_BYTES as u64;
                continue;
            };
            for (i, word) in part.get(..read).unwrap_or_default().chunks_exact(ALIGN as usize).enumerate() {
                if word.starts_with(&RECORD_MAGIC) {
                    let offset = base + i as u64 * ALIGN;
                    if self.record_at(offset, |_| true).is_some() {
                        found = Some(offset);
                        break 'search;
                    }
                }
            }
            if read < wanted {
                break;
            }
            base += wanted as u64;
        }
        self.buffer = window;
        found
    }
}
