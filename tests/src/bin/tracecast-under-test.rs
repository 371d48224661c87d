//! The `tracecast` program as the tests start it: the same `main`, built in the tests' own graph. One thing is added:
//! where `UNDER_TEST_PANIC` names a file, a thread panics with the text of that file as soon as it is there.

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    if let Ok(path) = std::env::var("UNDER_TEST_PANIC") {
        std::thread::spawn(move || {
            loop {
                match std::fs::read_to_string(&path) {
                    Ok(text) => panic!("{text}"),
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
    }
    tracecast::main()
}
