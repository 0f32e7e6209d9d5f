//! Facts of rbac.

use super::FactSet;
use super::view::View;

#[derive(Debug, Default)]
pub struct Rules;

impl Rules {
    pub(super) fn of(_view: &View<'_>) -> Rules {
        Rules
    }
}

#[derive(Debug, Default)]
pub struct Binding;

impl Binding {
    pub(super) fn of(_view: &View<'_>) -> Binding {
        Binding
    }
}

pub(super) fn role_facts(_view: &View<'_>, _facts: &mut FactSet) {}
pub(super) fn binding_facts(_view: &View<'_>, _facts: &mut FactSet) {}
