//! Runs what uses a client in a runtime of its own, which ends with it.
//!
//! The client spawns tasks that outlive it: thrown away while its peer is silent, it waits for an
//! answer to its goodbye for ever, with an open socket and, as far as the hub knows, as a reader of
//! the partition. Ending the runtime ends these too.

use tokio::runtime::{Builder, Runtime};

use super::error::{Fault, HubError};

/// A runtime that ends, with all of its tasks, when this is dropped.
pub(super) struct Confined(Option<Runtime>);

impl Confined {
    /// With one thread of this name.
    pub(super) fn new(name: &str) -> Result<Confined, HubError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(|error| {
                let text = format!("no thread for the connection: {error}");
                HubError::new(Fault::Unreachable, text)
            })?;
        Ok(Confined(Some(runtime)))
    }

    /// The future's output, or that it panicked; every task that it has spawned ends then, or if
    /// this is dropped.
    pub(super) async fn run<T: Send + 'static>(
        self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, HubError> {
        let runtime = self.0.as_ref().expect("it is taken only by the drop");
        runtime.spawn(future).await.map_err(|error| {
            let text = format!("a defect broke it off: {error}");
            HubError::new(Fault::Unreachable, text)
        })
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for threads is not allowed within async code.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn tasks_that_would_wait_for_ever_end_with_it() {
        let held = Arc::new(());
        let of_task = Arc::clone(&held);
        let confined = Confined::new("test").expect("there are threads");
        let output = confined.run(async move {
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(of_task);
            });
            7
        });
        assert_eq!(output.await.expect("it does not panic"), 7);
        for _ in 0..500 {
            if Arc::strong_count(&held) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the task still holds its share");
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let confined = Confined::new("test").expect("there are threads");
        let output: Result<(), _> = confined.run(async { panic!("as a defect would") }).await;
        let error = output.expect_err("it panics");
        assert!(error.text.contains("as a defect would"), "{error}");
    }
}
