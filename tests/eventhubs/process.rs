//! The daemon as a process, with what it prints and what it says of itself over HTTP.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::reading::PATIENCE;
use crate::record;
use crate::web::{free_port, get};

pub struct Daemon {
    child: Child,
    base: String,
    /// Alerts, as lines on standard output.
    pub alerts: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// With `[eventhubs.main]` as given, alerts on standard output, and these variables.
    pub fn start(folder: &Path, hub: &str, environment: &[(&str, &Path)]) -> Daemon {
        let port = free_port();
        let config = folder.join("lanner.toml");
        let text = format!(
            "[eventhubs.main]\n{hub}\n\
             [store]\npath = \"{}/store\"\n\
             [stdout]\nenabled = true\n\
             [telemetry]\nlisten = \"127.0.0.1:{port}\"\n\
             [[route]]\ndetectors = [\"pod-exec\"]\nreceivers = [\"stdout\"]\n",
            folder.display(),
        );
        std::fs::write(&config, text).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["run", "--config"])
            .arg(&config)
            .env_remove("SSL_CERT_FILE")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let alerts = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("it is piped");
        let lines = Arc::clone(&alerts);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().expect("no panic").push(line);
            }
        });
        Daemon {
            child,
            base: format!("http://127.0.0.1:{port}"),
            alerts,
        }
    }

    /// Status and body; status 0 while nobody answers.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(&format!("{}{path}", self.base)).await
    }

    /// Waits for an answer of `/readyz`.
    pub async fn until_ready(&self, done: impl Fn(u16, &str) -> bool) {
        let started = Instant::now();
        loop {
            let (status, body) = self.get("/readyz").await;
            if done(status, &body) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for an alert about each of these pods, and checks that there is but one.
    pub async fn until_alerts(&self, pods: &[&str]) {
        let started = Instant::now();
        loop {
            let alerts = self.alerts.lock().expect("no panic").clone();
            let of = |pod: &str| {
                let name = format!("\"name\":\"{pod}\"");
                alerts.iter().filter(|line| line.contains(&name)).count()
            };
            if pods.iter().all(|pod| of(pod) > 0) {
                assert!(pods.iter().all(|pod| of(pod) == 1), "{alerts:#?}");
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{pods:?}: {alerts:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already dead where it failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command in `pod` at `time`.
pub fn exec(pod: &str, time: jiff::Timestamp) -> Bytes {
    record::exec(pod, time.as_microsecond(), time)
}
