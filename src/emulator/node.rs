//! The nodes `$cbs` and `$management`: a request link, a reply link, and an answer for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fe2o3_amqp::{Receiver, Sendable, Sender};
use fe2o3_amqp_types::messaging::{AmqpValue, ApplicationProperties, Body, Message, Properties};
use fe2o3_amqp_types::primitives::{Array, OrderedMap, SimpleValue, Timestamp, Value};
use tokio::sync::{mpsc, watch};

use super::consumer::echo_detach;
use super::faults::SERVER_BUSY;
use super::hub::AmqpMessage;
use super::producer::ANSWER_DELAY;
use super::server::Shared;

/// How long the links of `$cbs` stay after an answer. The Rust client detaches and ends its session
/// in one breath; a detach that is answered before its End has arrived reaches a session that no
/// longer exists there, and the client closes the connection.
const CBS_DETACH_DELAY: Duration = Duration::from_millis(100);

/// How long an answer waits for its reply link to be attached.
const REPLY_LINK_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Cbs,
    Management,
}

/// The reply links of one session.
#[derive(Debug, Default)]
pub(super) struct ReplyLinks(watch::Sender<Vec<ReplyLink>>);

#[derive(Debug, Clone)]
struct ReplyLink {
    node: Node,
    /// The address that requests name as reply-to; the Python client leaves it out.
    address: Option<String>,
    answers: mpsc::Sender<AmqpMessage>,
}

impl ReplyLinks {
    pub(super) fn add(&self, node: Node, address: Option<String>) -> mpsc::Receiver<AmqpMessage> {
        let (answers, to_send) = mpsc::channel(16);
        self.0.send_modify(|links| {
            links.push(ReplyLink {
                node,
                address,
                answers,
            });
        });
        to_send
    }

    /// The newest link of the node, one with the wanted address before others.
    async fn find(&self, node: Node, reply_to: Option<&str>) -> Option<mpsc::Sender<AmqpMessage>> {
        let pick = |links: &Vec<ReplyLink>| {
            let mut of_node = links
                .iter()
                .rev()
                .filter(|link| link.node == node && !link.answers.is_closed());
            let newest = of_node.clone().next();
            let named =
                of_node.find(|link| reply_to.is_some() && link.address.as_deref() == reply_to);
            named.or(newest).map(|link| link.answers.clone())
        };
        let mut links = self.0.subscribe();
        let found = links.wait_for(|links| pick(links).is_some());
        let links = tokio::time::timeout(REPLY_LINK_TIMEOUT, found)
            .await
            .ok()?
            .ok()?;
        pick(&links)
    }
}

/// Sends answers until the client detaches the link or the connection goes.
pub(super) async fn serve_replies(
    mut sender: Sender,
    node: Node,
    mut answers: mpsc::Receiver<AmqpMessage>,
) {
    loop {
        tokio::select! {
            answer = answers.recv() => {
                let Some(message) = answer else { return };
                let sendable = Sendable { message, message_format: 0, settled: Some(true) };
                if sender.send_batchable(sendable).await.is_err() {
                    return;
                }
            }
            detached = sender.on_detach() => {
                if node == Node::Cbs {
                    tokio::time::sleep(CBS_DETACH_DELAY).await;
                }
                return echo_detach(sender, &detached).await;
            }
        }
    }
}

/// Answers requests until the client detaches the link or the connection goes.
pub(super) async fn serve_requests(
    mut receiver: Receiver,
    node: Node,
    replies: Arc<ReplyLinks>,
    shared: Arc<Shared>,
    authorized: Arc<AtomicBool>,
) {
    while let Ok(delivery) = receiver.recv::<Body<Value>>().await {
        let (info, request) = delivery.into_parts();
        tokio::time::sleep(ANSWER_DELAY).await;
        if receiver.accept(info).await.is_err() {
            return;
        }
        shared.faults.answers_flow().await;
        let answer = match node {
            Node::Cbs if shared.faults.refuses_tokens() => Answer::error(
                401,
                "amqp:unauthorized-access",
                "InvalidSignature: The token has an invalid signature.",
            ),
            Node::Cbs => {
                authorized.store(true, Ordering::Relaxed);
                Answer::status(202, "Accepted")
            }
            Node::Management => match shared.faults.throttled() {
                Some(why) => Answer::error(503, SERVER_BUSY, &why),
                None => manage(&request, &shared),
            },
        };
        let properties = request.properties.unwrap_or_default();
        let reply_to = properties.reply_to.clone();
        let message = answer.into_message(properties);
        if let Some(link) = replies.find(node, reply_to.as_deref()).await {
            let _ = link.send(message).await;
        }
        if node == Node::Cbs {
            tokio::time::sleep(CBS_DETACH_DELAY).await;
        }
    }
}

