//! A subject's process: started, measured by /proc, ended.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

/// A child that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts it with stdout for us, on the first so many cores.
    pub(crate) fn start(
        mut command: Command,
        cores: Option<usize>,
    ) -> anyhow::Result<(Running, impl Iterator<Item = String>)> {
        let confined = cores.map(Confined::to).transpose()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()));
        drop(confined);
        let mut child = child?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        Ok((Running { child }, lines))
    }

    /// User and system CPU so far, seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold anything; fields are counted behind it.
        let (_, fields) = stat.rsplit_once(')').context("/proc/.../stat has another form")?;
        let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
        let [user, system] = ticks[..] else { bail!("/proc/.../stat has another form") };
        // USER_HZ is 100 on every Linux of today.
        Ok((user + system) / 100.0)
    }

    /// Highest resident memory so far, megabytes.
    pub(crate) fn peak_rss_mb(&self) -> anyhow::Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| path)
    }
}

/// This thread on some cores only, until it is dropped: a process it starts meanwhile inherits them, and counts them as
/// all there are.
struct Confined {
    thread: String,
    before: String,
}

impl Confined {
    fn to(cores: usize) -> anyhow::Result<Confined> {
        let thread = std::fs::read_link("/proc/thread-self")?;
        let thread =
            thread.file_name().context("/proc/thread-self has another form")?.to_string_lossy().into_owned();
        let status = std::fs::read_to_string("/proc/thread-self/status")?;
        let before = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let before = before.context("/proc/thread-self/status names no cores")?.trim().to_owned();
        taskset(&format!("0-{}", cores.max(1) - 1), &thread)?;
        Ok(Confined { thread, before })
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        if let Err(error) = taskset(&self.before, &self.thread) {
            eprintln!("{error:#}");
        }
    }
}

fn taskset(cores: &str, thread: &str) -> anyhow::Result<()> {
    let status = Command::new("taskset").args(["-cp", cores, thread]).stdout(Stdio::null()).status();
    let status = status.context("cannot start taskset")?;
    anyhow::ensure!(status.success(), "taskset -cp {cores} {thread}: {status}");
    Ok(())
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
