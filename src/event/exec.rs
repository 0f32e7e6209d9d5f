//! Facts of exec.

use super::FactSet;
use super::view::View;

#[derive(Debug, Default)]
pub struct Exec;

impl Exec {
    pub(super) fn of(_view: &View<'_>) -> Exec {
        Exec
    }
}

pub(super) fn facts(_view: &View<'_>, _facts: &mut FactSet) {}
