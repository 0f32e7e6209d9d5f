//! The names of clusters, each kept once.
//!
//! Ids come from envelopes, as written; every record of a cluster shares one name.

use std::collections::HashMap;
use std::sync::Arc;

/// The clusters met, so that a record costs no allocation for its cluster's name.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// By the id as written, which is upper case in one place and lower in another.
    names: HashMap<Arc<str>, Arc<str>, ahash::RandomState>,
    last: Option<(Arc<str>, Arc<str>)>,
}

/// Beyond this many the cache starts again; sites have far fewer.
const MAX_CLUSTERS: usize = 1 << 16;

/// An ARM id is far shorter; what is longer is not kept.
const MAX_CACHED_ID: usize = 1024;

impl Clusters {
    /// `id` in lower case.
    pub fn intern(&mut self, id: &str) -> Arc<str> {
        if let Some((written, name)) = &self.last
            && **written == *id
        {
            return Arc::clone(name);
        }
        if id.len() > MAX_CACHED_ID {
            return id.to_ascii_lowercase().into();
        }
        let known = self.names.get_key_value(id);
        let (written, name) = match known {
            Some((written, name)) => (Arc::clone(written), Arc::clone(name)),
            None => {
                if self.names.len() >= MAX_CLUSTERS {
                    self.names.clear();
                }
                let (written, name) = (Arc::from(id), Arc::from(id.to_ascii_lowercase()));
                self.names.insert(Arc::clone(&written), Arc::clone(&name));
                (written, name)
            }
        };
        self.last = Some((written, Arc::clone(&name)));
        name
    }
}
