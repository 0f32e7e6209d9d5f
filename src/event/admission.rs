//! admission.

use super::FactSet;
use super::view::View;

pub(super) fn admission_facts(_view: &View<'_>, _facts: &mut FactSet) {}
