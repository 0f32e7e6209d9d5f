//! The emulator as a whole: listens, owns hubs and connections, and ends all of it.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fe2o3_amqp_types::definitions::Error;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::faults::{Faults, on_purpose};
use super::hub::{Hub, HubConfig, Partition, PartitionInfo, lock};
use super::readers::stolen;
use super::steps::{Break, Step, reset_when_dropped};
use super::transport::{self, Certificate};

/// How long connections may take to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to listen and what to serve.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// Port 0 takes any free one; see [`Emulator::local_addr`].
    pub listen: SocketAddr,
    pub hubs: Vec<HubConfig>,
}

#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no TLS: {0}")]
    Tls(String),
    #[error("the hub {0:?} needs at least one partition")]
    NoPartition(String),
    #[error("the hub {0:?} is given twice")]
    Twice(String),
    #[error("there is no hub {0:?}")]
    NoHub(String),
    #[error("the hub {hub:?} has no partition {partition:?}")]
    UnknownPartition { hub: String, partition: String },
}

/// A running emulator; dropping it leaves it running until the runtime ends, so shut it down.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    cancel: CancellationToken,
}

/// What connections share.
#[derive(Debug)]
pub(super) struct Shared {
    hubs: HashMap<String, Arc<Hub>>,
    pub(super) created_millis: i64,
    pub(super) faults: Arc<Faults>,
    pub(super) tracker: TaskTracker,
    pub(super) endings: broadcast::Sender<Ending>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    connections: Mutex<Connections>,
}

/// A second handle on each socket, to cut it from outside.
#[derive(Debug, Default)]
struct Connections {
    last_id: u64,
    open: HashMap<u64, Arc<std::net::TcpStream>>,
}

/// What every connection is to end in order, with an error.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Connections(Error),
    Sessions(Error),
}

impl Shared {
    /// The hub of this name, which the service compares without case.
    pub(super) fn hub(&self, name: &str) -> Option<Arc<Hub>> {
        self.hubs.get(&name.to_ascii_lowercase()).cloned()
    }
}

impl Emulator {
    /// Listens and serves until [`Emulator::shutdown`].
    pub async fn start(config: EmulatorConfig) -> Result<Emulator, EmulatorError> {
        Emulator::start_with(config, None).await
    }

    /// As [`Emulator::start`], and takes TLS on the same port.
    pub async fn start_tls(
        config: EmulatorConfig,
        certificate: &Certificate,
    ) -> Result<Emulator, EmulatorError> {
        let tls = transport::server_config(certificate).map_err(EmulatorError::Tls)?;
        Emulator::start_with(config, Some(tls)).await
    }

