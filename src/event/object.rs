//! object.

use super::FactSet;
use super::view::View;

pub(super) fn object_facts(_view: &View<'_>, _facts: &mut FactSet) {}