/// READ of a hub or a partition.
fn manage(request: &AmqpMessage, shared: &Shared) -> Answer {
    let property = |name: &str| text_property(request, name);
    let not_found = |what: String| Answer::error(404, "amqp:not-found", &what);
    let (Some(operation), Some(kind), Some(name)) =
        (property("operation"), property("type"), property("name"))
    else {
        return Answer::error(
            400,
            "amqp:invalid-field",
            "operation, type and name are required",
        );
    };
    if operation != "READ" {
        return Answer::error(
            501,
            "amqp:not-implemented",
            &format!("no operation {operation}"),
        );
    }
    let Some(hub) = shared.hub(&name) else {
        return not_found(format!("The messaging entity '{name}' could not be found."));
    };
    match kind.as_str() {
        "com.microsoft:eventhub" => {
            let ids = hub.partition_ids();
            Answer::body(vec![
                ("type", Value::String(kind)),
                ("name", Value::String(name)),
                ("created_at", timestamp(shared.created_millis)),
                ("partition_count", Value::Int(ids.len() as i32)),
                (
                    "partition_ids",
                    Value::Array(Array(ids.into_iter().map(Value::String).collect())),
                ),
            ])
        }
        "com.microsoft:partition" => {
            let id = property("partition").unwrap_or_default();
            let Some(partition) = hub.partition(&id) else {
                return not_found(format!("the hub {name} has no partition {id:?}"));
            };
            let info = partition.info();
            Answer::body(vec![
                ("type", Value::String(kind)),
                ("name", Value::String(name)),
                ("partition", Value::String(id)),
                (
                    "begin_sequence_number",
                    Value::Long(info.begin_sequence_number),
                ),
                ("begin_sequence_number_epoch", Value::Long(0)),
                (
                    "last_enqueued_sequence_number",
                    Value::Long(info.last_enqueued_sequence_number),
                ),
                ("last_enqueued_sequence_number_epoch", Value::Long(0)),
                (
                    "last_enqueued_offset",
                    Value::String(info.last_enqueued_offset.to_string()),
                ),
                (
                    "last_enqueued_time_utc",
                    timestamp(info.last_enqueued_millis),
                ),
                ("is_partition_empty", Value::Bool(info.is_empty)),
            ])
        }
        other => Answer::error(400, "amqp:not-implemented", &format!("no type {other}")),
    }
}

fn timestamp(millis: i64) -> Value {
    Value::Timestamp(Timestamp::from_milliseconds(millis))
}

fn text_property(request: &AmqpMessage, name: &str) -> Option<String> {
    let properties = &request.application_properties.as_ref()?.0;
    match properties.get(name)? {
        SimpleValue::String(text) => Some(text.clone()),
        SimpleValue::Symbol(symbol) => Some(symbol.as_str().to_owned()),
        SimpleValue::Binary(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}

struct Answer {
    code: i32,
    description: String,
    condition: Option<&'static str>,
    body: Value,
}

impl Answer {
    fn status(code: i32, description: &str) -> Answer {
        Answer {
            code,
            description: description.to_owned(),
            condition: None,
            body: Value::Null,
        }
    }

    fn error(code: i32, condition: &'static str, description: &str) -> Answer {
        Answer {
            condition: Some(condition),
            ..Answer::status(code, description)
        }
    }

    fn body(entries: Vec<(&str, Value)>) -> Answer {
        let map: OrderedMap<Value, Value> = entries
            .into_iter()
            .map(|(key, value)| (Value::String(key.to_owned()), value))
            .collect();
        Answer {
            body: Value::Map(map),
            ..Answer::status(200, "OK")
        }
    }

    /// The answer to a request with these properties.
    fn into_message(self, request: Properties) -> AmqpMessage {
        let mut properties = ApplicationProperties::builder()
            .insert("status-code", SimpleValue::Int(self.code))
            .insert("status-description", SimpleValue::String(self.description));
        if let Some(condition) = self.condition {
            properties =
                properties.insert("error-condition", SimpleValue::Symbol(condition.into()));
        }
        // The Rust client reads the body as a map before it looks at the status.
        let body = match (self.body, self.condition) {
            (Value::Null, Some(_)) => Value::Map(OrderedMap::new()),
            (body, _) => body,
        };
        Message {
            header: None,
            delivery_annotations: None,
            message_annotations: None,
            properties: Some(Properties {
                to: request.reply_to,
                correlation_id: request.message_id,
                ..Properties::default()
            }),
            application_properties: Some(properties.build()),
            body: Body::Value(AmqpValue(body)),
            footer: None,
        }
    }
}
