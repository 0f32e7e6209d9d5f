//! What looks like a credential becomes `[redacted]` before it leaves the process.
//!
//! Texts come from commands, environments, annotations and damaged records; what is made of them
//! goes into alerts, quarantine, pages and logs. What is redacted wrongly costs a reader a word;
//! what is missed is out. Variables, file names and the like stay readable where a rule can tell
//! them: a command that reads a token from a file is evidence, and holds no token.

use std::borrow::Cow;
use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use regex::{Captures, Regex, RegexSet};

const REDACTED: &str = "[redacted]";

/// Names of settings whose value is a secret, as the end of a longer name.
const NAME: &str = r"(?:password|passwd|passwort|passphrase|secret|token|credentials?|connection[-_]?string|sas|jwt|(?:api|access|account|shared|private|signing|encryption|master|secret|auth|storage|subscription|function)[-_]?key)";

/// A value: quoted (also with its quotes escaped, as in JSON within JSON, also cut off), or up to a
/// separator.
const VALUE: &str = r#"(?:\$\(|\$\{[^}]*\}|<[^>]*>|\\+"[^"\\]*(?:\\+"|\\*\z)|"(?:[^"\\]|\\.)*(?:"|\\?\z)|'[^']*(?:'|\z)|[^\s"'\\&,;|(){}\[\]<>]+)"#;

/// From one argument to the next: in a shell, in a list, in a request's URI.
const NEXT: &str = r#"(?:\s+|["']\s*,\s*["']|["']\s+["']|&command=|%20|\+)"#;

/// What to replace: all of a match, or its group `secret` where that holds no variable or path.
struct Rule {
    pattern: Regex,
    whole: bool,
}

/// A rule's pattern, and what stands in every text that it matches, which is looked for first: without
/// what it says of lengths, its automaton is a tenth as large.
struct Pattern {
    sign: String,
    pattern: String,
    whole: bool,
}

