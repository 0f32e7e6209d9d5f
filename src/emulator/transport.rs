//! What AMQP comes in on the one port: TCP as it is, TLS, or a WebSocket in either, told apart by
//! their first bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// How long handshakes may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the service takes AMQP over WebSockets.
const WEBSOCKET_PATH: &str = "/$servicebus/websocket";

/// The first byte of a TLS record with a handshake in it.
const TLS_HANDSHAKE: u8 = 0x16;

/// A certificate chain and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

/// How TLS connections are taken with this certificate.
pub(super) fn server_config(certificate: &Certificate) -> Result<Arc<ServerConfig>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate.chain).collect();
    let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(&certificate.key)
        .map_err(|error| format!("the certificate's key: {error}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| format!("the certificate: {error}"))?;
    Ok(Arc::new(config))
}

/// A client's bytes, whatever they came in.
pub(super) struct Transport(Box<dyn Duplex>);

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Transport {
    /// Takes TLS and WebSocket off, where the client has put them on.
    pub(super) async fn accept(
        socket: TcpStream,
        tls: Option<&Arc<ServerConfig>>,
    ) -> io::Result<Transport> {
        let accepting = async {
            let mut first = [0];
            socket.peek(&mut first).await?;
            match (first[0], tls) {
                (TLS_HANDSHAKE, Some(tls)) => {
                    let stream = TlsAcceptor::from(Arc::clone(tls)).accept(socket).await?;
                    Transport::within(BufReader::new(stream)).await
                }
                (TLS_HANDSHAKE, None) => {
                    let why = "a TLS client, and no certificate is configured";
                    Err(io::Error::other(why))
                }
                (b'G', _) => Transport::within(BufReader::new(socket)).await,
                _ => Ok(Transport(Box::new(socket))),
            }
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn within<S>(mut stream: BufReader<S>) -> io::Result<Transport>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if stream.fill_buf().await?.first() != Some(&b'G') {
            return Ok(Transport(Box::new(stream)));
        }
        let socket = tokio_tungstenite::accept_hdr_async(stream, shake_hands)
            .await
            .map_err(io::Error::other)?;
        let (sink, stream) = socket.split();
        let bytes = stream.filter_map(async |message| match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        });
        let sink = sink.with(async |bytes: Bytes| Ok::<_, Failed>(Message::Binary(bytes)));
        let reader = StreamReader::new(Box::pin(bytes));
        let writer = SinkWriter::new(CopyToBytes::new(Box::pin(sink)));
        Ok(Transport(Box::new(tokio::io::join(reader, writer))))
    }
}

/// Why a WebSocket takes no more.
struct Failed(tungstenite::Error);

impl From<tungstenite::Error> for Failed {
    fn from(error: tungstenite::Error) -> Failed {
        Failed(error)
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> io::Error {
        io::Error::other(failed.0)
    }
}

/// Answers a WebSocket's request as the service does: at one path, with one subprotocol.
#[expect(
    clippy::result_large_err,
    reason = "the type of the error is the handshake's"
)]
fn shake_hands(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    const PROTOCOL: &str = "sec-websocket-protocol";
    let wants_amqp = request.headers().get_all(PROTOCOL).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|name| name.trim() == "amqp"))
    });
    let status = if request.uri().path().trim_end_matches('/') != WEBSOCKET_PATH {
        StatusCode::NOT_FOUND
    } else if wants_amqp {
        let amqp = HeaderValue::from_static("amqp");
        response.headers_mut().insert(PROTOCOL, amqp);
        return Ok(response);
    } else {
        StatusCode::BAD_REQUEST
    };
    let mut refusal = ErrorResponse::new(None);
    *refusal.status_mut() = status;
    Err(refusal)
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
