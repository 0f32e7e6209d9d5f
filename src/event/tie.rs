//! What ties requests to one another: the traces that they share, and the part of each in them.
//!
//! Made by [`super::trace`] of an event, carried by a match, and followed by [`crate::alert::incident`].

use serde::{Deserialize, Serialize};

/// What a trace is of; closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// An identity: that of the actor, or one that the request made, empowered or took.
    Identity,
    /// An identity that many use, with the address it was used from.
    SharedIdentity,
    /// The id of a token or certificate.
    Credential,
    /// A pod, or the pod that a token is bound to.
    Pod,
    /// An object that was written.
    Object,
    /// A foreign address and the client that was used there.
    Address,
    /// Nothing that may be shared: the alert stands alone.
    Alert,
    /// A shared identity, for what nobody is woken for: it ties to what is near in time.
    Nearby,
    /// A pod whose token is used outside of the cluster: it ties to whoever reached into the pod
    /// before that began.
    CarriedOff,
}

/// One trace; `value` may hold anything an attacker wrote, bounded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Trace {
    pub kind: TraceKind,
    pub value: String,
}

/// What a request has to do with what it left the trace of; closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Acted as it, with it, from there.
    Acts,
    /// Acted as a workload or a person from outside, which ties it to no other such act. Each of a
    /// workload's tokens is known by an id of its own, and two that were stolen need not be one thief's;
    /// a person's other acts from outside have a tie of their own.
    Bears,
    /// Made it, or gave it rights.
    Made,
    /// Reached into it, changed it, got a token of it.
    Took,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Acts, Role::Bears, Role::Made, Role::Took];

    /// Whether a request of this role joins a later one of the other by the trace that they share.
    pub fn leads_to(self, later: Role) -> bool {
        match self {
            Role::Acts => later == Role::Acts,
            Role::Bears => false,
            Role::Made => later != Role::Made,
            Role::Took => matches!(later, Role::Acts | Role::Bears),
        }
    }
}

/// A trace by which a request is tied to others, and its part in that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tie {
    pub trace: Trace,
    pub role: Role,
}

/// A [`Tie`], borrowed; in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TieRef<'t> {
    pub kind: TraceKind,
    pub value: &'t str,
    pub role: Role,
}

impl From<TieRef<'_>> for Tie {
    fn from(TieRef { kind, value, role }: TieRef<'_>) -> Tie {
        let value = value.to_owned();
        Tie {
            trace: Trace { kind, value },
            role,
        }
    }
}

/// The ties of one event: in order, each once, their values in one piece of memory.
#[derive(Debug, Default)]
pub struct Ties {
    text: Box<str>,
    list: Box<[Kept]>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    kind: TraceKind,
    role: Role,
    /// Where the value lies in the text.
    range: [u32; 2],
}

impl Kept {
    fn tie<'t>(&self, text: &'t str) -> TieRef<'t> {
        let [start, end] = self.range.map(|at| at as usize);
        TieRef {
            kind: self.kind,
            value: &text[start..end],
            role: self.role,
        }
    }
}

impl Ties {
    pub fn iter(&self) -> impl Iterator<Item = TieRef<'_>> {
        self.list.iter().map(|kept| kept.tie(&self.text))
    }

    /// Bytes beside the value itself.
    pub fn held(&self) -> usize {
        self.text.len() + size_of_val(&*self.list)
    }
}

/// Puts [`Ties`] together; one that is used again needs no memory of its own.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
    list: Vec<Kept>,
}

/// Bytes of one value; longer ones are told apart by their beginning and length.
const MAX_VALUE: usize = 300;

impl Writer {
    /// The parts, one behind the other, are the value; an empty one is no trace.
    pub fn add(&mut self, role: Role, kind: TraceKind, parts: &[&str]) {
        let start = self.text.len();
        self.text.extend(parts.iter().copied());
        let length = self.text.len() - start;
        if length == 0 {
            return;
        }
        if length > MAX_VALUE {
            let kept = self.text[start..].floor_char_boundary(MAX_VALUE);
            self.text.truncate(start + kept);
            self.text.push_str(&format!("… ({length})"));
        }
        // Of a few values there are a few thousand bytes at most.
        let range = [start as u32, self.text.len() as u32];
        self.list.push(Kept { kind, role, range });
    }

    pub(super) fn account(&mut self, role: Role, namespace: &str, name: &str) {
        if !namespace.is_empty() && !name.is_empty() {
            let account = ["system:serviceaccount:", namespace, ":", name];
            self.add(role, TraceKind::Identity, &account);
        }
    }

    /// What was added, in order and each once; the writer is as new.
    pub fn finish(&mut self) -> Ties {
        let Writer { text, list } = self;
        list.sort_unstable_by(|a, b| a.tie(text).cmp(&b.tie(text)));
        list.dedup_by(|a, b| a.tie(text) == b.tie(text));
        let ties = Ties {
            text: text.as_str().into(),
            list: list.as_slice().into(),
        };
        text.clear();
        list.clear();
        ties
    }
}
