//! The inventory: what the stream has told of bindings, roles, service accounts, pods that own their
//! node, namespaces and network policies; and what follows from it for who can do what.
//!
//! The parallel half makes [`lesson::Lesson`]s of the few requests that write such objects
//! ([`lesson::teaches`]); the ordered half takes them in ([`Inventory`]) and asks for `known.*` facts
//! and for the [`effect::Effect`] of a change of rights. `lanner inventory import` and
//! `replay --inventory` fill it from what `kubectl get -o json` says ([`import`]).

pub mod builtin;
pub mod effect;
pub mod grants;
pub mod import;
pub mod known;
pub mod lesson;
mod look;
mod meta;
pub mod object;
mod persist;
pub mod rights;
pub mod shelf;
pub mod show;
mod state;

pub use lesson::Lesson;
pub use meta::Meta;
pub use persist::{Contents, Delta, Snapshot};
pub use state::{Bare, EVERY_CLUSTER, Inventory};
