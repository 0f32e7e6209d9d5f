//! What the request is about and how it ended: outcome, dry run, the object it names.

use super::FactSet;
use super::view::View;

pub(super) fn request_facts(_view: &View<'_>, _facts: &mut FactSet) {}

/// The decoded query of a request URI.
pub(super) fn decode_query(_uri: &str) -> Vec<(String, String)> {
    Vec::new()
}

pub(super) fn facts(_view: &View<'_>, _facts: &mut FactSet) {}
