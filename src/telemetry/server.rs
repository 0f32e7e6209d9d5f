//! `/livez`, `/readyz` and `/metrics`, on one listener.
//!
//! There is no login, so the listener is on loopback unless configured otherwise; nothing that it
//! shows comes from a log record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Health, Metrics};

/// The running server; ends with the token it was started with.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

/// How long a stop waits for answers under way.
const FAREWELL: Duration = Duration::from_secs(2);

impl Server {
    /// Listens, or says why it cannot.
    pub async fn start(
        listen: SocketAddr,
        metrics: Arc<Metrics>,
        health: Health,
        stop: CancellationToken,
    ) -> std::io::Result<Server> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .with_state((metrics, health));
        let serving = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
        let task = tokio::spawn(async move { serving.await });
        Ok(Server { address, task })
    }

    /// Where it listens; tells the port that port 0 became.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for its end after the token was cancelled, not for clients that do not read.
    pub async fn join(mut self) {
        if tokio::time::timeout(FAREWELL, &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
    }
}

async fn livez(Shared((_, health)): Shared<(Arc<Metrics>, Health)>) -> Response {
    let stalled = health.stalled();
    if stalled.is_empty() {
        return "ok\n".into_response();
    }
    let mut text = String::new();
    for (name, silent) in stalled {
        text.push_str(&format!("{name} stalls for {} s\n", silent.as_secs()));
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn readyz(Shared((_, health)): Shared<(Arc<Metrics>, Health)>) -> Response {
    let report = health.report();
    let status = match report.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    match serde_json::to_string(&report) {
        Ok(json) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (status, kind, json + "\n").into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn scrape(Shared((metrics, _)): Shared<(Arc<Metrics>, Health)>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::MEDIA_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
