//! The demo's receivers on loopback: a web server that takes webhooks and a mail server that takes
//! mails, both telling what came.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alert::Alert;

/// A line of a mail that is longer is no mail of ours.
const MAX_LINE: usize = 64 << 10;

/// A notification that reached a receiver.
pub enum Arrival {
    Webhook {
        /// The header `webhook-id`.
        id: String,
        at: Instant,
        alert: Box<Alert>,
    },
    Mail {
        message_id: String,
        at: Instant,
    },
}

/// Both servers; they end with `cancel`.
pub struct Receivers {
    pub webhook: SocketAddr,
    pub mail: SocketAddr,
}

impl Receivers {
    pub async fn start(
        arrivals: Sender<Arrival>,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Receivers> {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let web = bind().await.context("no port on loopback")?;
        let mail = bind().await.context("no port on loopback")?;
        let receivers = Receivers {
            webhook: web.local_addr()?,
            mail: mail.local_addr()?,
        };
        let app = Router::new()
            .route("/alerts", post(take))
            .with_state(arrivals.clone());
        let stop = cancel.clone().cancelled_owned();
        tasks.spawn(async move {
            // An error here shows as notifications that never come.
            let _ = axum::serve(web, app).with_graceful_shutdown(stop).await;
        });
        let (connections, cancel) = (tasks.clone(), cancel.clone());
        tasks.spawn(async move {
            while let Some(Ok((stream, _))) = cancel.run_until_cancelled(mail.accept()).await {
                let (arrivals, cancel) = (arrivals.clone(), cancel.clone());
                connections.spawn(async move {
                    cancel.run_until_cancelled(converse(stream, arrivals)).await;
                });
            }
        });
        Ok(receivers)
    }
}

async fn take(
    State(arrivals): State<Sender<Arrival>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let at = Instant::now();
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let (Some(id), Ok(alert)) = (id, serde_json::from_slice(&body)) else {
        return StatusCode::BAD_REQUEST;
    };
    let arrival = Arrival::Webhook {
        id: id.to_owned(),
        at,
        alert: Box::new(alert),
    };
    match arrivals.send(arrival).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// As much of SMTP (RFC 5321) as a client needs that sends mails and no more.
async fn converse(stream: TcpStream, arrivals: Sender<Arrival>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 demo ESMTP\r\n").await.ok()?;
    loop {
        let line = read_line(&mut stream).await?;
        let verb = line.split([' ', ':']).next()?.to_ascii_uppercase();
        let answer = match &*verb {
            "EHLO" | "HELO" => "250-demo\r\n250 8BITMIME",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            "MAIL" | "RCPT" | "RSET" | "NOOP" => "250 fine",
            _ => "500 not known here",
        };
        stream
            .write_all(format!("{answer}\r\n").as_bytes())
            .await
            .ok()?;
        match &*verb {
            "QUIT" => return None,
            "DATA" => {
                let message_id = read_mail(&mut stream).await?;
                let at = Instant::now();
                arrivals.send(Arrival::Mail { message_id, at }).await.ok()?;
                stream.write_all(b"250 taken\r\n").await.ok()?;
            }
            _ => {}
        }
    }
}

/// Reads a mail to its end; gives its Message-ID.
async fn read_mail(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut message_id, mut in_head) = (String::new(), true);
    loop {
        let line = read_line(stream).await?;
        if line == "." {
            return Some(message_id);
        }
        in_head &= !line.is_empty();
        if in_head
            && let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("message-id")
        {
            value.trim().clone_into(&mut message_id);
        }
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line).await.ok()?;
    if read == 0 || line.len() > MAX_LINE {
        return None;
    }
    let text = String::from_utf8_lossy(&line);
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}
