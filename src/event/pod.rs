//! pod.

use super::FactSet;
use super::view::View;

pub(super) fn pod_facts(_view: &View<'_>, _facts: &mut FactSet) {}
