//! Mutations of the corpus: every record is answered for, and what is accepted is good OTLP.

use allocation_counter::measure;
use tracecast_mutate::{corpus, fuzz};

use super::{check, run};

#[test]
fn mutated_events() {
    let seeds: Vec<Vec<u8>> = corpus("events").into_iter().map(|(_, text)| text).collect();
    let (mut accepted, mut refused) = (0, 0);
    fuzz("events", &seeds, 20_000, |body| {
        let taken = measure(|| {
            let outcome = run(body);
            accepted += outcome.accepted;
            refused += outcome.rejected;
        });
        // Far more than it needs, far less than a number in it can ask for.
        let most = (1 << 20) + 512 * body.len() as u64;
        assert!(taken.bytes_max < most, "{taken:?} for {} bytes", body.len());
        if let Err(broken) = check(body) {
            panic!("{broken}");
        }
    });
    assert!(accepted > 500 && refused > 500, "both ways: {accepted} accepted, {refused} refused");
}
