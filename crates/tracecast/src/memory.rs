//! How much memory the process may hold, and how it is shared out.
//!
//! The shares add up to about half. What is left is for the program itself, the store, buffers of connections, a copy
//! that is made while the old one is still there, and what the allocator keeps.

/// `auto`: 60 % of what the process's cgroup (or the machine) allows, at most 2 GiB: the gateway needs far less.
pub(crate) fn auto_bytes() -> u64 {
    let allowed = allowed_bytes(|path| std::fs::read_to_string(path).ok()).unwrap_or(1 << 30);
    (allowed / 10 * 6).clamp(64 << 20, 2 << 30)
}

/// The lowest limit on the way from the process's cgroup to the root, of both versions, and the machine's memory.
fn allowed_bytes(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    });
    let mut allowed: Vec<u64> = machine.into_iter().collect();
    for line in read("/proc/self/cgroup").unwrap_or_default().lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            let limit = read(&format!("{root}{path}/{file}"));
            allowed.extend(limit.and_then(|text| text.trim().parse::<u64>().ok()));
            let Some((parent, _)) = path.rsplit_once('/') else { break };
            path = parent;
        }
    }
    allowed.into_iter().min()
}

/// Bytes of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Requests in progress, up to their answer.
    pub(crate) ingest: u64,
    /// Payloads being sent, and what is made of them.
    pub(crate) in_flight: u64,
    /// Recent payloads the log keeps for the senders.
    pub(crate) log_cache: u64,
    /// Compressed records that several destinations send.
    pub(crate) fragments: u64,
    /// The log itself, where it is in memory only.
    pub(crate) log: u64,
    /// What the rules remember of traces.
    pub(crate) traces: u64,
    /// What ingest remembers of spans.
    pub(crate) dedupe: u64,
}

impl Shares {
    /// The largest body, as sent or inflated: two of them, or one and what is made of it, must fit.
    pub(crate) fn body_max(&self) -> u64 {
        self.ingest / 2
    }

    /// What the parts can hold that are counted as used: all but the compressed records.
    pub(crate) fn counted(&self) -> u64 {
        self.ingest + self.in_flight + self.log_cache + self.log + self.traces + self.dedupe
    }

    pub(crate) fn of(memory_bytes: u64, is_log_in_memory: bool) -> Shares {
        let part = |percent: u64| memory_bytes / 100 * percent;
        let memory = (memory_bytes / 32).min(16 << 20);
        let (log_cache, log) = if is_log_in_memory { (0, part(25)) } else { (part(8).min(64 << 20), 0) };
        Shares {
            ingest: part(20),
            in_flight: if is_log_in_memory { part(10) } else { part(15) },
            log_cache,
            fragments: part(4).min(32 << 20),
            log,
            traces: memory,
            dedupe: memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_on_the_way_to_the_root_counts() {
        const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemFree: 1 kB\nMemTotal: 4096 kB\n");
        type Files = &'static [(&'static str, &'static str)];
        let table: [(Files, Option<u64>); 5] = [
            (&[], None),
            (&[MEMINFO], Some(4 << 20)),
            (
                &[
                    MEMINFO,
                    ("/proc/self/cgroup", "0::/system.slice/a.service\n"),
                    ("/sys/fs/cgroup/system.slice/a.service/memory.max", "max\n"),
                    ("/sys/fs/cgroup/system.slice/memory.max", "1000000\n"),
                ],
                Some(1_000_000),
            ),
            // In a container: its own root.
            (
                &[MEMINFO, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "2000000\n")],
                Some(2_000_000),
            ),
            (
                &[
                    MEMINFO,
                    ("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1\n"),
                    ("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "3000000\n"),
                    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                Some(3_000_000),
            ),
        ];
        for (files, expected) in table {
            let read =
                |path: &str| files.iter().find(|(p, _)| *p == path).map(|(_, text)| (*text).to_owned());
            assert_eq!(allowed_bytes(read), expected, "{files:?}");
        }
    }

    #[test]
    fn the_shares_leave_a_good_third() {
        for memory_bytes in [64 << 20, 256 << 20, 2 << 30] {
            for is_log_in_memory in [false, true] {
                let Shares { ingest, in_flight, log_cache, fragments, log, traces, dedupe } =
                    Shares::of(memory_bytes, is_log_in_memory);
                let sum = ingest + in_flight + log_cache + fragments + log + traces + dedupe;
                assert!(sum <= memory_bytes / 3 * 2, "{sum} of {memory_bytes}");
                assert!(ingest >= memory_bytes / 6, "{ingest} of {memory_bytes}");
            }
        }
    }
}
