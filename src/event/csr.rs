//! csr.

use super::FactSet;
use super::view::View;

pub(super) fn csr_facts(_view: &View<'_>, _facts: &mut FactSet) {}
