//! workload.

use super::FactSet;
use super::view::View;

pub(super) fn workload_facts(_view: &View<'_>, _facts: &mut FactSet) {}
