//! Hubs and their partitions: bounded logs in memory.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fe2o3_amqp::Sendable;
use fe2o3_amqp_types::messaging::annotations::{AnnotationKey, OwnedKey};
use fe2o3_amqp_types::messaging::{Batch, Body, Data, Message, MessageAnnotations};
use fe2o3_amqp_types::primitives::{Binary, Symbol, Timestamp, Value};
use tokio::sync::watch;

use super::readers::Readers;
use super::selector::Selector;

/// A message as it lies in AMQP, with a body of any kind.
pub(super) type AmqpMessage = Message<Body<Value>>;

/// One hub to serve.
#[derive(Debug, Clone)]
pub struct HubConfig {
    pub name: String,
    /// At least 1; the ids are `0`, `1`, ….
    pub partitions: u32,
    /// The consumer groups that exist; empty lets clients read with any.
    pub consumer_groups: Vec<String>,
    pub retention: Retention,
}

impl HubConfig {
    /// A hub with any consumer group and the default retention.
    pub fn new(name: impl Into<String>, partitions: u32) -> HubConfig {
        HubConfig {
            name: name.into(),
            partitions,
            consumer_groups: Vec::new(),
            retention: Retention::default(),
        }
    }
}

/// What each partition keeps at most; the oldest events go first, the newest always stays.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub events: usize,
    pub bytes: usize,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            events: 1_000_000,
            bytes: 64 << 20,
        }
    }
}

/// A partition as `$management` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The oldest event still kept.
    pub begin_sequence_number: i64,
    /// −1 if there never was an event.
    pub last_enqueued_sequence_number: i64,
    /// −1 if there never was an event.
    pub last_enqueued_offset: i64,
    /// Milliseconds since 1970; 0 if there never was an event.
    pub last_enqueued_millis: i64,
    pub is_empty: bool,
}

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) config: HubConfig,
    partitions: Mutex<Vec<Arc<Partition>>>,
    next: AtomicU64,
}

impl Hub {
    pub(super) fn new(config: HubConfig) -> Hub {
        let hub = Hub {
            partitions: Mutex::default(),
            next: AtomicU64::new(0),
            config,
        };
        hub.grow(hub.config.partitions);
        hub
    }

    /// Adds partitions until there are `count`.
    pub(super) fn grow(&self, count: u32) {
        let mut partitions = lock(&self.partitions);
        for id in partitions.len()..count as usize {
            partitions.push(Arc::new(Partition::new(id, self.config.retention)));
        }
    }

    pub(super) fn has_group(&self, group: &str) -> bool {
        let groups = &self.config.consumer_groups;
        groups.is_empty() || groups.iter().any(|name| name.eq_ignore_ascii_case(group))
    }

    pub(super) fn partition_ids(&self) -> Vec<String> {
        lock(&self.partitions)
            .iter()
            .map(|p| p.id.clone())
            .collect()
    }

    pub(super) fn partition(&self, id: &str) -> Option<Arc<Partition>> {
        lock(&self.partitions).iter().find(|p| p.id == id).cloned()
    }

    /// The partition for a message to the hub: by its key's hash, or the next in turn.
    pub(super) fn partition_for(&self, key: Option<&str>) -> Arc<Partition> {
        let partitions = lock(&self.partitions);
        let number = match key {
            Some(key) => {
                let mut hasher = DefaultHasher::new();
                key.hash(&mut hasher);
                hasher.finish()
            }
            None => self.next.fetch_add(1, Ordering::Relaxed),
        };
        Arc::clone(&partitions[(number % partitions.len() as u64) as usize])
    }
}

/// An event in a log, ready to be sent.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) sequence_number: i64,
    offset: i64,
    enqueued_millis: i64,
    size: usize,
    pub(super) delivery: Sendable<Body<Value>>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: String,
    retention: Retention,
    log: Mutex<Log>,
    /// The sequence number that the next event gets.
    appended: watch::Sender<i64>,
    pub(super) readers: Arc<Readers>,
}

#[derive(Debug)]
struct Log {
    events: VecDeque<Arc<Event>>,
    next_sequence_number: i64,
    next_offset: i64,
    last_offset: i64,
    last_millis: i64,
    bytes: usize,
}

impl Partition {
    fn new(id: usize, retention: Retention) -> Partition {
        Partition {
            id: id.to_string(),
            retention,
            log: Mutex::new(Log {
                events: VecDeque::new(),
                next_sequence_number: 0,
                next_offset: 0,
                last_offset: -1,
                last_millis: 0,
                bytes: 0,
            }),
            appended: watch::Sender::new(0),
            readers: Arc::default(),
        }
    }

    /// Appends messages in one piece, each with its partition key.
    pub(super) fn append(&self, messages: Vec<(AmqpMessage, Option<String>)>) {
        self.append_at(messages, jiff::Timestamp::now());
    }