/// Every rule's pattern; `whole` rules know a credential by its own form. Word boundaries are those
/// of ASCII: with Unicode's, one `→` in a text sends all rules to an engine a hundred times slower.
fn patterns() -> Vec<Pattern> {
    // What stands before its sign, the sign, and what stands behind.
    let whole = [
        // PEM, also with escaped line breaks, also cut off.
        (
            "(?s)",
            "-----BEGIN ",
            r"[A-Z0-9 ]*KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*-----|\z)",
        ),
        ("", "AGE-SECRET-KEY-1", "[0-9A-Z]{20,}"),
        // JSON web tokens, signed or encrypted.
        ("", r"\beyJ", r"[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}"),
        // AWS key ids; GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, Vault, Docker, SendGrid.
        ("", r"\b(?:AKIA|ASIA|ABIA|ACCA)", r"[A-Z0-9]{16}\b"),
        ("", r"\bgh[pousr]_", "[A-Za-z0-9]{30,}"),
        ("", r"\bgithub_pat_", "[A-Za-z0-9_]{30,}"),
        ("", r"\bglpat-", "[A-Za-z0-9_-]{20,}"),
        ("", r"\bxox[abeoprs]-", "[A-Za-z0-9-]{10,}"),
        ("", r"hooks\.slack\.com/", "[a-z]+/[A-Za-z0-9/_-]{20,}"),
        ("", r"\b[sr]k_(?:live|test)_", "[A-Za-z0-9]{16,}"),
        ("", r"\bsk-", "[A-Za-z0-9_-]{24,}"),
        ("", r"\bAIza", "[0-9A-Za-z_-]{35}"),
        ("", r"\bya29\.", "[0-9A-Za-z_-]{20,}"),
        ("", r"\bnpm_", "[A-Za-z0-9]{36}"),
        ("", r"\bpypi-AgEI", "[A-Za-z0-9_-]{40,}"),
        ("", r"\bhv[sbr]\.", "[A-Za-z0-9_-]{20,}"),
        ("", r"\bdckr_pat_", "[A-Za-z0-9_-]{20,}"),
        ("", r"\bSG\.", r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
        ("", r"\bwhsec_", "[A-Za-z0-9+/=]{24,}"),
        // Azure: an application's secret, a DevOps token, a storage account's key.
        (r"\b[A-Za-z0-9_~.]{3}", "[78]Q~", "[A-Za-z0-9_~.-]{31,34}"),
        (r"\b[A-Za-z0-9]{52,80}", "AZDO", r"[A-Za-z0-9]{4}\b"),
        ("[A-Za-z0-9+/]{86}", "==", ""),
        // One of these whose end was cut off with the record.
        (
            "",
            r"(?:AKIA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|hooks\.slack\.com/|[sr]k_(?:live|test)_|AIza|ya29\.|npm_|pypi-|\bhv[sbr]\.|dckr_pat_|whsec_|eyJ|[A-Za-z0-9_~.]{3}[78]Q~|\$(?:1|2[aby]|5|6|7|y)\$|(?i:bearer)(?:\s+|%20|\+)|\b(?i:sig)=)",
            r#"[^\s"']{1,200}\z"#,
        ),
        // Password hashes as in /etc/shadow.
        (
            "",
            r"\$(?:1|2[aby]|5|6|7|y|argon2id?)\$",
            "[A-Za-z0-9./$=,+-]{20,}",
        ),
    ];
    let named = [
        // NAME=VALUE, NAME: VALUE, "NAME":"VALUE", also percent-encoded.
        format!(
            r#"(?i)(?P<key>[A-Za-z0-9_.-]*{NAME})(?P<sep>\\*["']?\s*(?:=|:|%3D|%3A)\s*)(?P<secret>{VALUE})"#
        ),
        format!(r"(?i)\b(?:[A-Za-z0-9.-]*[_.-])?pass(?:%3D|[=:]\s*)(?P<secret>{VALUE})"),
        format!(r"(?i)(?:[A-Za-z0-9][_-]|;\s*)pwd\s*(?:%3D|[=:])\s*(?P<secret>{VALUE})"),
        // --NAME VALUE.
        format!(
            r#"(?i)(?:^|[\s"'=&+(\[,]|%20)--?[a-z0-9-]*(?:{NAME}|\bpass|\bpwd){NEXT}(?P<secret>{VALUE})"#
        ),
        // Short options of programs that take a password.
        format!(
            r"\b(?:mysql|mysqldump|mysqladmin|mariadb|mariadb-dump)\b[^|;\n]*?(?:\s|=|['\x22])-p(?P<secret>{VALUE})"
        ),
        format!(
            r"\b(?:sshpass|docker|podman|helm|az|az\.cmd|oc|mongo|mongosh|mongodump|sqlcmd|clickhouse-client)\b[^|;\n]*?\s-[pP]{NEXT}(?P<secret>{VALUE})"
        ),
        format!(r"\bsshpass\b[^|;\n]*?\s-p(?P<secret>{VALUE})"),
        format!(r"\bredis-cli\b[^|;\n]*?\s-a{NEXT}(?P<secret>{VALUE})"),
        format!(r"\bldap[a-z]+\b[^|;\n]*?\s-w{NEXT}(?P<secret>{VALUE})"),
        format!(
            r"\b(?:curl|wget)\b[^|;\n]*?(?:\s|&command=)(?:-u|--user|--proxy-user){NEXT}?['\x22]?[^\s:'\x22]+:(?P<secret>{VALUE})"
        ),
        format!(r"\bsmbclient\b[^|;\n]*?\s-U{NEXT}?[^\s%]+%(?P<secret>{VALUE})"),
        format!(r"(?i)\bpass(?:in|out)?{NEXT}pass:(?P<secret>{VALUE})"),
        format!(
            r"--from-literal(?:=|%3D|\s+|&command=)['\x22]?[A-Za-z0-9_.-]+(?:=|%3D)(?P<secret>{VALUE})"
        ),
        // What is piped into a program that sets a password.
        r"\b(?:echo|printf)\b\s+(?P<secret>[^|\n]+)\|\s*(?:sudo\s+)?(?:chpasswd|passwd)\b"
            .to_owned(),
        // Credentials in a URL.
        r#"\b[A-Za-z][A-Za-z0-9+.-]*://(?P<secret>[^\s/"'@]*:[^\s/"']+)@"#.to_owned(),
        r#"\b[A-Za-z][A-Za-z0-9+.-]*://(?P<secret>[^\s/:"'@]{16,})@"#.to_owned(),
        r#"\b[A-Za-z][A-Za-z0-9+.-]*://(?P<secret>[^\s/"'@:]*:[^\s/"'@0-9][^\s/"'@]*)\z"#
            .to_owned(),
        r"(?i)\b(?:sig|code)(?:=|%3D)(?P<secret>[A-Za-z0-9%+/=_-]{16,})".to_owned(),
        // Headers.
        format!(
            r"(?i)\bauthorization\\*['\x22]?\s*(?:[:=]|%3A)\s*\\*['\x22]?(?:(?:bearer|basic|digest|negotiate|token|apikey|sharedkey|aws4-hmac-sha256)(?:\s+|%20|\+))?(?P<secret>{VALUE})"
        ),
        r"(?i)\bbearer(?:\s+|%20|\+)(?P<secret>[A-Za-z0-9._~+/-]{16,}=*)".to_owned(),
        r"(?i)\bcookie:\s*(?P<secret>[^'\x22\n]+)".to_owned(),
        // An environment variable as Kubernetes has it.
        format!(
            r#"(?i)"name\\*"\s*:\s*\\*"[A-Za-z0-9_.-]*(?:{NAME}|pass|pwd)\\*"\s*,\s*\\*"value\\*"\s*:\s*(?P<secret>{VALUE})"#
        ),
    ];
    let ascii = |pattern: &str| pattern.replace(r"\b", r"(?-u:\b)");
    let whole = whole.iter().map(|(before, sign, behind)| Pattern {
        sign: ascii(sign),
        pattern: ascii(&format!("{before}{sign}{behind}")),
        whole: true,
    });
    let named = named.iter().map(|pattern| Pattern {
        sign: ascii(before_secret(pattern)),
        pattern: ascii(pattern),
        whole: false,
    });
    whole.chain(named).collect()
}

/// What stands before the secret.
fn before_secret(pattern: &str) -> &str {
    pattern
        .split_once("(?P<secret>")
        .map_or(pattern, |(before, _)| before)
}

/// That a text is about a Secret, whatever the order of its keys and wherever it is cut off.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let pattern =
        r#"(?-u:\b)kind\\*"\s*:\s*\\*"Secret(?:List)?\\*"|"resource\\*"\s*:\s*\\*"secrets\\*""#;
    Regex::new(pattern).expect("the pattern is constant and compiled in tests")
});

