//! What a commit tells: alerts and incidents as messages for the outbox, one for each receiver.

use jiff::Timestamp;

use crate::alert::{Alert, Severity};
use crate::store::{Commit, NewNotification};

/// The alert, as it is shown now.
pub(super) fn notify(
    alert: &Alert,
    receivers: Vec<String>,
    enqueued: Option<Timestamp>,
    commit: &mut Commit,
) {
    let id = &alert.notification_id;
    notification(id, alert.severity, alert, receivers, enqueued, commit);
}

/// One notification for each receiver, all with the same id.
pub(super) fn notification(
    id: &str,
    severity: Severity,
    message: &impl serde::Serialize,
    receivers: Vec<String>,
    enqueued: Option<Timestamp>,
    commit: &mut Commit,
) {
    if receivers.is_empty() {
        return;
    }
    let body = match serde_json::to_string(message) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, id, "a notification cannot be written");
            return;
        }
    };
    let new = receivers.into_iter().map(|receiver| NewNotification {
        notification_id: id.to_owned(),
        receiver,
        severity,
        body: body.clone(),
        enqueued,
    });
    commit.notifications.extend(new);
}
