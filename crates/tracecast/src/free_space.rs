//! How much of the disk the log may take: never more than there is, whatever the configuration promises.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Of what is free at the start, the log is given this part. Dead letters, the store and others live there too.
const SHARE_PERCENT: u64 = 80;
/// And never the last of it.
const RESERVE_BYTES: u64 = 64 << 20;
/// Free space is another figure at every start; segment sizes, which follow from a small cap, are better the same.
const STEP_BYTES: u64 = 16 << 20;

/// The cap of the log whose segment files are or will be in `dir`: `max_bytes`, or what the disk has for it. What they
/// take already counts as free, so that a restart leaves the log what it had.
pub(crate) fn log_cap(dir: &Path, max_bytes: u64) -> u64 {
    let known = free(dir).and_then(|free| Ok((free, allocated(dir)?)));
    let (free_bytes, held_bytes) = match known {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "the free space of the disk is not known");
            return max_bytes;
        }
    };
    let cap_bytes = cap(max_bytes, free_bytes.saturating_add(held_bytes));
    if cap_bytes < max_bytes {
        tracing::warn!(
            cap_bytes,
            free_bytes,
            max_bytes,
            "the disk has no room for log.max_bytes: the log takes 80 % of what is free"
        );
    }
    cap_bytes
}

fn cap(max_bytes: u64, room_bytes: u64) -> u64 {
    let share = room_bytes.saturating_mul(SHARE_PERCENT) / 100;
    let most = share.min(room_bytes.saturating_sub(RESERVE_BYTES));
    // Below one step nothing is kept whatever the cap says: writing fails, and that is told when it does.
    if most < max_bytes { (most / STEP_BYTES).max(1) * STEP_BYTES } else { max_bytes }
}

/// What this process may still write to the disk that `dir` is on.
fn free(dir: &Path) -> io::Result<u64> {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    let disk = rustix::fs::statvfs(there)?;
    if disk.f_blocks == 0 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "its file system does not say how large it is",
        ));
    }
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What the files of a directory take on the disk; nothing, if it is not there.
fn allocated(dir: &Path) -> io::Result<u64> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let found = entry?.metadata()?;
        if found.is_file() {
            bytes += found.blocks() * 512;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn a_disk_is_never_promised_more_than_it_has() {
        for (max_bytes, room_bytes, expected) in [
            (10 * GIB, 1_000 * GIB, 10 * GIB),
            (10 * GIB, 100 * GIB / 8, 10 * GIB),
            (10 * GIB, 1_000 * MIB, 800 * MIB),
            (GIB, 2 * GIB, GIB),
            (10 * GIB, 500 * MIB, 400 * MIB),
            // The reserve is more than a fifth.
            (10 * GIB, 200 * MIB, 128 * MIB),
            (256 * MIB, 160 * MIB, 96 * MIB),
            (10 * GIB, 70 * MIB, 16 * MIB),
            (10 * GIB, 0, 16 * MIB),
        ] {
            assert_eq!(cap(max_bytes, room_bytes), expected, "{max_bytes} of {room_bytes}");
        }
    }

    #[test]
    fn a_file_system_that_does_not_say_is_not_taken_to_be_full() {
        assert!(free(Path::new("/proc")).is_err());
        assert_eq!(log_cap(Path::new("/proc"), GIB), GIB);
    }

    #[test]
    fn a_restart_leaves_the_log_what_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("segments");
        assert_eq!(allocated(&log).unwrap(), 0);
        std::fs::create_dir(&log).unwrap();
        std::fs::write(log.join("segment"), vec![1; 3 << 20]).unwrap();
        std::fs::File::create(log.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        let found = allocated(&log).unwrap();
        assert!((3 << 20..4 << 20).contains(&found), "{found}");
        // Here there is some room, and the log is given all it asks for.
        assert_eq!(log_cap(&log, 1), 1);
    }
}