/// What such a text holds.
static DATA: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?s)"(?:data|stringData)\\*"\s*:\s*\{(?P<secret>.*?)(?:\}\s*[,}]|\}?\z)"#;
    Regex::new(pattern).expect("the pattern is constant and compiled in tests")
});

/// The rules, and all of their signs at once: most texts have none.
static RULES: LazyLock<(RegexSet, Vec<Rule>)> = LazyLock::new(|| {
    let patterns = patterns();
    let signs = RegexSet::new(patterns.iter().map(|rule| &rule.sign))
        .expect("the signs are constant and compiled in tests");
    let rules = patterns
        .iter()
        .map(|Pattern { pattern, whole, .. }| Rule {
            pattern: Regex::new(pattern).expect("the patterns are constant and compiled in tests"),
            whole: *whole,
        })
        .collect();
    (signs, rules)
});

/// Percent-encodings that are undone, one in the other.
const ENCODINGS: usize = 3;

/// `text` with everything that looks like a credential replaced by `[redacted]`. Where one shows only
/// once percent-encoding is undone, as in a request's URI, all of the text is given without it.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut shown = redact_as_written(text);
    for _ in 0..ENCODINGS {
        if !shown.contains('%') {
            break;
        }
        let spaced = shown.replace('+', " ");
        let plain = percent_decode_str(&spaced).decode_utf8_lossy();
        let redacted = redact_as_written(&plain);
        if redacted == plain {
            break;
        }
        shown = Cow::Owned(redacted.into_owned());
    }
    shown
}

