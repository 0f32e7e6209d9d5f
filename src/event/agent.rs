//! Facts of agent.

use super::FactSet;
use super::view::View;

pub(super) fn facts(_view: &View<'_>, _facts: &mut FactSet) {}
