//! The disk fails: full, and with bytes that are not what was written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tracecast_loadkit::faultsink::Fault;
use tracecast_loadkit::load::Options;
use tracecast_tests::process::PATIENCE;
use tracecast_tests::spans::{generation, request};

use crate::scene::{Running, Scene, alone};
use crate::table::Row;

/// A file system of a fixed size. Unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> SmallDisk {
        std::fs::create_dir_all(at).expect("the mount point");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output()
            .expect("mount can be run");
        assert!(
            mounted.status.success(),
            "a small disk needs the right to mount; as an ordinary user run this test in `unshare -rm`: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        SmallDisk { at: at.to_owned() }
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.at.join("ballast");
        let mut file = std::fs::File::create(&path).expect("the ballast");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let mut disk = None;
    let mut scene = Scene::open_with("log: { max_bytes: 256MiB }\n", |home| {
        disk = Some(SmallDisk::mount(&home.path().join("data"), "160m"));
        Vec::new()
    })
    .await;
    let disk = disk.expect("mounted");
    scene.place("quick", Fault::None).await;
    // Its backlog keeps the log's files in use.
    scene.place("hung", Fault::Hang).await;
    scene.load(scene.options(200, 5, 10_000, 4)).await;
    let ballast = disk.fill();
    let full = Instant::now();
    // What was set aside for the log is used up first; then ingest says so.
    let options = Options { until_refused: true, ..scene.options(1_000_000, 5, 50_000, 5) };
    let report = Running::start(options).end(&mut scene.oracle).await;
    assert_eq!(report.refused.keys().copied().collect::<Vec<_>>(), [503]);
    let stats = scene.stats(0).await;
    assert!(stats["accepted"].as_u64() > Some(report.acknowledged_spans), "the process answers: {stats:#}");
    let full = full.elapsed();
    std::fs::remove_file(&ballast).expect("the ballast goes");
    let freed = Instant::now();
    while scene.try_send(request(&[generation(1, "is there room again?")])).await != 200 {
        assert!(
            freed.elapsed() < PATIENCE,
            "the disk has room, nothing is accepted:\n{}",
            scene.home.stderr()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let back = freed.elapsed();
    scene.load(scene.options(200, 5, 10_000, 6)).await;

    // Full again, and killed; it starts when there is room.
    let ballast = disk.fill();
    scene.kill();
    std::fs::remove_file(&ballast).expect("the ballast goes");
    scene.start();
    scene.recover().await;
    let conclusion = scene.conclude().await;
    Row {
        test: "a_full_disk",
        fault: "disk full (tmpfs of 160 MiB) with one destination hung, freed, full again, kill -9",
        load: "closed loop of 2, 5 spans of 50 KB a request".into(),
        expected: "503 when the room set aside is used up, process stays up, 0 acknowledged lost, accepts again",
        measured: format!(
            "{} spans acknowledged and {} requests refused with 503 in {:.1} s, accepting again {} ms after there \
             was room, {conclusion}",
            report.acknowledged_spans,
            report.refused.values().sum::<u64>(),
            full.as_secs_f64(),
            back.as_millis()
        ),
    }
    .record();
}

/// Bytes up to the last that is not zero.
fn used(bytes: &[u8]) -> usize {
    let blocks =
        bytes.chunks(4096).rposition(|block| block != &[0u8; 4096][..block.len()]).map_or(0, |n| n + 1);
    let end = bytes.len().min(blocks * 4096);
    bytes[..end].iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

/// What happens to a file.
fn damage(path: &Path, rng: &mut StdRng) -> String {
    let mut bytes = std::fs::read(path).expect("the file can be read");
    let used = used(&bytes);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if used == 0 {
        std::fs::remove_file(path).expect("the file can be removed");
        return format!("{name} removed");
    }
    let at = rng.random_range(0..used);
    let said = match rng.random_range(0..4) {
        0 => {
            bytes[at] ^= 1 << rng.random_range(0..8);
            format!("{name}: a bit at {at}")
        }
        1 => {
            bytes.truncate(at);
            format!("{name}: torn at {at}")
        }
        2 => {
            let end = (at + rng.random_range(1..5000)).min(used);
            bytes[at..end].fill(0);
            format!("{name}: zeros from {at} to {end}")
        }
        _ => {
            let end = (at + rng.random_range(1..600)).min(used);
            rng.fill(&mut bytes[at..end]);
            format!("{name}: noise from {at} to {end}")
        }
    };
    std::fs::write(path, bytes).expect("the file can be written");
    said
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.retain(|path| !path.ends_with("lock"));
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            // Files are made ahead of need: what is not used yet is left a hole.
            let mut bytes = std::fs::read(&path).expect("a file");
            let length = bytes.len() as u64;
            bytes.truncate(used(&bytes));
            std::fs::write(&target, bytes).expect("a copy");
            let copy = std::fs::File::options().write(true).open(&target).expect("the copy");
            copy.set_len(length).expect("its length");
        }
    }
}

/// What the seeds of one lane came to.
#[derive(Default)]
struct Tally {
    harmless: u64,
    counted: u64,
    repeated: u64,
}

/// Damages one file of the log by each seed and starts on it.
async fn corruptions(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut scene = Scene::beside("log: { max_bytes: 256MiB }\n", |_| Vec::new());
    let place = scene.place("one", Fault::None).await;
    let path = format!("/observability/destinations/{}", scene.places[place].id);
    // Some delivered, most pending: what an outage leaves behind.
    scene.load(scene.options(20, 5, 300, 6)).await;
    scene.until(place, "drained", |stats| stats["delivered"] == 20).await;
    assert_eq!(scene.gateway().api("POST", &format!("{path}/pause"), None).await.0, 200);
    scene.load(scene.options(200, 5, 300, 7)).await;
    scene.stop().await;
    let (data, image) = (scene.home.path().join("data"), scene.home.path().join("image"));
    copy(&data, &image);
    let before = (scene.oracle.clone(), scene.places[place].sink.receipts());

    let mut tally = Tally::default();
    for seed in seeds {
        std::fs::remove_dir_all(&data).expect("the last one's data goes");
        copy(&image, &data);
        scene.oracle = before.0.clone();
        scene.places[place].sink.restore(before.1.clone());
        let mut rng = StdRng::seed_from_u64(seed);
        let log = files(&data.join("log"));
        let file = &log[rng.random_range(0..log.len())];
        let said: Vec<_> = (0..rng.random_range(1..4)).map(|_| damage(file, &mut rng)).collect();
        scene.start();
        assert_eq!(scene.gateway().api("POST", &format!("{path}/resume"), None).await.0, 200);
        let said = format!("seed {seed}: {}", said.join(", "));
        let conclusion = scene.conclude_damaged(&said, before.1.len() as u64).await;
        tally.harmless += u64::from(conclusion.dropped == 0);
        tally.counted += conclusion.dropped;
        tally.repeated += conclusion.duplicates;
        scene.kill();
    }
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_corruptions() {
    const SEEDS: u64 = 200;
    const LANES: usize = 4;
    let _alone = alone().await;
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        lanes.spawn(corruptions((0..SEEDS).skip(lane).step_by(LANES)));
    }
    let mut sum = Tally::default();
    for tally in lanes.join_all().await {
        sum.harmless += tally.harmless;
        sum.counted += tally.counted;
        sum.repeated += tally.repeated;
    }
    Row {
        test: "two_hundred_corruptions",
        fault: "200 seeds of flipped bits, torn files, zeros and noise, each in one file of the log",
        load: "220 spans, 20 of them delivered, the rest pending".into(),
        expected: "starts every time; what is missing is counted as damaged, exactly; nothing altered",
        measured: format!(
            "{} of {SEEDS} without any loss, {} spans missing and counted, {} sent again",
            sum.harmless, sum.counted, sum.repeated
        ),
    }
    .record();
}
