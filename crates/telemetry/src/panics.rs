//! What is said about a panic: where, never what. The message of a panic can quote the text it choked on, and that
//! may be somebody's prompt or a secret.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

/// From now on a panic of any thread is logged without its message, in place of the standard library's report. With
/// `RUST_BACKTRACE=1` the names of the functions on the way are told.
pub(crate) fn install() {
    std::panic::set_hook(Box::new(|info| {
        let place = place(info);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(%place, thread, %backtrace, "internal error: a part of the gateway panicked");
        } else {
            tracing::error!(%place, thread, "internal error: a part of the gateway panicked");
        }
    }));
}

/// File, line and column.
fn place(info: &PanicHookInfo<'_>) -> String {
    info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const CANARY: &str = "panic-canary-31aé";

    /// Collects what is logged by this thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_told_by_its_place_and_without_its_message() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let before = std::panic::take_hook();
        install();
        let texts: [fn(); 3] = [
            || panic!("{CANARY}"),
            // Cuts a letter in two, which the standard library answers by quoting the text.
            || drop(CANARY[..CANARY.len() - 1].to_owned()),
            || _ = CANARY.parse::<u8>().expect(CANARY),
        ];
        tracing::subscriber::with_default(subscriber, || {
            for text in texts {
                assert!(std::panic::catch_unwind(text).is_err());
            }
        });
        std::panic::set_hook(before);
        let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!told.contains("canary"), "{told}");
        assert_eq!(told.matches("panicked").count(), 3, "{told}");
        assert!(told.contains("panics.rs"), "{told}");
    }
}
