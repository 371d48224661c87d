//! Hostile input for the tests of everything that reads foreign bytes: a corpus written by us, and
//! mutations of it.
//!
//! A run is a pure function of its number, so a failure is repeated by running again; the input that
//! failed is also written to `target/fuzz/`. `TRACECAST_SOAK=n` makes every test run `n` times as long.
//! Only tests use this crate.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mutated inputs stay below this, however they grow.
pub const INPUT_BYTES_MAX: usize = 64 << 10;
/// An input that takes this long has found a loop: reading it is a matter of microseconds.
const HANG: Duration = Duration::from_secs(20);

/// The files of a corpus, by name.
pub fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{directory:?} holds no input");
    files
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            (name, bytes)
        })
        .collect()
}

/// The given number of runs, times `TRACECAST_SOAK`.
pub fn runs(count: u64) -> u64 {
    let times = std::env::var("TRACECAST_SOAK").ok().and_then(|text| text.parse::<u64>().ok());
    count.saturating_mul(times.unwrap_or(1).max(1))
}

/// Gives every seed to `check`, and then so many mutations of them (times `TRACECAST_SOAK`).
pub fn fuzz(target: &str, seeds: &[Vec<u8>], count: u64, mut check: impl FnMut(&[u8])) {
    let mut run = |name: &str, input: &[u8]| {
        let keep = Keep { path: kept_at(target, name), input };
        let started = Instant::now();
        check(input);
        let took = started.elapsed();
        assert!(took < HANG, "{target}: {name} took {took:?} for {} bytes", input.len());
        drop(keep);
    };
    for (i, seed) in seeds.iter().enumerate() {
        run(&format!("seed-{i}"), seed);
    }
    for number in 0..runs(count) {
        let input = Mutator::new(number).mutant(seeds);
        run(&number.to_string(), &input);
    }
}

fn kept_at(target: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz").join(format!("{target}-{name}"))
}

/// Writes the input to a file if the check panics.
struct Keep<'a> {
    path: PathBuf,
    input: &'a [u8],
}

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let written = self
            .path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&self.path, self.input));
        match written {
            Ok(()) => eprintln!("the input is in {}", self.path.display()),
            Err(error) => eprintln!("the input cannot be kept at {}: {error}", self.path.display()),
        }
    }
}

/// A source of mutations; the same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

/// Pieces that readers treat specially: escapes, ends, extremes.
const WORDS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\u{",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"null",
    b"true",
    b"0",
    b"-0",
    b"-1",
    b"1e999",
    b"1e-999",
    b"NaN",
    b"0.1",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"9999999999999999999999",
    b"data: ",
    b"[DONE]",
    b"&a",
    b"*a",
    b"<<: ",
    b"!!",
    b"%",
    b"\t",
    b"---\n",
    b"${",
    b"}}",
    b"(?",
    b"{1,9}",
];

/// Lengths and numbers at the edges of their types.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    u64::MAX,
];

impl Mutator {
    /// A source with this seed.
    pub fn new(seed: u64) -> Mutator {
        Mutator { state: seed }
    }

    /// The next number (SplitMix64).
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.number() % bound as u64) as usize }
    }

    /// One of the seeds with one to eight mutations.
    pub fn mutant(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        // Mostly few: input that is nearly right gets furthest.
        let count = 1 << self.below(4);
        for _ in 0..1 + self.below(count) {
            let other = &seeds[self.below(seeds.len())];
            self.mutate(&mut input, other);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    /// One mutation; `other` is what pieces are taken from.
    pub fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len() + 1);
        let range = |this: &mut Self, bytes: &[u8], most: usize| {
            let start = this.below(bytes.len());
            let end = (start + 1 + this.below(most)).min(bytes.len());
            start..end.max(start)
        };
        match self.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.number() as u8;
                }
            }
            2 => input.truncate(at),
            3 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            4 => {
                let gone = range(self, input, 32);
                input.drain(gone);
            }
            // A piece again, elsewhere: repeated fields, moved ends.
            5 => {
                let piece = input[range(self, input, 128)].to_vec();
                input.splice(at..at, piece);
            }
            // A piece of another input in place of one of ours.
            6 => {
                let piece = other[range(self, other, 256)].to_vec();
                let gone = range(self, input, 256);
                input.splice(gone, piece);
            }
            // A length or number made extreme, as a varint or in fixed width.
            7 => {
                let mut value = EDGES[self.below(EDGES.len())];
                let end = (at + 1).min(input.len());
                let mut varint = Vec::new();
                while value >= 0x80 {
                    varint.push(value as u8 | 0x80);
                    value >>= 7;
                }
                varint.push(value as u8);
                input.splice(at.min(end)..end, varint);
            }
            8 => {
                let value = EDGES[self.below(EDGES.len())].to_le_bytes();
                let width = [2, 4, 8][self.below(3)];
                for (place, byte) in input.iter_mut().skip(at).zip(&value[..width]) {
                    *place = *byte;
                }
            }
            // Depth: one piece many times over.
            _ => {
                let piece = input[range(self, input, 8)].to_vec();
                let times = 1 << self.below(11);
                input.splice(at..at, piece.repeat(times));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_function_of_its_number() {
        let seeds = vec![b"abcdef".to_vec(), b"{\"a\": [1, 2]}".to_vec(), Vec::new()];
        let all = |from: u64| (from..from + 2000).map(|n| Mutator::new(n).mutant(&seeds)).collect::<Vec<_>>();
        let inputs = all(0);
        assert_eq!(inputs, all(0));
        assert_ne!(inputs, all(1));
        assert!(inputs.iter().all(|input| input.len() <= INPUT_BYTES_MAX));
        let distinct: std::collections::HashSet<_> = inputs.iter().collect();
        assert!(distinct.len() > 1000, "{} of 2000 are distinct", distinct.len());
    }

    #[test]
    #[should_panic(expected = "found")]
    fn what_a_check_says_ends_the_test() {
        let seeds = vec![vec![7; 100]];
        fuzz("self-test", &seeds, 100, |input| assert_eq!(input.len(), 100, "found"));
    }
}
