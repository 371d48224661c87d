//! The circuit breaker's two signals: failures in a row, and the share of failures among the last answers.

/// Failures in a row that open the circuit.
const IN_A_ROW: u32 = 5;
/// How many answers are remembered.
const REMEMBERED: u32 = 20;
/// Share of failures among the remembered answers that opens the circuit, once there are that many: a half.
const OPENS_AT: u32 = REMEMBERED / 2;
/// One failure in so many answers is no reason to call a destination degraded.
const DEGRADES_ONE_IN: u32 = 10;

/// What became of the last requests. Answers about a payload are no failures: who refuses one is alive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    /// The latest answer in the lowest bit; a failure is 1.
    answers: u32,
    known: u32,
    failed_in_a_row: u32,
    good_in_a_row: u32,
}

impl Breaker {
    pub(super) fn failed(&mut self) {
        self.note(1);
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.good_in_a_row = 0;
    }

    pub(super) fn succeeded(&mut self) {
        self.note(0);
        self.failed_in_a_row = 0;
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
    }

    /// An answer that shows life, and says nothing about whether requests succeed.
    pub(super) fn alive(&mut self) {
        self.failed_in_a_row = 0;
    }

    fn note(&mut self, failed: u32) {
        self.answers = ((self.answers << 1) | failed) & ((1 << REMEMBERED) - 1);
        self.known = (self.known + 1).min(REMEMBERED);
    }

    fn failures(&self) -> u32 {
        self.answers.count_ones()
    }

    /// The circuit is to be opened.
    pub(super) fn trips(&self) -> bool {
        self.failed_in_a_row >= IN_A_ROW || (self.known >= REMEMBERED && self.failures() >= OPENS_AT)
    }

    /// The latest answer was a failure.
    pub(super) fn is_failing(&self) -> bool {
        self.failed_in_a_row > 0
    }

    /// Failures are more than an exception.
    pub(super) fn is_strained(&self) -> bool {
        self.failures() * DEGRADES_ONE_IN >= self.known.max(1)
    }

    /// As many good answers in a row as there are failures on record: the rate of success is restored.
    pub(super) fn is_restored(&self) -> bool {
        self.good_in_a_row >= self.failures()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answers: &str) -> Breaker {
        let mut breaker = Breaker::default();
        for answer in answers.chars() {
            match answer {
                'x' => breaker.failed(),
                'a' => breaker.alive(),
                _ => breaker.succeeded(),
            }
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_and_four_do_not() {
        assert!(!after("xxxx").trips());
        assert!(after("xxxxx").trips());
        assert!(!after("xxxx.xxxx").trips());
        assert!(!after("xxxxaxxxx").trips(), "a refused payload in between shows life");
        assert!(after("....................xxxxx").trips());
    }

    #[test]
    fn half_of_the_last_twenty_open_and_fewer_do_not() {
        assert!(!after(&"x.".repeat(9)).trips(), "eighteen answers are too few to tell");
        assert!(after(&"x.".repeat(10)).trips());
        assert!(!after(&"x..".repeat(40)).trips());
        assert!(
            !after(&format!("{}{}", "x".repeat(4), ".".repeat(20))).trips(),
            "old failures are forgotten"
        );
        assert!(after(&".xaa".repeat(10)).trips(), "refused payloads do not thin the failures out");
    }

    #[test]
    fn one_failure_among_many_is_an_exception() {
        assert!(after("x").is_strained());
        assert!(!after(&format!("{}x", ".".repeat(19))).is_strained());
        assert!(after(&format!("{}xx", ".".repeat(18))).is_strained());
        assert!(after("x.").is_restored() && !after("xx.").is_restored() && after("xx..").is_restored());
    }
}
