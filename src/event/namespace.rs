//! namespace.

use super::FactSet;
use super::view::View;

pub(super) fn namespace_facts(_view: &View<'_>, _facts: &mut FactSet) {}
