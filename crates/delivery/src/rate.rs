//! How fast a destination may be sent to, where its owner has set a limit.

use std::time::Duration;

use tokio::time::Instant;
use tracecast_destination::RateLimit;

/// What was not used within this time is lost.
const SAVED: Duration = Duration::from_secs(1);

/// A limit and how much of it is used. A request may start while anything is left, whatever it costs: what it
/// takes too much is waited for before the next.
#[derive(Debug)]
pub(crate) struct Rate {
    limit: RateLimit,
    /// When everything sent so far is paid for.
    paid_at: Instant,
}

impl Rate {
    pub(crate) fn new(limit: RateLimit, now: Instant) -> Rate {
        Rate { limit, paid_at: now }
    }

    /// Nothing may be sent before; `None` means now.
    pub(crate) fn wait(&self, now: Instant) -> Option<Instant> {
        Some(self.paid_at).filter(|at| *at > now)
    }

    /// A request with so many spans is started.
    pub(crate) fn spend(&mut self, spans: u32, now: Instant) {
        let cost = match self.limit {
            RateLimit::RequestsPerSecond(rate) => 1.0 / rate,
            RateLimit::SpansPerSecond(rate) => f64::from(spans) / rate,
        };
        let saved = now.checked_sub(SAVED).unwrap_or(now);
        self.paid_at = self.paid_at.max(saved) + Duration::from_secs_f64(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `spans` spans a request, as early as it may, for `secs` seconds; the number of requests.
    fn requests(limit: RateLimit, spans: u32, secs: u64) -> u32 {
        let start = Instant::now();
        let mut rate = Rate::new(limit, start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(secs) {
            now = rate.wait(now).unwrap_or(now);
            rate.spend(spans, now);
            sent += 1;
        }
        sent
    }

    #[test]
    fn both_units_hold_over_time() {
        // What was saved before the first request, and the one that ends it, come on top.
        let sent = requests(RateLimit::RequestsPerSecond(5.0), 100, 100);
        assert!((500..=506).contains(&sent), "{sent}");
        let sent = requests(RateLimit::SpansPerSecond(50.0), 100, 100);
        assert!((50..=52).contains(&sent), "{sent}");
        let sent = requests(RateLimit::RequestsPerSecond(0.1), 1, 100);
        assert!((10..=12).contains(&sent), "{sent}");
    }

    #[test]
    fn only_a_second_is_saved() {
        let start = Instant::now();
        let mut rate = Rate::new(RateLimit::RequestsPerSecond(10.0), start);
        let now = start + Duration::from_secs(3600);
        let mut sent = 0;
        while rate.wait(now).is_none() {
            rate.spend(1, now);
            sent += 1;
        }
        assert!((10..=11).contains(&sent), "{sent}");
    }
}
