//! One consumer's link: delivers a partition's events from its selector on, and waits for more.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Sender;
use fe2o3_amqp::link::DetachError;
use fe2o3_amqp_types::definitions::Error;

use super::faults::Faults;
use super::hub::Partition;
use super::readers::Registration;

/// Events taken from the log at once.
const READ_AHEAD: usize = 64;

/// How long a client may take to answer a detach.
pub(super) const DETACH_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the link until either side detaches it or the connection goes.
pub(super) async fn serve(
    mut sender: Sender,
    mut registration: Registration,
    partition: Arc<Partition>,
    mut next: i64,
    faults: Arc<Faults>,
) {
    let mut appended = partition.subscribe();
    loop {
        appended.borrow_and_update();
        let events = partition.read(next, READ_AHEAD);
        if events.is_empty() {
            tokio::select! {
                _ = appended.changed() => {}
                detached = sender.on_detach() => {
                    drop(registration);
                    echo_detach(sender, &detached).await;
                    return;
                }
                error = &mut registration.ended => return end(sender, error.ok()).await,
            }
        }
        for event in events {
            // A consumer ahead of the log's end gets nothing until the log has caught up.
            if event.sequence_number < next {
                continue;
            }
            let delivered = async {
                faults.deliveries_flow().await;
                sender.send_batchable_ref(&event.delivery).await
            };
            tokio::select! {
                biased;
                error = &mut registration.ended => return end(sender, error.ok()).await,
                // Deliveries are settled: there is no outcome to wait for. An error is a detach,
                // which has been answered already, or the end of the session.
                sent = delivered => if sent.is_err() {
                    return;
                }
            }
            next = event.sequence_number + 1;
        }
    }
}

async fn end(sender: Sender, error: Option<Error>) {
    let closing = async {
        match error {
            Some(error) => sender.close_with_error(error).await,
            None => sender.close().await,
        }
    };
    let _ = tokio::time::timeout(DETACH_TIMEOUT, closing).await;
}

/// Answers a detach in kind: a closing one with a closing one.
pub(super) async fn echo_detach(sender: Sender, detached: &DetachError) {
    let closed = matches!(
        detached,
        DetachError::ClosedByRemote | DetachError::RemoteClosedWithError(_)
    );
    let echo = async {
        if closed {
            let _ = sender.close().await;
        } else {
            let _ = sender.detach().await;
        }
    };
    let _ = tokio::time::timeout(DETACH_TIMEOUT, echo).await;
}