fn redact_as_written(text: &str) -> Cow<'_, str> {
    if SECRET.is_match(text)
        && let Cow::Owned(without) = DATA.replace_all(text, replace_named)
    {
        return Cow::Owned(redact_by_rules(&without).into_owned());
    }
    redact_by_rules(text)
}

fn redact_by_rules(text: &str) -> Cow<'_, str> {
    let (signs, rules) = &*RULES;
    // Most texts have none, which is found out faster than which they have.
    if !signs.is_match(text) {
        return Cow::Borrowed(text);
    }
    let mut text = Cow::Borrowed(text);
    for index in signs.matches(&text) {
        let rule = &rules[index];
        let replaced = if rule.whole {
            rule.pattern.replace_all(&text, REDACTED)
        } else {
            rule.pattern.replace_all(&text, replace_named)
        };
        if let Cow::Owned(replaced) = replaced {
            text = Cow::Owned(replaced);
        }
    }
    text
}

fn replace_named(captures: &Captures<'_>) -> String {
    let all = captures.get(0).expect("group 0 is the match");
    let secret = captures.name("secret").expect("every named rule has it");
    let value = secret.as_str();
    let inner = value.trim_matches(['\\', '"', '\'']);
    let key = captures.name("key").map_or("", |key| key.as_str());
    let separator = captures
        .name("sep")
        .map_or("", |separator| separator.as_str());
    if is_harmless(inner) || (is_prose(key, separator) && !is_random(inner)) {
        return all.as_str().to_owned();
    }
    let lead = &value[..value.len() - value.trim_start_matches(['\\', '"', '\'']).len()];
    let trail = &value[value.trim_end_matches(['\\', '"', '\'']).len()..];
    let before = &all.as_str()[..secret.start() - all.start()];
    let after = &all.as_str()[secret.end() - all.start()..];
    format!("{before}{lead}{REDACTED}{trail}{after}")
}

/// A value that tells where a secret is, or that there is none.
fn is_harmless(value: &str) -> bool {
    const PATHS: [&str; 14] = [
        "/var/",
        "/etc/",
        "/run/",
        "/home/",
        "/root/",
        "/tmp/",
        "/opt/",
        "/usr/",
        "/mnt/",
        "/proc/",
        "/dev/",
        "/secrets/",
        "/vault/",
        "file:",
    ];
    let is_variable = || {
        let name = value.strip_prefix('$').unwrap_or_default();
        let name = name.strip_prefix('{').unwrap_or(name).trim_end_matches('}');
        let starts_well = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
        starts_well
            && name
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    value.is_empty()
        || value == REDACTED
        || value == "redacted"
        || value.starts_with("$(")
        || value.starts_with('`')
        || value.starts_with('<')
        || ["true", "false", "null", "nil", "none"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word))
        || PATHS.iter().any(|path| value.starts_with(path))
        || is_variable()
}

/// `token: …` and `secret: …` are as often prose as settings.
fn is_prose(key: &str, separator: &str) -> bool {
    let word = ["token", "secret", "credential", "credentials"]
        .iter()
        .any(|word| key.eq_ignore_ascii_case(word));
    word && separator.trim() == ":"
}

