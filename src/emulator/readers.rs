//! Who reads a partition: consumer groups, epochs, and how a link loses its place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fe2o3_amqp_types::definitions::{AmqpError, Error, LinkError};
use tokio::sync::{oneshot, watch};

use super::hub::lock;

/// The consumers' links of one partition.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// By consumer group, in lower case.
    groups: Mutex<HashMap<String, Group>>,
    /// Counts the links that gave their place back.
    changed: watch::Sender<u64>,
}

impl Readers {
    /// Registers a consumer's link, or says why not; an epoch at least as high as the owner's
    /// takes the partition from all who read it in this group.
    pub(super) async fn register(
        self: &Arc<Readers>,
        group: &str,
        epoch: Option<i64>,
        name: &str,
    ) -> Result<Registration, Error> {
        // A client that closes a link and attaches anew must not be refused for the moment in
        // which its old link is still being taken down.
        let mut changed = self.changed.subscribe();
        let grace = tokio::time::sleep(Duration::from_millis(250));
        tokio::pin!(grace);
        loop {
            match self.try_register(group, epoch, name) {
                Ok(registration) => return Ok(registration),
                Err(error) => tokio::select! {
                    () = &mut grace => return Err(error),
                    _ = changed.changed() => {}
                },
            }
        }
    }

    fn try_register(
        self: &Arc<Readers>,
        group: &str,
        epoch: Option<i64>,
        name: &str,
    ) -> Result<Registration, Error> {
        const SHARED_READERS: usize = 5;
        let group = group.to_ascii_lowercase();
        let mut groups = lock(&self.groups);
        let readers = groups.entry(group.clone()).or_default();
        let owner = readers.links.iter().filter_map(|link| link.epoch).max();
        match (epoch, owner) {
            (None, Some(owner)) => {
                return Err(stolen(format!(
                    "At least one receiver for the endpoint is created with epoch of '{owner}', \
                     and so non-epoch receiver is not allowed."
                )));
            }
            (Some(epoch), Some(owner)) if epoch < owner => {
                return Err(stolen(format!(
                    "Receiver '{name}' with epoch '{epoch}' cannot be created: a receiver with a \
                     higher epoch '{owner}' already exists."
                )));
            }
            (Some(epoch), _) => {
                for link in readers.links.drain(..) {
                    let why = format!(
                        "New receiver '{name}' with higher epoch of '{epoch}' is created hence \
                         current receiver '{}' is getting disconnected.",
                        link.name
                    );
                    link.end(stolen(why));
                }
            }
            (None, None) if readers.links.len() >= SHARED_READERS => {
                return Err(Error::new(
                    AmqpError::ResourceLimitExceeded,
                    Some(format!(
                        "Exceeded the maximum number of allowed receivers per partition in a \
                         consumer group which is {SHARED_READERS}."
                    )),
                    None,
                ));
            }
            (None, None) => {}
        }
        readers.last_id += 1;
        let (end, ended) = oneshot::channel();
        readers.links.push(Link {
            id: readers.last_id,
            epoch,
            name: name.to_owned(),
            end,
        });
        Ok(Registration {
            readers: Arc::clone(self),
            group,
            id: readers.last_id,
            ended,
        })
    }

    /// Ends every consumer's link with `error`; returns how many there were.
    pub(super) fn end_links(&self, error: &Error) -> usize {
        let links: Vec<Link> = lock(&self.groups)
            .values_mut()
            .flat_map(|readers| readers.links.drain(..))
            .collect();
        let count = links.len();
        for link in links {
            link.end(error.clone());
        }
        count
    }
}

#[derive(Debug, Default)]
struct Group {
    last_id: u64,
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    id: u64,
    epoch: Option<i64>,
    name: String,
    end: oneshot::Sender<Error>,
}

impl Link {
    fn end(self, error: Error) {
        // A link that is gone already needs no end.
        let _ = self.end.send(error);
    }
}

/// A consumer's place in a partition; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Registration {
    readers: Arc<Readers>,
    group: String,
    id: u64,
    /// Why the link has to end, once it has to.
    pub(super) ended: oneshot::Receiver<Error>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(group) = lock(&self.readers.groups).get_mut(&self.group) {
            group.links.retain(|link| link.id != self.id);
        }
        self.readers.changed.send_modify(|count| *count += 1);
    }
}

pub(super) fn stolen(description: String) -> Error {
    Error::new(LinkError::Stolen, Some(description), None)
}
