//! Secrets in the configuration: shown nowhere, and read from a file or the environment.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Value;

use super::diagnose::Diagnostic;
use super::place::{Part, Path, Places};

/// A secret; its text shows in no log, error or dump.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What became of one pair `x` and `x-file`.
#[derive(Default)]
pub(super) struct Resolved {
    /// The file that the secret was read from.
    pub file: Option<PathBuf>,
    /// The file could not be read, and the key holds nothing.
    pub unread: bool,
    pub diagnostics: Vec<Diagnostic>,
}

/// No secret is longer; a wrong path must not read a log or a device into memory.
const LONGEST: u64 = 64 * 1024;

/// Puts the content of the file that `key`-file names into `key` of `table`, without the line break
/// at its end, and takes `key`-file out. `path` is that of the table.
pub(super) fn resolve(table: &mut Value, path: &Path, key: &str, places: &Places) -> Resolved {
    let mut resolved = Resolved::default();
    let Value::Table(table) = table else {
        return resolved;
    };
    let file_key = format!("{key}-file");
    let (inline, from_file) = (path.key(key), path.key(&file_key));
    if table.contains_key(key) && table.contains_key(&file_key) {
        let message = format!("`{key}` and `{file_key}` are both set");
        let help = Some(format!("keep `{file_key}`"));
        resolved
            .diagnostics
            .push(places.error(&inline, Part::Key, message, help).hide_rest());
        table.remove(&file_key);
        return resolved;
    }
    // An address is a secret for some receivers and none for most; a template is none.
    let open = matches!(key, "url" | "body");
    if table.contains_key(key) && !open && places.variable(&inline).is_none() {
        let message = format!("the secret `{key}` stands in the file");
        let help = Some(format!("use `{file_key}`, or an environment variable"));
        let warning = places.error(&inline, Part::Key, message, help);
        resolved.diagnostics.push(warning.hide_rest().warning());
    }
    let Some(Value::String(file)) = table.get(&file_key) else {
        return resolved;
    };
    let file = PathBuf::from(file);
    let secret = match read(&file) {
        Ok(secret) => secret,
        Err(why) => {
            let what = if key == "body" {
                "the template"
            } else {
                "the secret"
            };
            let message = format!("{what}'s file {}: {why}", file.display());
            resolved
                .diagnostics
                .push(places.error(&from_file, Part::Value, message, None));
            resolved.unread = true;
            // Keeps a key that the section requires from being reported as missing too.
            String::new()
        }
    };
    table.remove(&file_key);
    table.insert(key.to_owned(), Value::String(secret));
    resolved.file = Some(file);
    resolved
}

fn read(file: &std::path::Path) -> Result<String, String> {
    use std::io::{ErrorKind, Read};
    let why = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => {
            "permission denied; make it readable for the user that lanner runs as".to_owned()
        }
        ErrorKind::NotFound => "does not exist".to_owned(),
        _ => error.to_string(),
    };
    let mut text = String::new();
    std::fs::File::open(file)
        .map_err(why)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidData => "is not UTF-8".to_owned(),
            _ => why(error),
        })?;
    if text.len() as u64 > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text)
}
