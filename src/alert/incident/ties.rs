//! What ties a finding to others: the traces of its event that count, and what it did to an object.
//!
//! [`super::state`] joins findings that share a tie.

use super::state::Finding;
use crate::alert::Severity;
use crate::detect::matches::{Digest128, StateKey};
use crate::detect::occurrence::Whom;
use crate::event::tie::{Role, Tie, Trace, TraceKind};

/// What ties a finding to others. What nobody is woken for is tied by who did it from where only, and
/// to what is near in time ([`reach`]): people restart one another's workloads all day, and an object that an intruder touched too must not
/// make one incident of them all. Nor is that enough where it is the actor's everyday work: who goes
/// wrong at noon has worked all morning. That is tied by what the actor did to the same object from
/// the same place besides, and by a foreign address.
pub(super) fn joining(finding: &Finding<'_>) -> Vec<Tie> {
    let occurrence = &finding.found.occurrence;
    let user = occurrence.user();
    let told = finding.found.severity >= Severity::Medium;
    let usual = finding.found.usual && !told;
    let joins = |kind: TraceKind| match kind {
        TraceKind::Address => true,
        TraceKind::SharedIdentity | TraceKind::Credential => !usual,
        _ => told,
    };
    let mut joining: Vec<Tie> = occurrence
        .ties()
        .filter(|tie| joins(tie.kind))
        .map(Tie::from)
        .collect();
    let acts = |kind, value| Tie {
        trace: Trace { kind, value },
        role: Role::Acts,
    };
    let from = |Whom { user, address }: &Whom| {
        let value = format!("{user} from {address}");
        (!address.is_empty()).then(|| acts(TraceKind::SharedIdentity, value))
    };
    joining.extend(finding.found.on_behalf_of.iter().filter_map(from));
    if let Some(whom) = occurrence.someone() {
        if !usual {
            joining.extend(from(&whom));
        }
        let Whom { user, address } = whom;
        let object = occurrence.object();
        // Which of many objects was one too many is chance.
        let of_many = matches!(
            finding.found.state,
            StateKey::Count {
                distinct: Some(_),
                ..
            }
        );
        if (usual || told) && !of_many && !object.name.is_empty() {
            let (kind, namespace, name) = (object.resource, object.namespace, object.name);
            joining.push(acts(
                TraceKind::Object,
                format!("{kind} {namespace}/{name} by {user} from {address}"),
            ));
        }
    }
    if joining.is_empty() {
        joining.push(acts(
            TraceKind::Alert,
            format!("{} {user}", finding.found.fingerprint.hex()),
        ));
    }
    let nearby: Vec<Tie> = joining
        .iter()
        .filter(|tie| tie.trace.kind == TraceKind::SharedIdentity)
        .map(|Tie { trace, role }| Tie {
            trace: Trace {
                kind: TraceKind::Nearby,
                value: trace.value.clone(),
            },
            role: *role,
        })
        .collect();
    if !told {
        joining.retain(|tie| tie.trace.kind != TraceKind::SharedIdentity);
    }
    joining.extend(nearby);
    joining.sort();
    joining.dedup();
    joining
}

/// How far apart findings may be that a trace ties, in seconds, where `window` is the widest.
pub(super) fn reach(kind: TraceKind, window: i64) -> i64 {
    match kind {
        TraceKind::Nearby => window / 6,
        _ => window,
    }
}

pub(super) fn digest(cluster: &str, trace: &Trace) -> Digest128 {
    Digest128::of([
        cluster.as_bytes(),
        &[trace.kind as u8],
        trace.value.as_bytes(),
    ])
}

/// Stands for a tie: the trace's digest, which is worked out once, with the role in it.
pub(super) fn of_role(trace: Digest128, role: Role) -> Digest128 {
    Digest128(trace.0 ^ role as u128)
}
