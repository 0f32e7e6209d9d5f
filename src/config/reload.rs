//! Notices that the configuration changed, and loads it anew: all or nothing.
//!
//! Contents are compared, not times: Kubernetes swaps a mounted ConfigMap by a symbolic link, and a
//! rotated secret keeps the configuration's own file as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Interval, MissedTickBehavior};

use super::{Diagnostic, Loaded, load};

/// How often files are read; they are small.
const EVERY: Duration = Duration::from_secs(5);

/// How long contents must stay the same before they are loaded.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches one configuration, the secrets' files it names and its folder of detectors.
pub struct Watcher {
    path: PathBuf,
    /// Each watched file or folder with the digest of its content.
    seen: BTreeMap<PathBuf, Content>,
    ticks: Interval,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Watcher {
    /// Must be called within a runtime. From now on SIGHUP no longer ends the process.
    pub fn new(path: &Path, loaded: &Loaded) -> std::io::Result<Watcher> {
        Watcher::every(EVERY, path, loaded)
    }

    /// As [`Watcher::new`], with another time between looks.
    pub fn every(time: Duration, path: &Path, loaded: &Loaded) -> std::io::Result<Watcher> {
        let mut ticks = tokio::time::interval(time);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Watcher {
            path: path.to_owned(),
            seen: digests(&watched(path, loaded)),
            ticks,
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    /// Waits for a change of a file, or SIGHUP, and gives the new configuration or every error in
    /// it; after an error the old configuration stays in use. Cancelling it loses no change of a
    /// file, but may lose a SIGHUP.
    pub async fn changed(&mut self) -> Result<Box<Loaded>, Vec<Diagnostic>> {
        loop {
            let asked = self.tick().await;
            let paths: Vec<PathBuf> = self.seen.keys().cloned().collect();
            let mut before = digests(&paths);
            if before == self.seen && !asked {
                continue;
            }
            // A file that is being written is not loaded in halves: half a configuration may be a
            // valid one.
            loop {
                tokio::time::sleep(SETTLE).await;
                let again = digests(&paths);
                if again == before {
                    break;
                }
                before = again;
            }
            let loaded = load(Some(&self.path));
            self.seen = match &loaded {
                // As the files were before loading: what changed meanwhile is found next time.
                Ok(loaded) => {
                    let mut seen = digests(&watched(&self.path, loaded));
                    for (path, digest) in &mut seen {
                        *digest = before.get(path).copied().unwrap_or(*digest);
                    }
                    seen
                }
                Err(_) => before,
            };
            return loaded.map(Box::new);
        }
    }

    /// Whether it was a signal that ended the wait.
    #[cfg(unix)]
    async fn tick(&mut self) -> bool {
        tokio::select! {
            _ = self.ticks.tick() => false,
            signal = self.hangup.recv() => signal.is_some(),
        }
    }

    #[cfg(not(unix))]
    async fn tick(&mut self) -> bool {
        self.ticks.tick().await;
        false
    }
}

fn watched(path: &Path, loaded: &Loaded) -> Vec<PathBuf> {
    let mut paths = vec![path.to_owned()];
    paths.extend(loaded.files.iter().cloned());
    paths.extend(loaded.config.detectors_dir.clone());
    paths
}

type Content = [u8; 32];

fn digests(paths: &[PathBuf]) -> BTreeMap<PathBuf, Content> {
    let with_digest = |path: &PathBuf| (path.clone(), digest(path));
    paths.iter().map(with_digest).collect()
}

/// Of a file's content, or of the `*.toml` directly in a folder. What cannot be read counts as
/// another content, so that its coming back is a change.
fn digest(path: &Path) -> Content {
    let mut files = vec![path.to_owned()];
    if let Ok(entries) = std::fs::read_dir(path) {
        files = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|file| {
                file.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .collect();
        files.sort();
    }
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.as_os_str().as_encoded_bytes());
        match std::fs::read(&file) {
            Ok(content) => {
                hash.update((content.len() as u64).to_le_bytes());
                hash.update(content);
            }
            Err(_) => hash.update([0xff; 8]),
        }
    }
    hash.finalize().into()
}
