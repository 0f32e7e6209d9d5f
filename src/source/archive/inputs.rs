//! From what a command line names to the list of files to read, in order.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ArchiveError, ArchiveOptions, Reader};
use crate::source::Partition;

/// One stream of bytes to read.
#[derive(Debug, Clone)]
pub struct Input {
    pub partition: Arc<Partition>,
    pub(super) from: From,
}

#[derive(Debug, Clone)]
pub(super) enum From {
    Stdin,
    File(PathBuf),
    /// A folder that could not be listed; said when it is opened, as for a file.
    Unlisted(io::ErrorKind),
}

impl Input {
    fn new(id: &str, from: From) -> Input {
        Input {
            partition: Arc::new(Partition {
                source: "archive".into(),
                id: id.into(),
            }),
            from,
        }
    }

    fn file(path: PathBuf) -> Input {
        let id = path.to_string_lossy().into_owned();
        Input::new(&id, From::File(path))
    }

    /// Whether this is standard input, which can be read once only.
    pub fn is_stdin(&self) -> bool {
        matches!(self.from, From::Stdin)
    }

    /// Bytes of the file as it lies on disk; `None` of standard input.
    pub fn size(&self) -> Option<u64> {
        match &self.from {
            From::Stdin => None,
            From::File(path) => fs::metadata(path).ok().map(|metadata| metadata.len()),
            From::Unlisted(_) => Some(0),
        }
    }

    /// Opens the input and looks at its beginning. An error is this input's alone.
    pub fn open(&self, options: &ArchiveOptions) -> Result<Reader, ArchiveError> {
        Reader::open(self, options)
    }
}

/// The inputs that `paths` name: files, folders (recursively), globs, and `-` for standard input.
///
/// Arguments keep their order; within a folder or glob names are ordered with their numbers
/// compared as numbers, so that `h=9` stands before `h=10` and the hours of a storage account
/// follow one another. A file that is named twice is read once. In folders, hidden files and links
/// to folders are left out.
pub fn inputs(paths: &[String]) -> Result<Vec<Input>, ArchiveError> {
    let mut inputs = Vec::new();
    for path in paths {
        let literal = Path::new(path);
        if path == "-" {
            inputs.push(Input::new("-", From::Stdin));
        } else if literal.exists() {
            expand(literal, &mut inputs);
        } else if path.contains(['*', '?', '[']) {
            expand_glob(path, &mut inputs)?;
        } else {
            return Err(ArchiveError::NoMatch(path.clone()));
        }
    }
    let mut seen = HashSet::new();
    inputs.retain(|input| seen.insert(Arc::clone(&input.partition.id)));
    Ok(inputs)
}

fn expand(path: &Path, inputs: &mut Vec<Input>) {
    if path.is_dir() {
        expand_folder(path, inputs);
    } else {
        inputs.push(Input::file(path.to_owned()));
    }
}

fn expand_glob(pattern: &str, inputs: &mut Vec<Input>) -> Result<(), ArchiveError> {
    let matches = glob::glob(pattern).map_err(|error| ArchiveError::BadGlob {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    })?;
    let mut found = Vec::new();
    let mut unlisted = Vec::new();
    for entry in matches {
        match entry {
            Ok(path) => found.push(path),
            Err(error) => unlisted.push(Input::new(
                &error.path().to_string_lossy(),
                From::Unlisted(error.error().kind()),
            )),
        }
    }
    if found.is_empty() && unlisted.is_empty() {
        return Err(ArchiveError::NoMatch(pattern.to_owned()));
    }
    found.sort_by(|a, b| natural_paths(a, b));
    for path in &found {
        expand(path, inputs);
    }
    inputs.append(&mut unlisted);
    Ok(())
}

fn expand_folder(folder: &Path, inputs: &mut Vec<Input>) {
    // A stack of its own, not recursion: a tree may be deeper than ours.
    let mut stack = vec![folder.to_owned()];
    while let Some(path) = stack.pop() {
        let is_link = fs::symlink_metadata(&path).is_ok_and(|data| data.is_symlink());
        match fs::metadata(&path) {
            Ok(data) if data.is_dir() && (!is_link || path == folder) => {
                match list(&path) {
                    // Popped in order, the first on top.
                    Ok(children) => stack.extend(children.into_iter().rev()),
                    Err(error) => inputs.push(Input::new(
                        &path.to_string_lossy(),
                        From::Unlisted(error.kind()),
                    )),
                }
            }
            Ok(data) if data.is_file() => inputs.push(Input::file(path)),
            // A socket, a device, a link to a folder.
            Ok(_) => {}
            // It vanished meanwhile, or the link leads nowhere: opening it will say so.
            Err(_) => inputs.push(Input::file(path)),
        }
    }
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            children.push(entry.path());
        }
    }
    children.sort_by(|a, b| natural_paths(a, b));
    Ok(children)
}

fn natural_paths(a: &Path, b: &Path) -> Ordering {
    let mut left = a.components();
    let mut right = b.components();
    loop {
        let (a, b) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a.as_os_str(), b.as_os_str()),
        };
        let order = natural(&a.to_string_lossy(), &b.to_string_lossy()).then_with(|| a.cmp(b));
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Compares texts with runs of digits taken as numbers.
fn natural(mut a: &str, mut b: &str) -> Ordering {
    let run = |text: &str, digits: bool| {
        text.find(|c: char| c.is_ascii_digit() != digits)
            .unwrap_or(text.len())
    };
    while !a.is_empty() && !b.is_empty() {
        let (left, rest) = a.split_at(run(a, false));
        let (right, other) = b.split_at(run(b, false));
        let order = left.cmp(right);
        if order != Ordering::Equal {
            return order;
        }
        let (left, rest) = rest.split_at(run(rest, true));
        let (right, other) = other.split_at(run(other, true));
        let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
        let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest, other);
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_numbers_as_numbers() {
        let mut names = [
            "h=10",
            "h=9",
            "h=09b",
            "a",
            "h=1",
            "h",
            "PT1H.json.2",
            "PT1H.json.10",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "PT1H.json.2",
                "PT1H.json.10",
                "a",
                "h",
                "h=1",
                "h=9",
                "h=09b",
                "h=10"
            ]
        );
    }
}
