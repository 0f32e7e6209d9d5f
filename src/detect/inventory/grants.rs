//! Rights that someone gave themselves a short while ago, until they are used.
//!
//! Filled by [`super::Inventory`] where a change of roles or bindings gave its own author a right;
//! asked for every finding of a detector that names `known.self_granted_use`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::effect::Gain;
use super::rights::Request;

/// How long a use is linked to its grant.
pub const LINKED_MILLIS: i64 = 24 * 3600 * 1000;

/// Grants kept of one author, and of all: the author with the most loses the oldest.
const MAX_OF_ONE: usize = 64;
const MAX: usize = 4096;

/// What someone gave themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub cluster: Box<str>,
    /// The authenticated user who wrote it, from where.
    pub author: Box<str>,
    pub address: Box<str>,
    pub owner: u64,
    /// Whose requests use it.
    pub user: Holder,
    pub gains: Vec<Gain>,
    /// The bindings that give it, as the authorizer's reason names them.
    pub bindings: Vec<Box<str>>,
    pub at: i64,
    pub request: u128,
    pub audit_id: Box<str>,
    /// What was written, for people.
    pub object: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// The author itself, by name or by group; or whom it impersonated when it wrote.
    Author(Box<str>),
    /// A service account that the author can use, by its user name: from the author's address, or
    /// impersonated by it.
    Account(Box<str>),
}

/// A request that may use a grant.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    pub cluster: &'a str,
    pub user: &'a str,
    pub impersonated: Option<&'a str>,
    pub address: &'a str,
    pub namespace: &'a str,
    pub request: Request<'a>,
    /// The binding that the authorizer's reason names; empty where it names none.
    pub by: &'a str,
    /// Milliseconds.
    pub at: i64,
}

#[derive(Debug, Default)]
pub struct Grants(VecDeque<Grant>);

impl Grants {
    pub fn add(&mut self, grant: Grant) {
        if self
            .0
            .iter()
            .any(|known| known.request == grant.request && known.user == grant.user)
        {
            return;
        }
        let horizon = grant.at.saturating_sub(LINKED_MILLIS + 3_600_000);
        self.0.retain(|known| known.at >= horizon);
        let of_author = |owner: u64| self.0.iter().filter(|known| known.owner == owner).count();
        let crowded = if of_author(grant.owner) >= MAX_OF_ONE || self.0.len() >= MAX {
            Some(grant.owner)
        } else {
            None
        };
        if let Some(owner) = crowded
            && let Some(oldest) = self.0.iter().position(|known| known.owner == owner)
        {
            self.0.remove(oldest);
        } else if self.0.len() >= MAX {
            self.0.pop_front();
        }
        self.0.push_back(grant);
    }

    /// The grant that the request uses, if one does.
    pub fn used(&self, what: &Use<'_>) -> Option<&Grant> {
        self.0.iter().rev().find(|grant| {
            *grant.cluster == *what.cluster
                && (grant.at + 1..=grant.at + LINKED_MILLIS).contains(&what.at)
                && grant.is_held_by(what)
                && (what.by.is_empty() || grant.bindings.iter().any(|b| **b == *what.by))
                && grant
                    .gains
                    .iter()
                    .any(|gain| gain.allows(what.namespace, &what.request))
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }
}

impl Grant {
    fn is_held_by(&self, what: &Use<'_>) -> bool {
        let effective = what.impersonated.unwrap_or(what.user);
        match &self.user {
            Holder::Author(name) => {
                effective == &**name && (*what.user == *self.author || what.user == &**name)
            }
            Holder::Account(name) => {
                effective == &**name
                    && (what.user == &*self.author
                        || what.impersonated.is_none()
                            && !self.address.is_empty()
                            && what.address == &*self.address)
            }
        }
    }
}
