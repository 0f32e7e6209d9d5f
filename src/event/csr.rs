//! Certificates that are asked for: whom they would name, what for, and whether someone approves.
//!
//! Read from the certificate signing request in the body: `spec.request` is the base64 of a PEM
//! that holds a PKCS #10 request.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::fact::{Fact, Group};
use super::field::FieldValue;
use super::json::Json;
use super::view::{Object, View};
use super::{FactSet, Truth, object};

/// Signers whose certificates identify clients to the API server.
const CLIENT_SIGNERS: &[&str] = &[
    "kubernetes.io/kube-apiserver-client",
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/legacy-unknown",
];

/// Names that AKS or an installer gave its own clients.
const PRIVILEGED_NAMES: &[&str] = &[
    "acsService",
    "aksService",
    "clusterAdmin",
    "hcpService",
    "kubernetes-admin",
    "kubernetes-super-admin",
    "masterclient",
    "nodeclient",
];

/// Who the certificate would name.
#[derive(Debug, Default, PartialEq)]
struct Subject {
    names: Vec<String>,
    groups: Vec<String>,
}

impl Subject {
    fn of(request: &Json<'_>) -> Option<Subject> {
        let text = request.at(&["spec", "request"]).as_str()?;
        let pem = STANDARD.decode(text.trim()).ok()?;
        let (_, pem) = parse_x509_pem(&pem).ok()?;
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &parsed.certification_request_info.subject;
        let texts =
            |values: Vec<Option<&str>>| values.into_iter().flatten().map(str::to_owned).collect();
        Some(Subject {
            names: texts(
                subject
                    .iter_common_name()
                    .map(|v| v.as_str().ok())
                    .collect(),
            ),
            groups: texts(
                subject
                    .iter_organization()
                    .map(|v| v.as_str().ok())
                    .collect(),
            ),
        })
    }

    fn is_node(&self) -> bool {
        self.names
            .iter()
            .any(|name| name.starts_with("system:node:"))
            && self.groups.iter().all(|group| group == "system:nodes")
    }

    fn is_privileged(&self) -> bool {
        !self.is_node()
            && (self.groups.iter().any(|group| group.starts_with("system:"))
                || self.names.iter().any(|name| {
                    name.starts_with("system:") || PRIVILEGED_NAMES.contains(&name.as_str())
                }))
    }
}

pub(super) fn csr_facts(view: &View<'_>, facts: &mut FactSet) {
    if view.resource() != "certificatesigningrequests" {
        for fact in Group::Csr.mask().iter() {
            facts.set(fact, false);
        }
        return;
    }
    let object = body(view);
    facts.set(
        Fact::CsrClientAuth,
        object.judge(|o| {
            CLIENT_SIGNERS.contains(&o.at(&["spec", "signerName"]).str())
                || o.at(&["spec", "usages"])
                    .strings()
                    .any(|usage| usage == "client auth")
        }),
    );
    let subject = match object {
        Object::Known(o) if o.at(&["spec", "request"]).is_null() => Err(Truth::False),
        // What cannot be parsed is refused by the API server, so it names nobody.
        Object::Known(o) => Subject::of(o).ok_or(Truth::False),
        Object::Unknown => Err(Truth::Unknown),
        Object::None => Err(Truth::False),
    };
    let judge = |judge: &dyn Fn(&Subject) -> bool| match &subject {
        Ok(subject) => judge(subject).into(),
        Err(truth) => *truth,
    };
    facts.set(Fact::CsrPrivileged, judge(&Subject::is_privileged));
    facts.set(Fact::CsrNode, judge(&Subject::is_node));
    facts.set(
        Fact::CsrApproved,
        if view.subresource() == "approval" {
            object.judge(|o| {
                o.at(&["status", "conditions"])
                    .items()
                    .iter()
                    .any(|condition| condition.get("type").str() == "Approved")
            })
        } else {
            Truth::False
        },
    );
}

/// The signing request; of a refused create, what was asked for.
fn body<'v>(view: &'v View<'_>) -> Object<'v> {
    object::effective(view)
}

pub(super) fn subject(view: &View<'_>) -> FieldValue<'static> {
    let subject = body(view)
        .known()
        .and_then(|o| Subject::of(o))
        .unwrap_or_default();
    let parts: Vec<String> = subject
        .names
        .iter()
        .map(|name| format!("CN={name}"))
        .chain(subject.groups.iter().map(|group| format!("O={group}")))
        .collect();
    FieldValue::Str(Cow::Owned(parts.join(", ")))
}

pub(super) fn signer(view: &View<'_>) -> FieldValue<'static> {
    let signer = match body(view) {
        Object::Known(o) => o.at(&["spec", "signerName"]).str().to_owned(),
        _ => String::new(),
    };
    FieldValue::Str(Cow::Owned(signer))
}
