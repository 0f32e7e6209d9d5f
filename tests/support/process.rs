//! The daemon as a process of its own, with the hub, store and health of a test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Writes `lanner.toml` into `folder`, and says where it is: reads the hub `audit`, keeps its store in
/// `folder`, tells of its health at `port` and writes nothing to standard output. `rest` is what it
/// says besides.
pub fn configure(folder: &Path, connection_string: &str, port: u16, rest: &str) -> PathBuf {
    let path = folder.join("lanner.toml");
    let text = format!(
        r#"
[eventhubs.audit]
hub = "audit"
auth = "connection-string"
connection-string-file = "{at}/hub"

[store]
path = "{at}/store"

[stdout]
enabled = false

[telemetry]
listen = "127.0.0.1:{port}"

{rest}
"#,
        at = folder.display(),
    );
    std::fs::write(folder.join("hub"), connection_string).expect("a file");
    std::fs::write(&path, text).expect("a file");
    path
}

/// Ends with the test, if not before.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(config: &Path) -> Daemon {
        Daemon::spawn(config, Stdio::null(), Stdio::null())
    }

    /// With its standard output and errors to where they are wanted.
    pub fn spawn(config: &Path, out: Stdio, errors: Stdio) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .expect("the program starts");
        Daemon(child)
    }

    /// As `kill -9`.
    pub fn kill(mut self) {
        self.0.kill().expect("it still runs");
        self.0.wait().expect("it ends");
    }

    /// As `kill`, which it obeys.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it still runs");
        self.0.wait().expect("it ends")
    }

    /// A number that Linux tells of the process, such as `VmRSS` (KiB) or `Threads`.
    pub fn number(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.expect("it runs");
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let word = value.and_then(|value| value.split_whitespace().next());
        word.and_then(|word| word.parse().ok())
            .expect("Linux says so")
    }

    /// Bytes that it has in memory.
    pub fn resident(&self) -> u64 {
        self.number("VmRSS") << 10
    }

    /// Seconds that it has kept a CPU busy; Linux counts in hundredths.
    pub fn busy(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        let stat = stat.expect("it runs");
        // Behind the name, which may hold anything.
        let (_, rest) = stat.rsplit_once(')').expect("Linux says so");
        let times = rest.split_whitespace().skip(11).take(2);
        let hundredths: f64 = times.filter_map(|time| time.parse::<f64>().ok()).sum();
        hundredths / 100.0
    }

    pub fn descriptors(&self) -> u64 {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.0.id()));
        folder.expect("it runs").count() as u64
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone where a test ended it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
