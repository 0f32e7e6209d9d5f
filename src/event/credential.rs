//! What looks like a credential: names that promise one, values that are one.
//!
//! For facts of pods and config maps, and to keep such values out of what is shown. It errs on the
//! side of silence: a reference, a path or a switch is no credential, however it is called.

use std::sync::LazyLock;

use regex::Regex;

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)(^|[^a-z])(passw(or)?d|passphrase|passwd|pwd|secret|token|api[-_.]?key|access[-_.]?key|account[-_.]?key|private[-_.]?key|secret[-_.]?key|shared[-_.]?key|storage[-_.]?key|signing[-_.]?key|encryption[-_.]?key|conn(ection)?[-_.]?str(ing)?|credentials?|sas)([^a-z]|$)",
    )
});

/// Ends of names that tell about a credential without holding it.
static ABOUT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)[-_.](file|path|dir|name|ref|id|url|uri|endpoint|host|port|ttl|expiry|expiration|lifetime|timeout|enabled|length|type|issuer|audience|provider|mount|namespace|version|algorithm)$",
    )
});

/// Values that are credentials, whatever they are called.
static VALUE: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
        r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b",
        r"|\bgh[pousr]_[A-Za-z0-9]{36,}",
        r"|\bgithub_pat_[A-Za-z0-9_]{40,}",
        r"|\bglpat-[A-Za-z0-9_-]{20,}",
        r"|\bxox[abprs]-[A-Za-z0-9-]{10,}",
        r"|\bsk_live_[A-Za-z0-9]{16,}",
        r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
        r"|(?i:(AccountKey|SharedAccessKey)=[A-Za-z0-9+/=]{20,})",
        r"|(?i:[?&]sig=[A-Za-z0-9%+/=]{20,})",
        r"|(?i:(^|[;\s])(password|pwd)=[^;\s$]{3,})",
        r"|[a-z][a-z0-9+.-]*://[^/\s:@$]+:[^/\s@$]{3,}@",
    ))
});

/// An assignment or option whose name promises a credential, in a command or in a file's text.
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?im)(?:^|[\s,;{&"'-])(?P<name>[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api[-_.]?key|access[-_.]?key|account[-_.]?key|private[-_.]?key|connection[-_.]?string)[a-z0-9_.-]*)["']?\s*(?:[=:]|\s)\s*["']?(?P<value>[^\s"',;]+)"#,
    )
});

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that a test compiles")
}

/// Whether a variable or key of this name and value holds a credential in plain text.
pub(super) fn is_credential(name: &str, value: &str) -> bool {
    VALUE.is_match(value) || (promises(name) && is_literal(value))
}

/// Whether a text holds a credential: a value that is one, or an assignment to a promising name.
pub(super) fn holds_credential(text: &str) -> bool {
    VALUE.is_match(text)
        || ASSIGNMENT.captures_iter(text).any(|found| {
            promises(found.name("name").map_or("", |name| name.as_str()))
                && is_literal(found.name("value").map_or("", |value| value.as_str()))
        })
}

/// Whether a name alone promises a credential.
pub(super) fn promises(name: &str) -> bool {
    // camelCase is split, so that `dbPassword` has a word of its own.
    let mut split = String::with_capacity(name.len() + 4);
    let mut lower = false;
    for c in name.chars().take(200) {
        if lower && c.is_ascii_uppercase() {
            split.push('_');
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        split.push(c);
    }
    NAME.is_match(&split) && !ABOUT.is_match(&split)
}

/// A value that could be a credential: no reference, path, switch or number of a few digits.
fn is_literal(value: &str) -> bool {
    let value = value.trim();
    let refers = value.starts_with(['/', '$', '{', '<', '-'])
        || value.ends_with(['/', '('])
        || value.contains("$(")
        || value.starts_with("vault:")
        || value.starts_with("@Microsoft.KeyVault");
    let number = value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit());
    let hidden = value.bytes().all(|b| b == b'*');
    let word = [
        "true", "false", "none", "null", "yes", "disabled", "enabled", "redacted", "xxx",
        "changeit",
    ]
    .iter()
    .any(|word| value.eq_ignore_ascii_case(word));
    value.len() >= 3 && !refers && !number && !hidden && !word
}

/// `text` with what looks like a credential replaced.
pub(super) fn redacted(text: &str) -> String {
    let text = VALUE.replace_all(text, "[redacted]");
    ASSIGNMENT
        .replace_all(&text, |found: &regex::Captures<'_>| {
            let whole = &found[0];
            let value = &found["value"];
            format!("{}[redacted]", &whole[..whole.len() - value.len()])
        })
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_from_what_is_about_them() {
        for (name, value) in [
            ("DB_PASSWORD", "hunter2"),
            ("dbPassword", "correct horse"),
            ("API-KEY", "0a1b2c3d4e"),
            ("CONFIG", "Server=db;User=sa;Password=Winter-2024;"),
            ("DATABASE_URL", "postgres://app:s3cr3t@db:5432/app"),
            ("aws_access_key_id", "AKIAABCDEFGHIJKLMNOP"),
            (
                "BLOB",
                "DefaultEndpointsProtocol=https;AccountKey=QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=",
            ),
        ] {
            assert!(is_credential(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("PASSWORD_FILE", "/run/secrets/db"),
            ("DB_PASSWORD", ""),
            ("DB_PASSWORD", "$(OTHER)"),
            ("TOKEN_ENABLED", "true"),
            ("SECRET_NAME", "db-credentials"),
            ("TOKENIZER", "wordpiece"),
            ("LOG_LEVEL", "debug"),
            ("TOKEN_TTL", "3600s"),
        ] {
            assert!(!is_credential(name, value), "{name}={value}");
        }
    }

    #[test]
    fn commands_are_searched_and_redacted() {
        assert!(holds_credential("mysql --password=Winter2024 -h db"));
        assert!(holds_credential("apiVersion: v1\npassword: Winter2024\n"));
        assert!(!holds_credential(
            "server --token-file=/var/run/token --log=info"
        ));
        assert!(!holds_credential(
            "server --tls-private-key-file /certs/tls.key"
        ));
        let shown = redacted("mysql --password=Winter2024 -h db");
        assert!(
            !shown.contains("Winter2024") && shown.contains("-h db"),
            "{shown}"
        );
    }
}
