//! One client's connection: its sessions, and what each of their links is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, ListenerSessionHandle, SaslAnonymousMechanism,
    SessionAcceptor,
};
use fe2o3_amqp_types::definitions::{AmqpError, Error, ReceiverSettleMode, Role};
use fe2o3_amqp_types::messaging::{Target, TargetArchetype};
use fe2o3_amqp_types::performatives::Attach;
use fe2o3_amqp_types::primitives::{Symbol, Value};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;

use super::address::Address;
use super::consumer::DETACH_TIMEOUT;
use super::frames::PaddedStream;
use super::hub::{Hub, Partition};
use super::node::{Node, ReplyLinks, serve_replies, serve_requests};
use super::readers::Registration;
use super::selector::Selector;
use super::server::{Ending, Shared};
use super::steps::Tap;
use super::transport::Transport;
use super::{consumer, producer};

/// The largest message the service takes on its lower tiers.
const MAX_MESSAGE_SIZE: u64 = 1024 * 1024;

const MAX_FRAME_SIZE: u32 = 64 * 1024;

/// Limits that differ from the protocol's defaults, because `fe2o3-amqp` sends a default as null
/// and the Python client compares with it.
const CHANNEL_MAX: u16 = 4999;
const HANDLE_MAX: u32 = 255;

/// Serves a connection until either side closes it.
pub(super) async fn serve(
    socket: TcpStream,
    second: Arc<std::net::TcpStream>,
    shared: Arc<Shared>,
) {
    let transport = match Transport::accept(socket, shared.tls.as_ref()).await {
        Ok(transport) => transport,
        Err(error) => {
            tracing::debug!(%error, "a client did not come as far as AMQP");
            return;
        }
    };
    let tap = Tap::new(Arc::clone(&shared.faults), Some(second));
    let acceptor = ConnectionAcceptor::builder()
        .container_id("lanner-emulator")
        .max_frame_size(MAX_FRAME_SIZE)
        .channel_max(CHANNEL_MAX)
        .sasl_acceptor(SaslAnonymousMechanism::new())
        .build();
    let mut connection = match acceptor
        .accept(PaddedStream::new(transport, Some(tap)))
        .await
    {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "a client did not open its connection");
            return;
        }
    };
    let authorized = Arc::new(AtomicBool::new(false));
    let sessions = SessionAcceptor::builder().handle_max(HANDLE_MAX).build();
    let mut endings = shared.endings.subscribe();
    loop {
        let incoming = tokio::select! {
            incoming = connection.next_incoming_session() => incoming,
            ending = endings.recv() => match ending {
                Ok(Ending::Connections(error)) => {
                    let closing = connection.close_with_error(error);
                    let _ = tokio::time::timeout(DETACH_TIMEOUT, closing).await;
                    return;
                }
                Ok(Ending::Sessions(_)) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
        };
        let Some(incoming) = incoming else { break };
        match sessions
            .accept_incoming_session(incoming, &mut connection)
            .await
        {
            Ok(session) => {
                let session = serve_session(session, Arc::clone(&shared), Arc::clone(&authorized));
                shared.tracker.spawn(session);
            }
            Err(error) => tracing::debug!(%error, "a session was not begun"),
        }
    }
    let _ = connection.on_close().await;
}

async fn serve_session(
    mut session: ListenerSessionHandle,
    shared: Arc<Shared>,
    authorized: Arc<AtomicBool>,
) {
    let acceptor = |max_message_size: u64| {
        LinkAcceptor::builder()
            .max_message_size(max_message_size)
            .verify_incoming_source(false)
            .verify_incoming_target(false)
            .build()
    };
    // What lies in a hub is delivered, whatever its size.
    let (takes, gives) = (acceptor(MAX_MESSAGE_SIZE), acceptor(0));
    let replies = Arc::new(ReplyLinks::default());
    let mut endings = shared.endings.subscribe();
    loop {
        let attach = tokio::select! {
            attach = session.next_incoming_attach() => attach,
            ending = endings.recv() => match ending {
                Ok(Ending::Sessions(error)) => {
                    let ending = session.end_with_error(error);
                    let _ = tokio::time::timeout(DETACH_TIMEOUT, ending).await;
                    return;
                }
                Ok(Ending::Connections(_)) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
        };
        let Some(mut attach) = attach else { return };
        // The Python client asks for `second` and then ignores the dispositions that follow.
        attach.rcv_settle_mode = ReceiverSettleMode::First;
        if attach.target.is_none() {
            let target = TargetArchetype::Target(Target::default());
            attach.target = Some(Box::new(target));
        }
        let purpose = Purpose::of(&attach, &shared, authorized.load(Ordering::Relaxed)).await;
        let acceptor = match attach.role {
            Role::Sender => &takes,
            Role::Receiver => &gives,
        };
        let endpoint = match acceptor.accept_incoming_attach(attach, &mut session).await {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::debug!(%error, "a link was not attached");
                continue;
            }
        };
        match (endpoint, purpose) {
            (LinkEndpoint::Sender(sender), Ok(Purpose::Replies { node, address })) => {
                let answers = replies.add(node, address);
                shared.tracker.spawn(serve_replies(sender, node, answers));
            }
            (LinkEndpoint::Receiver(receiver), Ok(Purpose::Requests { node })) => {
                let (replies, authorized) = (Arc::clone(&replies), Arc::clone(&authorized));
                let shared_of_link = Arc::clone(&shared);
                shared.tracker.spawn(serve_requests(
                    receiver,
                    node,
                    replies,
                    shared_of_link,
                    authorized,
                ));
            }
            (LinkEndpoint::Sender(sender), Ok(Purpose::Consumer(consumer))) => {
                let Consumer {
                    registration,
                    partition,
                    first,
                } = *consumer;
                let faults = Arc::clone(&shared.faults);
                shared.tracker.spawn(consumer::serve(
                    sender,
                    registration,
                    partition,
                    first,
                    faults,
                ));
            }
            (LinkEndpoint::Receiver(receiver), Ok(Purpose::Producer { hub, partition })) => {
                let (faults, tracker) = (Arc::clone(&shared.faults), shared.tracker.clone());
                shared
                    .tracker
                    .spawn(producer::serve(receiver, hub, partition, faults, tracker));
            }
            (endpoint, purpose) => {
                let error = purpose
                    .err()
                    .unwrap_or_else(|| Error::new(AmqpError::InternalError, None, None));
                shared.tracker.spawn(refuse(endpoint, error));
            }
        }
    }
}

