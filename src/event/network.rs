//! network.

use super::FactSet;
use super::view::View;

pub(super) fn network_policy_facts(_view: &View<'_>, _facts: &mut FactSet) {}
