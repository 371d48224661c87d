//! Support of the tests: the gateway as a process, its admin API, and strict fakes of vendors.
//!
//! # The fault table
//!
//! What `cargo test -p tracecast-tests --test faults NAME` does to the real process and what came of it, measured in
//! the debug build on two busy cores. Every run prints its lines and collects them in `target/fault-table.md`.
//!
//! | fault | load | expected | measured | name |
//! | --- | --- | --- | --- | --- |
//! | kill -9 at 50 seeded moments, restart each time | closed loop of 2, 5 spans a request, a quick and a slow destination | 0 acknowledged lost, no figure ever falls | 9816 acknowledged, 0 lost, 2170 came twice, fresh event after 216 ms; start 825 ms at the median | `sigkill_at_fifty_moments` |
//! | 20 rolling restarts, each successor takes the listeners over | 4 keep-alive clients in a closed loop, a quick and a slow destination | 0 failed requests, 0 acknowledged lost | 0 of 1200 requests failed, 6001 acknowledged, 0 lost, 0 came twice, fresh event after 226 ms | `twenty_rolling_restarts` |
//! | SIGTERM while every destination hangs; restart | 2000 spans to each of 8 destinations | exit 0 within 30 s, all delivered after the restart | stop 10.2 s, start 325 ms, 2001 acknowledged, 0 lost, 0 came twice, fresh event after 413 ms | `sigterm_with_all_destinations_hung` |
//! | disk full (tmpfs of 160 MiB) with one destination hung, freed, full again, kill -9 | closed loop of 2, 5 spans of 50 KB a request | 503 when the room set aside is used up, process stays up, 0 acknowledged lost, accepts again | 1270 spans acknowledged and 2 requests refused with 503 in 8.7 s, accepting again 614 ms after there was room, 1672 acknowledged, 0 lost, 0 came twice, fresh event after 1406 ms | `a_full_disk` |
//! | EIO to every write, every sync, both, and reads as well, each for a while; then kill -9 while it lasts | closed loop of 2, 5 spans of 2 KB a request; one destination hung | 503 while it lasts, process stays up and says that it is not ready, accepts again by itself, 0 acknowledged lost or given up | 23 calls failed, 8 requests refused with 503, accepting again after 993 ms at most, 605 acknowledged, 0 lost, 40 came twice, fresh event after 295 ms | `a_disk_that_errs` (with `--features failing-disk`: needs /dev/fuse and the right to mount) |
//! | 200 seeds of flipped bits, torn files, zeros and noise, each in one file of the log | 220 spans, 20 of them delivered, the rest pending | starts every time; what is missing is counted as damaged, exactly; nothing altered | 131 of 200 without any loss, 4815 spans missing and counted, 940 sent again | `two_hundred_corruptions` |
//! | 29 ways to fail at once: statuses, resets at any byte, hang, 1 B/s, torn, lost and early answers, no HTTP, black hole, refused, NXDOMAIN, TLS expired / unknown issuer / other name; then all repaired | 60 spans to each of 32 destinations | the state each fault stands for; all delivered after the repair | 61 acknowledged, 0 lost, 140 came twice, fresh event after 436 ms | `every_fault_and_then_recovery` |
//! | 429 with every form of Retry-After: seconds, fraction, three date forms, past, zero, negative, no sense | 1 span to each of 9 destinations | waits as asked, plus at most 10 %; backoff where nothing sensible is asked | seconds 2.1 s, fraction 1.6 s, date 3.1 s, date of RFC 850 3.2 s, date of asctime 3.3 s, past date 0.4 s, zero 0.4 s, negative 0.4 s, no sense 0.3 s; 2 acknowledged, 0 lost, 0 came twice, fresh event after 214 ms | `every_form_of_retry_after` |
//! | OTLP partial success: warning, 1, 17 and 40 of 40 refused, negative, no protobuf, false length, empty, JSON without sense | 40 spans to each of 9 destinations | k dropped as refused_unattributed or all dead-lettered, the rest delivered, nothing resent | 41 acknowledged, 0 lost, 0 came twice, 40 dead-lettered, 18 dropped, fresh event after 217 ms | `partial_success_of_every_shape` |
//! | 1, 3 and 17 spans of 1,000 refused by 400 and by 413 | 1000 spans to each of 6 destinations | exactly those dead-lettered, at most 2k log2 n + 2k extra requests, no circuit opened | requests: 1 by 400: 24, 3 by 400: 52, 17 by 400: 225, 1 by 413: 28, 3 by 413: 75, 17 by 413: 215; 1001 acknowledged, 0 lost, 0 came twice, 42 dead-lettered, 0 dropped, fresh event after 231 ms | `poison_among_a_thousand` |
//! | 9 of 17 destinations: 429, 500, hang, 1 B/s, reset, garbage, TLS expired, NXDOMAIN, black hole | 100 spans/s to 17 destinations, 6 rounds with and 6 without the faults in turn; log buffered | the 8 healthy: ≥ 99 % throughput (asserted), p99 ≤ 1.2x of the rounds without faults (a figure: a busy machine decides it) | throughput 100.00 %, accept to arrival, medians of rounds without / with faults: p50 357 / 206 ms, p99 884 / 459 ms = 0.52x, of which the answer, which waits for no destination, took 496 / 252 ms (six builds beside it); release build, durable: p50 145 / 146 ms, p99 427 / 339 ms = 0.79x, answers 165 / 74 ms; 3601 acknowledged, 0 lost, 0 came twice, fresh event after 299 ms | `nine_of_seventeen_fail` |
//! | 1,000 workspaces with a destination each, one sends 20 times what another does | 3000 spans, one request each, 16 at a time | each span at its own workspace's destination, once; books of all 1,000 balance | 3000 acknowledged, 0 lost, 0 misrouted, all delivered 11.3 s after the first was sent | `a_thousand_tenants` |
//! | 10,000 destinations, created and deleted by the API all the time | 15 spans, each to one of 100 by filter and to one that takes everything | 1 % of them changed per second; every span at its destination, books balance | first start 17.5 s of a machine shared by six builds (4.8 s of CPU; release build 1.2 s), 41 changes per second by 4 callers; alone with the gateway 105 by one caller, 151 by 4, 439 by 16; release build 179, 401, 253; 16 acknowledged, 0 lost, 0 came twice, fresh event after 1294 ms | `ten_thousand_destinations` |
//! | receivers that quote whole requests in every kind of refusal; log level trace; kill -9 | 10 spans with private content to 8 private destinations with secrets | no secret and no private content in logs, replies, metrics, dead letters, files | 0 of 4 canaries in 72 replies, 104 KB of log and the data directory; fresh event after 247 ms | `canaries_in_the_storm` |
//! | a thread of the process panics with a message that quotes a secret and private content | 1 span afterwards | the log tells the place and not the message; the process goes on and stops with 0 | 0 of 2 canaries in the log, fresh event after 389 ms | `a_panic_tells_no_secret` |
//!
//! Not in the list: HTTP/2 GOAWAY, because destinations are spoken to over HTTP/1.1 alone; connections closed under
//! reuse are among the 29 ways. Elsewhere: a clock that jumps by -1 h and +1 day, threads in any order and power cuts
//! (`tracecast-tests simulate`, `--test simulation`); a memory ceiling of 256 MB with all sinks hung, descriptors that run
//! out (`--test product pressure`); refused addresses, redirects and DNS rebinding (`--test product outbound`,
//! `tracecast-sinks`' `family::outbound`); hostile bytes for every reader (`cargo test --workspace mutated`). From start
//! to ready with a backlog: `tracecast-tests ready --binary PATH`, see [`ready`]; with 1 GB pending 0.9 to 1.6 s in the debug
//! build, 0.3 to 0.5 s in the release build.

pub mod fakes;
pub mod process;
pub mod ready;
pub mod sim;
pub mod spans;
