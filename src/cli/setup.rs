//! What every subcommand begins with: configuration and detectors, or all that is wrong with them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::Exit;
use crate::alert::Kind;
use crate::config::diagnose::Level;
use crate::config::{self, Config, Diagnostic, Loaded, Profile};
use crate::detect::load::Tests;
use crate::detect::{Detector, Engine, load, selftest};
use crate::event::Sites;
use crate::pipeline::live::Settings;

/// A valid configuration and the detectors it tunes.
pub struct Setup {
    pub loaded: Loaded,
    /// In the order of their ids; those that are off too.
    pub detectors: Vec<Detector>,
    pub warnings: Vec<Diagnostic>,
}

impl Setup {
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The engine that the profile asks for.
    pub fn engine(detectors: Vec<Detector>, config: &Config, profile: Profile) -> Engine {
        let wanted = |detector: &Detector| {
            profile == Profile::All || detector.reference.kind != Kind::Hygiene
        };
        Engine::new(
            detectors.into_iter().filter(wanted).collect(),
            config.sites(),
        )
    }

    /// What the daemon runs with.
    pub fn into_settings(self) -> Settings {
        let config = self.loaded.config;
        let engine = Setup::engine(self.detectors, &config, config.alert.profile);
        Settings {
            config,
            engine: Arc::new(engine),
        }
    }
}

/// Loads and checks everything; prints what is wrong and gives the exit code where something is.
pub fn load(path: Option<&Path>, tests: Tests) -> Result<Setup, Exit> {
    let loaded = config::load(path).map_err(|mut problems| {
        // Detectors are checked all the same, so that one run shows everything.
        problems.extend(load::load(&load::shipped(), &[]).err().unwrap_or_default());
        problems
    });
    let setup = loaded.and_then(|loaded| with_detectors(loaded, tests));
    setup.map_err(|problems| {
        print(&problems);
        Exit::Configuration
    })
}

/// Adds the detectors to a configuration: the shipped ones and the site's, tuned; or everything that
/// is wrong.
pub fn with_detectors(loaded: Loaded, tests: Tests) -> Result<Setup, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let site = match &loaded.config.detectors_dir {
        Some(folder) => load::folder(folder).unwrap_or_else(|error| {
            problems.push(Diagnostic::new(
                folder.display().to_string(),
                "detectors-dir",
                format!("the folder cannot be read: {error}"),
                None,
            ));
            Vec::new()
        }),
        None => Vec::new(),
    };
    let read = load::load_with(tests, &load::shipped(), &site);
    let mut detectors = read.unwrap_or_else(|errors| {
        problems.extend(errors);
        Vec::new()
    });
    let mut warnings = loaded.warnings.clone();
    if problems.is_empty() && !site.is_empty() {
        problems.extend(failing_tests(
            &detectors,
            &site,
            loaded.config.detectors_dir.as_deref(),
        ));
    }
    if problems.is_empty() {
        let known: Vec<&str> = detectors
            .iter()
            .map(|detector| detector.id.as_str())
            .collect();
        for diagnostic in loaded.check_detectors(&known) {
            match diagnostic.level {
                Level::Error => problems.push(diagnostic),
                Level::Warning => warnings.push(diagnostic),
            }
        }
    }
    for detector in &mut detectors {
        if let Some(tuning) = loaded.config.detectors.get(&detector.id) {
            problems.extend(load::tune(detector, tuning));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Setup {
        loaded,
        detectors,
        warnings,
    })
}

/// The tests in the site's own files that fail: a detector that does not do what its author expects
/// is not understood. They run as shipped ones do, without the site's lists and tuning.
fn failing_tests(
    detectors: &[Detector],
    site: &[load::Source],
    folder: Option<&Path>,
) -> Vec<Diagnostic> {
    let engine = Engine::new(detectors.to_vec(), Sites::default());
    let of_site = |id: &str| {
        detectors
            .iter()
            .any(|detector| detector.id == id && detector.file != load::SHIPPED_FILE)
    };
    let fixtures: Vec<&Path> = folder.into_iter().collect();
    let failures = selftest::run(&engine, of_site, &fixtures).failures;
    failures
        .into_iter()
        .map(|failure| {
            let message = format!("the test \"{}\" fails: {}", failure.test, failure.message);
            let help = Some("mend the detector or the test".to_owned());
            let of_detector = |source: &&load::Source| {
                Path::new(&source.file)
                    .file_stem()
                    .is_some_and(|stem| *stem == *failure.detector)
            };
            match site.iter().find(of_detector) {
                Some(source) => {
                    // Variants of a test bear its name with more behind it.
                    let at = source.text.match_indices("name = \"").find(|(at, quote)| {
                        let rest = &source.text[at + quote.len()..];
                        rest.split('"')
                            .next()
                            .is_some_and(|name| failure.test.starts_with(name))
                    });
                    let span = at.map_or(0..0, |(at, _)| at..at + 4);
                    Diagnostic::at_span(&source.file, &source.text, span, "test", message, help)
                }
                None => Diagnostic::new(failure.detector, "test", message, help),
            }
        })
        .collect()
}

/// Prints diagnostics to standard error, and how many there are.
pub fn print(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        say(format_args!("{diagnostic}\n"));
    }
    let errors = diagnostics
        .iter()
        .filter(|d| d.level == Level::Error)
        .count();
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        say(format_args!(
            "{errors} error{plural} in all; nothing was started"
        ));
    }
}

/// As `eprintln!`, which panics where nothing can be written: a full disk under the log must not keep
/// the daemon from starting.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