/// Attaches and closes at once, which is how the service says no.
async fn refuse(endpoint: LinkEndpoint, error: Error) {
    tracing::debug!(%error, "a link was refused");
    let closing = async {
        match endpoint {
            LinkEndpoint::Sender(sender) => sender.close_with_error(error).await,
            LinkEndpoint::Receiver(receiver) => receiver.close_with_error(error).await,
        }
    };
    let _ = tokio::time::timeout(DETACH_TIMEOUT, closing).await;
}

/// What a link is for.
enum Purpose {
    Requests {
        node: Node,
    },
    Replies {
        node: Node,
        address: Option<String>,
    },
    Consumer(Box<Consumer>),
    Producer {
        hub: Arc<Hub>,
        partition: Option<Arc<Partition>>,
    },
}

struct Consumer {
    registration: Registration,
    partition: Arc<Partition>,
    first: i64,
}

impl Purpose {
    /// Decides what an attach asks for, with the service's error where it cannot have it.
    async fn of(attach: &Attach, shared: &Shared, authorized: bool) -> Result<Purpose, Error> {
        let target = match attach.target.as_deref() {
            Some(TargetArchetype::Target(target)) => target.address.clone(),
            _ => None,
        };
        let source = attach.source.as_deref();
        let named = match attach.role {
            Role::Sender => target.clone(),
            Role::Receiver => source.and_then(|source| source.address.clone()),
        }
        .unwrap_or_default();
        let address = Address::parse(&named).ok_or_else(|| not_found(&named))?;
        let receives = attach.role == Role::Receiver;
        match address {
            Address::Cbs | Address::Management => {
                let node = match address {
                    Address::Cbs => Node::Cbs,
                    _ => Node::Management,
                };
                Ok(if receives {
                    Purpose::Replies {
                        node,
                        address: target,
                    }
                } else {
                    Purpose::Requests { node }
                })
            }
            _ if !authorized => Err(Error::new(
                AmqpError::UnauthorizedAccess,
                Some(format!(
                    "Unauthorized access. No token was put for {named}."
                )),
                None,
            )),
            Address::Hub { hub, partition } if !receives => {
                let hub = shared.hub(&hub).ok_or_else(|| not_found(&named))?;
                let partition = match partition {
                    Some(id) => Some(hub.partition(&id).ok_or_else(|| no_partition(&id))?),
                    None => None,
                };
                Ok(Purpose::Producer { hub, partition })
            }
            Address::Consumer {
                hub,
                group,
                partition,
            } if receives => {
                let hub = shared.hub(&hub).ok_or_else(|| not_found(&named))?;
                if !hub.has_group(&group) {
                    return Err(not_found(&named));
                }
                let partition = hub
                    .partition(&partition)
                    .ok_or_else(|| no_partition(&partition))?;
                let selector = source.map_or(Ok(Selector::Earliest), Selector::of_source);
                let selector =
                    selector.map_err(|why| Error::new(AmqpError::InvalidField, Some(why), None))?;
                if let Some(error) = shared.faults.refuses_receiver() {
                    return Err(error);
                }
                let name = property(attach, "com.microsoft.com:receiver-name");
                let name = match name {
                    Some(Value::String(name)) => name.as_str(),
                    _ => "nil",
                };
                let epoch = property(attach, "com.microsoft:epoch").and_then(integer);
                let registration = partition.readers.register(&group, epoch, name).await?;
                Ok(Purpose::Consumer(Box::new(Consumer {
                    registration,
                    first: partition.first(selector),
                    partition,
                })))
            }
            _ => Err(not_found(&named)),
        }
    }
}

fn property<'a>(attach: &'a Attach, name: &str) -> Option<&'a Value> {
    attach.properties.as_ref()?.get(&Symbol::from(name))
}

fn integer(value: &Value) -> Option<i64> {
    match *value {
        Value::Long(number) => Some(number),
        Value::Int(number) => Some(number.into()),
        Value::Uint(number) => Some(number.into()),
        Value::Ulong(number) => i64::try_from(number).ok(),
        _ => None,
    }
}

fn not_found(entity: &str) -> Error {
    Error::new(
        AmqpError::NotFound,
        Some(format!(
            "The messaging entity '{entity}' could not be found."
        )),
        None,
    )
}

fn no_partition(id: &str) -> Error {
    Error::new(
        AmqpError::InvalidField,
        Some(format!(
            "The specified partition is invalid for an EventHub partition sender or receiver: {id:?}."
        )),
        None,
    )
}
