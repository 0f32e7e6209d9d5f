//! image.

use super::FactSet;
use super::view::View;

pub(super) fn image_facts(_view: &View<'_>, _facts: &mut FactSet) {}