fn is_random(value: &str) -> bool {
    value.len() >= 12 && value.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    /// Every text holds `hush…`, the secret, which must be gone; the rest must be there still.
    #[test]
    fn planted_secrets_are_gone() {
        let token = "hushAbCdEf0123456789xyz";
        let cases = [
            "mysql -h db -u root -phush0 shop",
            "mysqldump --password=hush0 --all-databases",
            "sh -c 'mysql -uroot -p\"hush0\" -e \"show tables\"'",
            "PGPASSWORD=hush0 psql -h db",
            "env DB_PASS=hush0 MYSQL_PWD=hush0 ./run",
            "export AWS_SECRET_ACCESS_KEY='hush/abc+def'",
            "kubectl --token hush0 get pods",
            "kubectl --token=hush0 get pods",
            "[\"kubectl\",\"--token\",\"hush0\",\"get\"]",
            "exec?command=kubectl&command=--token&command=hush0&container=c",
            "exec?command=sh&command=-c&command=app+--password%3Dhush0&stdin=true",
            "kubectl create secret generic db --from-literal=url=hush0",
            "helm upgrade x --set auth.rootPassword=hush0",
            "az login --service-principal -u 1234 -p hush0 --tenant t",
            "docker login -u robot -p hush0 registry.example.com",
            "sshpass -p hush0 ssh root@10.0.0.1",
            "redis-cli -h cache -a hush0 FLUSHALL",
            "curl -u admin:hush0 https://example.com",
            "curl --user 'admin:hush0' https://example.com",
            "curl -H 'Authorization: Bearer hush0' https://example.com",
            "curl -H \"Authorization: Basic aHVzaA==hush\" https://example.com",
            "curl -H 'X-Vault-Token: hush0' https://vault",
            "curl -H 'X-Api-Key: hush0' https://example.com",
            "curl -H 'Cookie: session=hush0; a=b' https://example.com",
            "git clone https://robot:hush0@git.example.com/x.git",
            "git clone https://hush0123456789abcdef@git.example.com/x.git",
            "exec?command=sh&command=curl%20%2DH%20%27Authorization%3A%20Bearer%20hush0%27",
            "proxy?q=mysql%20%2Du%20root%20%2Dphush0%20shop",
            "psql postgresql://app:hu@sh0@db/app",
            "wget 'https://x.blob.core.windows.net/c?sv=2024&sig=hush%2Babcdefghijkl%3D'",
            "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=hush0+/==;EndpointSuffix=core",
            "Endpoint=sb://x/;SharedAccessKeyName=k;SharedAccessKey=hush0/+=",
            "Server=db;Uid=app;Pwd=hush0;",
            "openssl rsa -passin pass:hush0 -in k.pem",
            "echo 'root:hush0' | chpasswd",
            "{\"username\":\"app\",\"password\":\"hush with \\\"spaces\"}",
            "{\\\"client_secret\\\":\\\"hush0\\\",\\\"x\\\":1}",
            "password: hush0",
            "{\"name\":\"DB_PASSWORD\",\"value\":\"hush0\"}",
            "{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"data\":{\"any\":\"hush0\"}}",
            "{\\\"data\\\":{\\\"any\\\":\\\"hush0\\\"},\\\"kind\\\":\\\"Secret\\\"}",
            "{\"kind\":\"Secret\",\"data\":{\"any\":\"hush0",
            "{\"data\":{\"a\":\"hush0\"},\"kind\":\"Secret\",\"stringData\":{\"b\":\"{hush1}\"},\"x\":1}",
            "{\"objectRef\":{\"resource\":\"secrets\"},\"requestObject\":{\"data\":{\"any\":\"hush0",
            "{\\\"password\\\":\\\"hush cut off",
            "{\"password\":\"hush cut off",
            "--password 'hush cut off",
            "-----BEGIN RSA PRIVATE KEY-----\\nhush0\\n-----END RSA PRIVATE KEY-----",
            "cat <<E\n-----BEGIN EC PRIVATE KEY-----\nhush0 cut off",
        ];
        let missed: Vec<_> = cases
            .iter()
            .map(|case| redact(case))
            .filter(|redacted| redacted.contains("hush") || !redacted.contains(REDACTED))
            .collect();
        assert!(missed.is_empty(), "{missed:#?}");
        for case in [format!("token: {token}"), format!("bearer {token}")] {
            assert!(!redact(&case).contains("hush"), "{case}");
        }
    }

    #[test]
    fn credentials_are_known_by_their_form() {
        let letters = "aB3".repeat(40);
        let cases = [
            format!(
                "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.{}",
                &letters[..40]
            ),
            format!("ghp_{}", &letters[..36]),
            format!("github_pat_{}", &letters[..60]),
            format!("glpat-{}", &letters[..20]),
            format!("xoxb-{}", &letters[..24]),
            format!("AKIA{}", "Q7".repeat(8)),
            format!("abc8Q~{}", &letters[..34]),
            format!("{}==", &letters[..86]),
            format!("sk_live_{}", &letters[..24]),
            format!("hvs.{}", &letters[..24]),
            format!("$6$salt${}", &letters[..86]),
        ];
        for secret in cases {
            let text = format!("run --x {secret} now");
            assert_eq!(redact(&text), "run --x [redacted] now", "{secret}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_readable() {
        let cases = [
            "sh -c 'cat /var/run/secrets/kubernetes.io/serviceaccount/token'",
            "TOKEN=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)",
            "curl -H \"Authorization: Bearer $TOKEN\" https://10.0.0.1/api",
            "curl -H \"Authorization: Bearer $(cat /run/token)\" https://10.0.0.1/api",
            "curl -sk https://10.0.0.1:6443/api/v1/secrets?limit=500",
            "app --token-file=/etc/app/token --password-stdin",
            "app --password=/etc/app/password --token ${APP_TOKEN}",
            "kubectl get secret db-password -o yaml",
            "kubectl create token build-robot --duration 8760h",
            "kubectl auth can-i create pods --as system:serviceaccount:kube-system:default",
            "create serviceaccounts/token 201",
            "get /api/v1/namespaces/shop/secrets/db-password 200",
            "automountServiceAccountToken: true",
            "automountServiceAccountToken=false tokenExpirationSeconds=3600",
            "role grants secrets: get, list, watch in shop",
            "user mallory@example.com from 203.0.113.7 (kubectl/v1.31.0)",
            "system:serviceaccount:kube-system:token-cleaner",
            "ssh -p 2222 admin@10.0.0.4",
            "tar cf - /etc/shadow",
            "mkdir -p /tmp/x && cp -pr /a /b",
            "nc -l -p 4444 -e /bin/sh",
            "python3 -c 'import pty; pty.spawn(\"/bin/bash\")'",
            "PWD=/app OLDPWD=/ HOME=/root",
            "nginx1.17a1b2c3d4e5f6a7",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "invalid token: expired",
            "https://portal.example.com/runbook#pod-exec",
            "git clone git@github.com:org/repo.git",
            "AKSAudit | where AuditId == '9c1f6f1e-93a4-4a3a-8f0e-1f5a5a0c7a11'",
        ];
        let spoilt: Vec<_> = cases
            .iter()
            .map(|case| redact(case))
            .filter(|redacted| redacted.contains(REDACTED))
            .collect();
        assert!(spoilt.is_empty(), "{spoilt:#?}");
    }

    /// Texts that a pattern matches, or nearly: without what looks around, which no text can be made of.
    fn like(pattern: &str) -> impl Strategy<Value = String> {
        let plain = [r"(?-u:\b)", r"\z", "(?s)"]
            .iter()
            .fold(pattern.to_owned(), |text, part| text.replace(part, ""))
            .replace("(?:^|", "(?:");
        proptest::string::string_regex(&plain).expect("the pattern is one")
    }

    #[test]
    fn what_a_rule_matches_has_its_sign() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for Pattern { sign, pattern, .. } in patterns() {
            let [has_sign, matches] = [&sign, &pattern].map(|text| Regex::new(text).expect("one"));
            let mut matched = 0;
            for _ in 0..200 {
                let text = like(&pattern)
                    .new_tree(&mut runner)
                    .expect("a text")
                    .current();
                if matches.is_match(&text) {
                    assert!(has_sign.is_match(&text), "{sign}: {text}");
                    matched += 1;
                }
            }
            assert!(matched > 20, "{pattern}: {matched}");
        }
    }

    proptest! {
        /// Redacting twice changes nothing more, whatever the text.
        #[test]
        fn it_settles(text in r#"[a-z"'\\ =:;&@/$(){}\[\]-]{0,12}(password|token|pass|AccountKey|-p|://)[a-z"'\\ =:;&@/$(){}\[\]-]{0,24}"#) {
            let once = redact(&text).into_owned();
            prop_assert_eq!(redact(&once), once.clone(), "{}", text);
        }
    }
}
