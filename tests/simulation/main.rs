//! The log and delivery in a simulated world: see `tracecast_tests::sim`.

use tracecast_tests::sim::{self, Sabotage};

/// Seeds of one run of the test command.
const SEEDS: u64 = 2_000;

#[test]
fn nothing_promised_is_broken_whatever_happens() {
    let total = sim::run_many(0, SEEDS, 2, 3);
    let findings: Vec<String> =
        total.findings.iter().map(|finding| format!("seed {}: {}", finding.seed, finding.what)).collect();
    assert!(
        findings.is_empty(),
        "replay with `cargo run -p tracecast-tests -- simulate --seed N --trace`: {findings:#?}"
    );
    assert_eq!(total.seeds, SEEDS);
    let sum = total.sum;
    println!("{sum:?}");
    assert!(sum.carried > SEEDS, "segments are carried over: {sum:?}");
    let faults = [sum.kills, sum.power_cuts, sum.disk_faults, sum.flips, sum.clock_jumps];
    assert!(faults.iter().all(|times| *times > SEEDS / 20), "each fault happens often: {sum:?}");
}

#[test]
fn what_is_broken_is_found() {
    for sabotage in Sabotage::ALL {
        let found = (0..1_000).find_map(|seed| sim::run_with(seed, false, sabotage).err());
        assert!(found.is_some(), "{sabotage:?} was not found in 1,000 seeds");
    }
}

#[test]
fn a_seed_is_one_story() {
    for seed in [3, 17, 99] {
        let (once, again) = (sim::run(seed, false), sim::run(seed, false));
        assert_eq!(once.map_err(|f| f.what), again.map_err(|f| f.what), "seed {seed}");
    }
}
