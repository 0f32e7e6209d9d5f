//! Facts of the client's address.

use std::net::IpAddr;

use super::FactSet;
use super::view::View;

pub(super) fn facts(_view: &View<'_>, _facts: &mut FactSet) {}

pub(super) fn client(_view: &View<'_>) -> Option<IpAddr> {
    None
}
