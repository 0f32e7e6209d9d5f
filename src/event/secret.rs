//! secret.

use super::FactSet;
use super::view::View;

pub(super) fn secret_facts(_view: &View<'_>, _facts: &mut FactSet) {}
