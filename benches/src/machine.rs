//! What the figures were measured on.

use std::path::Path;

/// Cores, processor, kernel, and the file system that durable runs sync to.
pub(crate) fn describe(dir: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processors = read("/proc/cpuinfo");
    let processor = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let kernel = read("/proc/sys/kernel/osrelease");
    let mounts = read("/proc/self/mounts");
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    // The mount point with the longest path that holds the directory.
    let disk = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
            dir.starts_with(point).then_some((point.len(), device, kind))
        })
        .max()
        .map_or("an unknown file system".to_owned(), |(_, device, kind)| format!("{kind} on {device}"));
    format!("{cores} cores, {processor}, Linux {}, data on {disk}", kernel.trim())
}
