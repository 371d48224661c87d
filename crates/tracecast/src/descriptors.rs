//! File descriptors: as many as the system allows this process, and how connections share them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are not asked for.
const WANTED: u64 = 64 << 10;
/// For the files of log and store, and whatever else the process opens.
const RESERVED: u64 = 192;
/// Connections of clients, whatever the system allows.
const INGEST_MAX: u64 = 16 << 10;
const ADMIN_MAX: u64 = 256;

/// How many connections each side may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) ingest: usize,
    pub(crate) admin: usize,
}

impl Descriptors {
    /// Raises the soft limit as far as the hard one allows, and shares out what there is.
    pub(crate) fn raise() -> Descriptors {
        let limit = getrlimit(Resource::Nofile);
        let (now, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
        let wanted = most.min(WANTED);
        if now >= wanted {
            return Descriptors::of(now);
        }
        match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
            Ok(()) => Descriptors::of(wanted),
            Err(error) => {
                tracing::warn!(%error, now, "the limit of open files cannot be raised");
                Descriptors::of(now)
            }
        }
    }

    /// Half of what is free is for clients, the other half for destinations.
    fn of(limit: u64) -> Descriptors {
        let free = limit.saturating_sub(RESERVED).max(limit / 4);
        let admin = (free / 8).clamp(1, ADMIN_MAX);
        let ingest = ((free - admin.min(free)) / 2).clamp(1, INGEST_MAX);
        Descriptors { ingest: ingest as usize, admin: admin as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_limit_with_something_left_for_destinations() {
        for limit in [1, 64, 256, 1_024, 4_096, 65_536, 1 << 20, u64::MAX] {
            let Descriptors { ingest, admin } = Descriptors::of(limit);
            assert!(ingest >= 1 && admin >= 1, "{limit}");
            assert!(
                limit < 64 || (ingest + admin) as u64 <= limit / 2 + limit / 8,
                "{limit}: {ingest} + {admin}"
            );
        }
        assert_eq!(Descriptors::of(1_024), Descriptors { ingest: 364, admin: 104 });
        assert_eq!(Descriptors::of(65_536), Descriptors { ingest: 16_384, admin: 256 });
    }
}
