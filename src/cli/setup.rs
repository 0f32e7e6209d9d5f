//! What every subcommand begins with: configuration and detectors, or all that is wrong with them.

use std::path::Path;

use super::Exit;
use crate::config::diagnose::Level;
use crate::config::{self, Config, Diagnostic};
use crate::detect::{Detector, load};
use crate::event::Sites;

/// A valid configuration and the detectors it tunes.
pub struct Setup {
    pub config: Config,
    /// In the order of their ids; those that are off too.
    pub detectors: Vec<Detector>,
    pub sites: Sites,
    pub warnings: Vec<Diagnostic>,
}

/// Loads and checks everything; prints what is wrong and gives the exit code where something is.
pub fn load(path: Option<&Path>) -> Result<Setup, Exit> {
    match try_load(path) {
        Ok(setup) => Ok(setup),
        Err(problems) => {
            print(&problems);
            Err(Exit::Configuration)
        }
    }
}

/// As [`load`], for reloads: everything wrong, or everything.
pub fn try_load(path: Option<&Path>) -> Result<Setup, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(mut errors) => {
            // Detectors are checked all the same, so that one run shows everything.
            errors.extend(load::load(&load::shipped(), &[]).err().unwrap_or_default());
            return Err(errors);
        }
    };
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
    let mut detectors = load::load(&load::shipped(), &site).unwrap_or_else(|errors| {
        problems.extend(errors);
        Vec::new()
    });
    let mut warnings = loaded.warnings.clone();
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
    let sites = loaded.config.sites();
    Ok(Setup {
        config: loaded.config,
        detectors,
        sites,
        warnings,
    })
}

/// Prints diagnostics to standard error, and how many there are.
pub fn print(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        eprintln!("{diagnostic}\n");
    }
    let errors = diagnostics
        .iter()
        .filter(|d| d.level == Level::Error)
        .count();
    if errors > 0 {
        eprintln!(
            "{errors} error{} in all; nothing was started",
            if errors == 1 { "" } else { "s" }
        );
    }
}
