//! About how many bytes open alerts and incidents hold in memory, for the bound that a site sets.
//!
//! Counted are the values themselves and the texts that they own. What all alerts of a detector
//! share is left out.

use std::mem::size_of_val;

use super::incident::Step;
use super::{Actor, Alert, Evidence, ObjectId, SourceIp};

/// What an allocator adds to a text and rounds it up by, on average.
const ALLOCATION: usize = 16;

/// The bytes of a text beside the value that owns it.
pub fn text(text: &str) -> usize {
    match text.len() {
        0 => 0,
        length => length + ALLOCATION,
    }
}

/// The bytes of a list of texts beside the value that owns it.
pub fn texts(list: &[String]) -> usize {
    size_of_val(list) + list.iter().map(|item| text(item)).sum::<usize>()
}

fn optional(value: &Option<String>) -> usize {
    value.as_deref().map_or(0, text)
}

impl Actor {
    fn beside(&self) -> usize {
        text(&self.user)
            + texts(&self.groups)
            + optional(&self.impersonated)
            + optional(&self.service_account)
    }
}

impl SourceIp {
    fn beside(&self) -> usize {
        optional(&self.address) + optional(&self.network) + text(&self.class)
    }
}

impl ObjectId {
    fn beside(&self) -> usize {
        text(&self.group)
            + text(&self.resource)
            + text(&self.subresource)
            + text(&self.namespace)
            + text(&self.name)
    }
}

impl Evidence {
    /// With the value itself.
    pub fn held(&self) -> usize {
        size_of_val(self)
            + text(&self.audit_id)
            + text(&self.stage)
            + text(&self.source)
            + text(&self.position)
            + text(&self.excerpt)
    }
}

impl Alert {
    /// With the value itself.
    pub fn held(&self) -> usize {
        let own = [
            &self.schema,
            &self.id,
            &self.fingerprint,
            &self.notification_id,
            &self.summary,
            &self.reason,
            &self.cluster,
            &self.cluster_name,
            &self.user_agent,
        ];
        size_of_val(self)
            + own.into_iter().map(|own| text(own)).sum::<usize>()
            + optional(&self.incident)
            + self.actor.beside()
            + self.source_ip.beside()
            + self.object.beside()
            + self.evidence.iter().map(Evidence::held).sum::<usize>()
    }
}

impl Step {
    /// With the value itself.
    pub fn held(&self) -> usize {
        let own = [
            &self.alert,
            &self.fingerprint,
            &self.detector,
            &self.title,
            &self.summary,
            &self.actor,
            &self.place,
            &self.user_agent,
        ];
        size_of_val(self)
            + own.into_iter().map(|own| text(own)).sum::<usize>()
            + optional(&self.impersonated)
            + self.source_ip.beside()
            + self.object.beside()
            + [&self.attack, &self.tactics, &self.audit_ids]
                .into_iter()
                .map(|list| texts(list))
                .sum::<usize>()
    }
}
