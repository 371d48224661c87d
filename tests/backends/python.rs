//! Virtual environments under `target/backends`, and Python programs run in them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// Installs everything else, and quicker than pip.
const UV: &str = "uv==0.13.8";

/// A server is given this long to come up; at its first start Python compiles it.
const START_WITHIN: Duration = Duration::from_secs(180);

/// An environment is made by one test at a time.
static INSTALLING: Mutex<BTreeMap<String, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| manifest.parent().expect("the workspace").join("target"), PathBuf::from);
    let root = target.join("backends");
    std::fs::create_dir_all(&root).expect("target/backends can be made");
    root
}

/// The path of one of our own scripts.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("backends/python").join(name)
}

/// The environment `name`: exactly what `python/requirements/{name}.txt` pins, made anew if that changed.
pub(crate) fn venv(name: &str) -> PathBuf {
    let one = locked(&INSTALLING).entry(name.to_owned()).or_default().clone();
    let _one = locked(&one);
    let (root, uv) = (root(), uv());
    let requirements = script("requirements").join(name).with_extension("txt");
    let wanted = std::fs::read_to_string(&requirements).expect("the requirements can be read");
    let directory = root.join(name);
    let marker = directory.join("requirements");
    if std::fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return directory;
    }
    let _ = std::fs::remove_dir_all(&directory);
    run(Command::new(&uv).args(["venv", "-q", "--no-config", "--python", "python3"]).arg(&directory));
    // The files name every package, so nothing is resolved here.
    run(Command::new(&uv)
        .args(["pip", "install", "-q", "--no-deps", "--python"])
        .arg(directory.join("bin/python"))
        .arg("-r")
        .arg(&requirements));
    std::fs::write(&marker, wanted).expect("the marker can be written");
    directory
}

fn uv() -> PathBuf {
    static FOUND: Mutex<()> = Mutex::new(());
    let _one = locked(&FOUND);
    let directory = root().join("uv");
    let uv = directory.join("bin/uv");
    if !uv.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory));
        run(Command::new(directory.join("bin/pip")).args(["install", "-q", UV]));
    }
    uv
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directory of an environment's packages.
pub(crate) fn packages(venv: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(venv.join("lib")).expect("the environment has packages").flatten();
    let python = found.find(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
    python.expect("lib/python3.x").path().join("site-packages")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a script to its end; its last line is JSON.
pub(crate) fn run_json(venv: &Path, name: &str, arguments: &[&str]) -> Json {
    let output = Command::new(venv.join("bin/python"))
        .arg(script(name))
        .args(arguments)
        .env("NO_PROXY", "*")
        .output()
        .expect("python can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed:\n{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{name} printed no JSON ({e}): {stdout}\n{stderr}"))
}

/// A server process. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `http://127.0.0.1:port`.
    pub(crate) url: String,
    log: PathBuf,
}

impl Server {
    /// Starts the command and waits until `ready` (a path) answers 200. What it prints is in
    /// `target/backends/{name}.log`.
    pub(crate) async fn start(name: &str, port: u16, ready: &str, command: &mut Command) -> Server {
        let log = root().join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("the log file can be made");
        let errors = file.try_clone().expect("the log file can be shared");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        let mut server = Server { child, url: format!("http://127.0.0.1:{port}"), log };
        let client = client();
        let started = Instant::now();
        loop {
            let answered = client.get(format!("{}{ready}", server.url)).send().await;
            if answered.is_ok_and(|r| r.status().is_success()) {
                return server;
            }
            if let Some(status) = server.child.try_wait().expect("the server can be waited for") {
                panic!("{name} ended with {status}:\n{}", server.output());
            }
            assert!(started.elapsed() < START_WITHIN, "{name} does not come up:\n{}", server.output());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that goes nowhere but where it is told.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// A port nobody listens on, below those the system gives to outgoing connections: a server that takes
/// seconds to start must still find it free.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 100) as u16 * 100;
    for _ in 0..100 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {base} on")
}
