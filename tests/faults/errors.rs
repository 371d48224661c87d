//! The disk answers EIO.

use std::time::{Duration, Instant};

use tracecast_loadkit::faultsink::Fault;
use tracecast_loadkit::load::Options;
use tracecast_tests::process::PATIENCE;
use tracecast_tests::spans::{generation, request};

use crate::failing_disk::FailingDisk;
use crate::scene::{Running, Scene};
use crate::table::Row;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_errs() {
    let mut disk = None;
    let mut scene = Scene::open_with("log: { max_bytes: 1GiB }\n", |home| {
        disk = Some(FailingDisk::mount(&home.path().join("data/log"), &home.path().join("behind")));
        Vec::new()
    })
    .await;
    let disk = disk.expect("mounted");
    scene.place("quick", Fault::None).await;
    scene.place("hung", Fault::Hang).await;
    scene.load(scene.options(200, 5, 2000, 30)).await;
    let (mut refused, mut back) = (0, Vec::new());
    // Writes, syncs, both; then reads as well.
    let ways = [(true, false, false), (false, true, false), (true, true, false), (true, true, true)];
    for (way, (writes, syncs, reads)) in (0..).zip(ways) {
        let before = disk.faults.failed();
        disk.faults.set(writes, syncs, reads);
        let options = Options { until_refused: true, ..scene.options(1_000_000, 5, 2000, 40 + way) };
        let report = Running::start(options).end(&mut scene.oracle).await;
        assert_eq!(report.refused.keys().copied().collect::<Vec<_>>(), [503], "{}", scene.home.stderr());
        assert!(disk.faults.failed() > before);
        refused += report.refused.values().sum::<u64>();
        // It lasts, and so does the answer; the process tells of it, and goes on.
        assert_eq!(scene.try_send(request(&[generation(100 + way, "still?")])).await, 503);
        let ready = scene.gateway().get_admin("/readyz").await;
        assert_eq!(ready.0, 503, "{}", ready.1);
        scene.stats(0).await;
        disk.faults.set(false, false, false);
        let ended = Instant::now();
        while scene.try_send(request(&[generation(200 + way, "and now?")])).await != 200 {
            assert!(
                ended.elapsed() < PATIENCE,
                "the disk works, nothing is accepted:\n{}",
                scene.home.stderr()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        back.push(ended.elapsed());
        scene.load(scene.options(100, 5, 2000, 50 + way)).await;
    }

    // Killed while it fails; started when it works again.
    disk.faults.set(true, true, true);
    assert_eq!(scene.try_send(request(&[generation(300, "the last word")])).await, 503);
    scene.kill();
    disk.faults.set(false, false, false);
    scene.start();
    scene.recover().await;
    let conclusion = scene.conclude().await;
    assert_eq!((conclusion.dropped, conclusion.dead_lettered), (0, 0), "{:#}", scene.stats(1).await);
    let slowest = back.iter().max().map_or(0, Duration::as_millis);
    Row {
        test: "a_disk_that_errs",
        fault: "EIO to every write, every sync, both, and reads as well, each for a while; then kill -9 while it lasts",
        load: "closed loop of 2, 5 spans of 2 KB a request; one destination hung".into(),
        expected: "503 while it lasts, process stays up and says that it is not ready, accepts again by itself, \
                   0 acknowledged lost",
        measured: format!(
            "{} calls failed, {refused} requests refused with 503, accepting again after {slowest} ms at most, \
             {conclusion}",
            disk.faults.failed()
        ),
    }
    .record();
}
