//! service.

use super::FactSet;
use super::view::View;

pub(super) fn service_facts(_view: &View<'_>, _facts: &mut FactSet) {}