    async fn start_with(
        config: EmulatorConfig,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Emulator, EmulatorError> {
        let mut hubs = HashMap::new();
        for hub in config.hubs {
            let name = hub.name.clone();
            if hub.partitions == 0 {
                return Err(EmulatorError::NoPartition(name));
            }
            let key = name.to_ascii_lowercase();
            if hubs.insert(key, Arc::new(Hub::new(hub))).is_some() {
                return Err(EmulatorError::Twice(name));
            }
        }
        let listen_error = |source| EmulatorError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let shared = Arc::new(Shared {
            hubs,
            created_millis: jiff::Timestamp::now().as_millisecond(),
            faults: Arc::default(),
            tracker: TaskTracker::new(),
            endings: broadcast::Sender::new(8),
            tls,
            connections: Mutex::default(),
        });
        let cancel = CancellationToken::new();
        shared
            .tracker
            .spawn(accept(listener, Arc::clone(&shared), cancel.clone()));
        Ok(Emulator {
            shared,
            address,
            cancel,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What clients take as their custom endpoint: `amqp://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("amqp://{}", self.address)
    }

    /// As [`Emulator::endpoint`], for clients that speak TLS or, always in TLS, WebSockets.
    pub fn tls_endpoint(&self) -> String {
        format!("amqps://{}", self.address)
    }

    /// A connection string that Microsoft's clients take; any key is accepted.
    pub fn connection_string(&self) -> String {
        format!(
            "Endpoint=sb://{};SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=bGFubmVy;UseDevelopmentEmulator=true;",
            self.address
        )
    }

    /// Appends an event without AMQP.
    pub fn publish(&self, hub: &str, partition: &str, body: Bytes) -> Result<(), EmulatorError> {
        self.publish_at(hub, partition, body, jiff::Timestamp::now())
    }

    /// Appends an event as if it were `time` now; a partition's times never go back.
    pub fn publish_at(
        &self,
        hub: &str,
        partition: &str,
        body: Bytes,
        time: jiff::Timestamp,
    ) -> Result<(), EmulatorError> {
        self.partition(hub, partition)?.publish(body, time);
        Ok(())
    }

    pub fn partition_info(
        &self,
        hub: &str,
        partition: &str,
    ) -> Result<PartitionInfo, EmulatorError> {
        Ok(self.partition(hub, partition)?.info())
    }

    /// Adds partitions to a hub until it has `count`.
    pub fn grow(&self, hub: &str, count: u32) -> Result<(), EmulatorError> {
        self.hub(hub)?.grow(count);
        Ok(())
    }

    /// Ends all consumers' links to the partition as if another had taken it; returns how many.
    pub fn steal_links(&self, hub: &str, partition: &str) -> Result<usize, EmulatorError> {
        let error = stolen("New receiver 'other' with higher epoch is created hence current receiver is getting disconnected.".to_owned());
        Ok(self.partition(hub, partition)?.readers.end_links(&error))
    }

    /// Ends all consumers' links to the partition with any condition, as `amqp:internal-error`;
    /// returns how many.
    pub fn detach_links(
        &self,
        hub: &str,
        partition: &str,
        condition: &str,
    ) -> Result<usize, EmulatorError> {
        let error = on_purpose(condition);
        Ok(self.partition(hub, partition)?.readers.end_links(&error))
    }

    /// Ends all sessions with any condition; returns how many connections and sessions heard of it.
    pub fn end_sessions(&self, condition: &str) -> usize {
        self.end(Ending::Sessions(on_purpose(condition)))
    }

    /// Closes all connections with any condition, as `amqp:connection:forced`; returns how many
    /// connections and sessions heard of it.
    pub fn close_connections(&self, condition: &str) -> usize {
        self.end(Ending::Connections(on_purpose(condition)))
    }

    fn end(&self, ending: Ending) -> usize {
        // Without a connection there is nothing to end.
        self.shared.endings.send(ending).unwrap_or(0)
    }

    /// Cuts all connections without a word; returns how many.
    pub fn drop_connections(&self) -> usize {
        let open = std::mem::take(&mut lock(&self.shared.connections).open);
        for socket in open.values() {
            // A socket that the client has closed meanwhile cannot be cut, and need not be.
            let _ = socket.shutdown(Shutdown::Both);
        }
        open.len()
    }

    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Cuts all connections, stops listening and waits for the tasks to end.
    pub async fn shutdown(self) {
        self.cancel.cancel();
        self.drop_connections();
        self.shared.faults.stall_answers(false);
        self.shared.faults.stall_deliveries(false);
        self.shared.tracker.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.shared.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!("some of the emulator's connections did not end in time");
        }
    }

    fn hub(&self, hub: &str) -> Result<Arc<Hub>, EmulatorError> {
        self.shared
            .hub(hub)
            .ok_or_else(|| EmulatorError::NoHub(hub.to_owned()))
    }

    fn partition(&self, hub: &str, partition: &str) -> Result<Arc<Partition>, EmulatorError> {
        self.hub(hub)?
            .partition(partition)
            .ok_or_else(|| EmulatorError::UnknownPartition {
                hub: hub.to_owned(),
                partition: partition.to_owned(),
            })
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, cancel: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if shared.faults.refuses_connections() {
            continue;
        }
        let broken = shared.faults.take(Step::Connect);
        match register(socket, &shared) {
            Ok((id, socket, second)) => {
                tracing::debug!(%peer, "connection accepted");
                let (shared_of_task, cancel) = (Arc::clone(&shared), cancel.clone());
                shared.tracker.spawn(async move {
                    let serving = async {
                        match broken {
                            None => {
                                connection::serve(socket, second, Arc::clone(&shared_of_task))
                                    .await;
                            }
                            Some(Break::Reset) => reset_when_dropped(&second),
                            Some(Break::Close) => {}
                            Some(Break::Silence) => swallow(socket).await,
                        }
                    };
                    tokio::select! {
                        () = serving => {}
                        () = cancel.cancelled() => {}
                    }
                    lock(&shared_of_task.connections).open.remove(&id);
                });
            }
            Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
        }
    }
}

/// Keeps a second handle on the socket.
fn register(
    socket: TcpStream,
    shared: &Shared,
) -> io::Result<(u64, TcpStream, Arc<std::net::TcpStream>)> {
    socket.set_nodelay(true)?;
    let socket = socket.into_std()?;
    let second = Arc::new(socket.try_clone()?);
    let socket = TcpStream::from_std(socket)?;
    let mut connections = lock(&shared.connections);
    connections.last_id += 1;
    let id = connections.last_id;
    connections.open.insert(id, Arc::clone(&second));
    Ok((id, socket, second))
}

/// Reads until the peer ends, and never says a word.
async fn swallow(mut socket: TcpStream) {
    let mut space = [0; 4096];
    while socket.read(&mut space).await.is_ok_and(|read| read > 0) {}
}

/// `lanner emulator`: serves until `cancel`, after a line on standard output that says where.
pub async fn run_cli(
    listen: SocketAddr,
    hubs: Vec<HubConfig>,
    certificate: Option<Certificate>,
    cancel: CancellationToken,
) -> Result<(), EmulatorError> {
    let config = EmulatorConfig { listen, hubs };
    let emulator = match &certificate {
        Some(certificate) => Emulator::start_tls(config, certificate).await?,
        None => Emulator::start(config).await?,
    };
    println!("{}", emulator.connection_string());
    cancel.cancelled().await;
    emulator.shutdown().await;
    Ok(())
}
