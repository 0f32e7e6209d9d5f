//! What a record says: the borrowed [`AuditEvent`], and what is computed of it.
//!
//! Events come from [`crate::decode`] and are looked at through a [`View`], which computes
//! [`fact`]s (named truths with three values) and [`field`]s (named values) lazily, once an event.
//! Detectors ([`crate::detect`]) know events by facts and fields only.

pub mod actor;
pub mod admission;
pub mod agent;
pub mod audit;
pub mod binding;
pub mod clock;
mod command;
pub mod credential;
pub mod csr;
pub mod dashboard;
pub mod exec;
pub mod fact;
pub mod field;
pub mod image;
pub mod json;
pub mod line;
pub mod memo;
pub mod namespace;
pub mod network;
pub mod object;
pub mod pod;
pub mod pod_security;
pub mod rbac;
pub mod secret;
pub mod service;
pub mod site;
pub mod site_defaults;
pub mod source_ip;
pub mod target;
pub mod tie;
pub mod trace;
pub mod view;
pub mod workload;

pub use audit::{
    AuditEvent, Body, BodyText, Category, Level, ObjectRef, Origin, ResponseStatus, Stage, User,
};
pub use fact::{Fact, FactSet, Truth};
pub use field::{Field, FieldValue};
pub use json::Json;
pub use line::{LineKind, LineView};
pub use site::{Lists, Site, Sites};
pub use view::{Object, View};