    /// As [`Partition::append`], as if it were `time`, or the last event's time if that is later.
    fn append_at(&self, messages: Vec<(AmqpMessage, Option<String>)>, time: jiff::Timestamp) {
        let mut log = lock(&self.log);
        for (message, key) in messages {
            let millis = time.as_millisecond().max(log.last_millis);
            log.push(message, key, millis);
        }
        while log.events.len() > 1
            && (log.events.len() > self.retention.events || log.bytes > self.retention.bytes)
        {
            if let Some(event) = log.events.pop_front() {
                log.bytes -= event.size;
            }
        }
        self.appended.send_replace(log.next_sequence_number);
    }

    /// Appends one event without AMQP, enqueued at `time`.
    pub(super) fn publish(&self, body: Bytes, time: jiff::Timestamp) {
        let data = Data(Binary::from(body.to_vec()));
        let body = Body::Data(Batch::new(vec![data]));
        let message = Message {
            header: None,
            delivery_annotations: None,
            message_annotations: None,
            properties: None,
            application_properties: None,
            body,
            footer: None,
        };
        self.append_at(vec![(message, None)], time);
    }

    pub(super) fn info(&self) -> PartitionInfo {
        let log = lock(&self.log);
        PartitionInfo {
            begin_sequence_number: log.begin(),
            last_enqueued_sequence_number: log.next_sequence_number - 1,
            last_enqueued_offset: log.last_offset,
            last_enqueued_millis: log.last_millis,
            is_empty: log.events.is_empty(),
        }
    }

    /// The sequence number from which a consumer with this selector is to be served.
    pub(super) fn first(&self, selector: Selector) -> i64 {
        let log = lock(&self.log);
        let after = |holds: &dyn Fn(&Event) -> bool| {
            log.begin() + log.events.partition_point(|event| holds(event)) as i64
        };
        match selector {
            Selector::Earliest => log.begin(),
            Selector::Latest => log.next_sequence_number,
            Selector::Offset { value, inclusive } => {
                after(&|e| e.offset < value || (!inclusive && e.offset == value))
            }
            Selector::SequenceNumber { value, inclusive } => {
                if inclusive {
                    value
                } else {
                    value.saturating_add(1)
                }
            }
            Selector::EnqueuedTime { millis, inclusive } => after(&|e| {
                e.enqueued_millis < millis || (!inclusive && e.enqueued_millis == millis)
            }),
        }
    }

    /// Up to `max` events from `from` on, or from the oldest kept if that is later.
    pub(super) fn read(&self, from: i64, max: usize) -> Vec<Arc<Event>> {
        let log = lock(&self.log);
        let skip = usize::try_from(from - log.begin()).unwrap_or(0);
        log.events.iter().skip(skip).take(max).cloned().collect()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<i64> {
        self.appended.subscribe()
    }
}

impl Log {
    fn begin(&self) -> i64 {
        self.next_sequence_number - self.events.len() as i64
    }

    fn push(&mut self, mut message: AmqpMessage, key: Option<String>, millis: i64) {
        /// What an event takes beside its body, roughly.
        const OVERHEAD: usize = 512;
        let size = body_len(&message.body) + OVERHEAD;
        let (sequence_number, offset) = (self.next_sequence_number, self.next_offset);

        let mut annotations = message.message_annotations.take().unwrap_or_default().0;
        let mut set = |name: &str, value: Value| {
            annotations.insert(OwnedKey::from(Symbol::from(name)), value);
        };
        set("x-opt-sequence-number", Value::Long(sequence_number));
        set("x-opt-offset", Value::String(offset.to_string()));
        set(
            "x-opt-enqueued-time",
            Value::Timestamp(Timestamp::from_milliseconds(millis)),
        );
        if let Some(key) = key {
            set(PARTITION_KEY, Value::String(key));
        }
        message.message_annotations = Some(MessageAnnotations(annotations));
        message.header = None;
        message.delivery_annotations = None;

        self.events.push_back(Arc::new(Event {
            sequence_number,
            offset,
            enqueued_millis: millis,
            size,
            delivery: Sendable {
                message,
                message_format: 0,
                // Unsettled deliveries whose disposition comes before `fe2o3-amqp` has noted them
                // would stay in its map for ever.
                settled: Some(true),
            },
        }));
        self.bytes += size;
        self.next_sequence_number += 1;
        self.next_offset += size as i64;
        self.last_offset = offset;
        self.last_millis = millis;
    }
}

fn body_len(body: &Body<Value>) -> usize {
    match body {
        Body::Data(parts) => parts.iter().map(|part| part.0.len()).sum(),
        Body::Value(_) | Body::Sequence(_) => serde_amqp::serialized_size(body).unwrap_or_default(),
        Body::Empty => 0,
    }
}

/// The annotation that carries a message's partition key.
const PARTITION_KEY: &str = "x-opt-partition-key";

/// The partition key of a message, which some clients send as binary.
pub(super) fn partition_key(message: &AmqpMessage) -> Option<String> {
    let annotations = &message.message_annotations.as_ref()?.0;
    let key = Symbol::from(PARTITION_KEY);
    match annotations.get(&key as &dyn AnnotationKey)? {
        Value::String(text) => Some(text.clone()),
        Value::Symbol(symbol) => Some(symbol.as_str().to_owned()),
        Value::Binary(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

/// Nothing here panics while it holds a lock, so a poisoned one is still sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
