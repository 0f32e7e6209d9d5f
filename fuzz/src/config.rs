//! A configuration file: refused in words, without a secret in them, or whole.

use lanner::config::load_text;

/// What the seeds have for a secret.
const SECRET: &str = "hush-hush-hush";

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Files are named by the text, and may be anything that this machine has.
    if text.contains("-file") {
        return;
    }
    let diagnostics = match load_text("fuzz.toml", text, &[]) {
        Ok(loaded) => {
            loaded.config.sites();
            assert!(!format!("{:?}", loaded.config).contains(SECRET));
            loaded.warnings
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "refused without a word");
            diagnostics
        }
    };
    for diagnostic in diagnostics {
        let shown = diagnostic.to_string();
        assert!(
            !shown.chars().any(|c| c.is_control() && c != '\n'),
            "{shown:?}"
        );
    }
}
