//! Snapshot files: a second copy of the state, for when the database is damaged.
//!
//! `snapshot-N.bin` is a line that names the format, a [`Contents`] in postcard's encoding, and the
//! SHA-256 of both. The two with the highest numbers are kept.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::StoreError;
use super::outbox::Undelivered;
use super::sqlite::private;
use crate::failpoint::fail_point;

const FORMAT: &[u8] = b"lanner-snapshot/1\n";
const CHECKSUM: usize = 32;
const KEPT: usize = 2;

/// Everything that a start needs if the database is gone.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Contents {
    /// Milliseconds since 1970.
    pub created: i64,
    /// Source, id, position.
    pub positions: Vec<(String, String, i64)>,
    #[serde(serialize_with = "as_bytes")]
    pub state: Vec<u8>,
    /// What was not delivered yet: reading on from `positions` would not make it again.
    pub outbox: Vec<Undelivered>,
}

/// At once rather than byte by byte; in postcard both are the same.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Writes the next snapshot file; a crash at any point leaves the older ones as they were.
pub(super) fn write(folder: &Path, contents: &Contents) -> Result<(), StoreError> {
    let mut files = list(folder)?;
    let number = files.last().map_or(1, |(number, _)| number + 1);
    let path = folder.join(format!("snapshot-{number:012}.bin"));
    let temporary = folder.join("snapshot.tmp");

    let mut bytes = FORMAT.to_vec();
    bytes = postcard::to_extend(contents, bytes).map_err(|error| StoreError::Io {
        action: "encode",
        path: path.clone(),
        source: io::Error::other(error),
    })?;
    bytes.extend_from_slice(&Sha256::digest(&bytes));

    if let Err(error) = write_durably(&temporary, &bytes) {
        // On a full disk, half a snapshot would keep the room that commits wait for.
        let _ = fs::remove_file(&temporary);
        return Err(StoreError::io("write", &temporary)(error));
    }
    fail_point!("snapshot.unnamed");
    fs::rename(&temporary, &path).map_err(StoreError::io("name", &path))?;
    sync_folder(folder)?;
    fail_point!("snapshot.named");

    files.push((number, path));
    for (_, old) in files.iter().rev().skip(KEPT) {
        fs::remove_file(old).map_err(StoreError::io("remove", old))?;
    }
    Ok(())
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = private();
    let mut file = options.write(true).create(true).truncate(true).open(path)?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    fail_point!("snapshot.half", io::ErrorKind::StorageFull.into());
    file.write_all(second)?;
    file.sync_all()
}

/// The newest snapshot file that is whole; those that are not are said and passed over.
pub(super) fn newest(folder: &Path) -> Result<Option<(PathBuf, Contents)>, StoreError> {
    for (_, path) in list(folder)?.into_iter().rev() {
        let read = fs::read(&path).map_err(|error| error.to_string());
        match read.and_then(|bytes| Ok(decode(&bytes)?)) {
            Ok(contents) => return Ok(Some((path, contents))),
            Err(reason) => tracing::error!(
                file = %path.display(), reason, "a snapshot cannot be used; trying an older one"
            ),
        }
    }
    Ok(None)
}

fn decode(bytes: &[u8]) -> Result<Contents, &'static str> {
    let body = bytes
        .strip_prefix(FORMAT)
        .ok_or("it is not of a format that this version knows")?;
    let split = body.len().checked_sub(CHECKSUM).ok_or("it is cut off")?;
    let (body, checksum) = body.split_at(split);
    if Sha256::digest(&bytes[..bytes.len() - CHECKSUM]).as_slice() != checksum {
        return Err("its checksum does not fit");
    }
    postcard::from_bytes(body).map_err(|_| "it cannot be decoded")
}

/// All snapshot files with their numbers, in order.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("snapshot-")?.strip_suffix(".bin"))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            files.push((number, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Makes a rename durable.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("sync", folder))?;
    Ok(())
}
