//! Fields: the named values of an event that detectors, exceptions and templates may read.
//!
//! The table is the whole vocabulary; `lanner detectors fields` prints it. In CEL and in templates
//! a dotted name is a member (`object.ns`). Values come from [`crate::event::View::field`] and may
//! hold anything an attacker wrote.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use super::image::ImagePart;
use super::view::View;
use super::{
    actor, admission, agent, csr, image, object, pod, pod_security, secret, service, source_ip,
    target, workload,
};

/// A field's value; a list is kept as one.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue<'a> {
    Str(Cow<'a, str>),
    Int(i64),
    List(Vec<Cow<'a, str>>),
}

impl FieldValue<'_> {
    /// As one string; lists are joined with `, `.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            FieldValue::Str(text) => Cow::Borrowed(text),
            FieldValue::Int(number) => Cow::Owned(number.to_string()),
            FieldValue::List(items) => Cow::Owned(items.join(", ")),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            FieldValue::Str(text) => text.is_empty(),
            FieldValue::Int(_) => false,
            FieldValue::List(items) => items.is_empty(),
        }
    }

    pub fn into_owned(self) -> FieldValue<'static> {
        match self {
            FieldValue::Str(text) => FieldValue::Str(Cow::Owned(text.into_owned())),
            FieldValue::Int(number) => FieldValue::Int(number),
            FieldValue::List(items) => FieldValue::List(
                items
                    .into_iter()
                    .map(|item| Cow::Owned(item.into_owned()))
                    .collect(),
            ),
        }
    }
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(text: &'a str) -> Self {
        FieldValue::Str(Cow::Borrowed(text))
    }
}

/// The type of a field's value, for checking conditions when they are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    Str,
    Int,
    List,
}

#[derive(Debug)]
pub struct FieldInfo {
    pub field: Field,
    pub name: &'static str,
    pub kind: FieldType,
    pub doc: &'static str,
}

macro_rules! fields {
    ($( $variant:ident = $name:literal $kind:ident, $doc:literal; )*) => {
        /// A named value.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Field { $( $variant, )* }

        /// Every field, in the order of [`Field`].
        pub const FIELDS: &[FieldInfo] = &[
            $( FieldInfo { field: Field::$variant, name: $name, kind: FieldType::$kind, doc: $doc }, )*
        ];
    };
}

fields! {
    Cluster = "cluster" Str, "ARM id of the cluster, in lower case";
    ClusterName = "cluster_name" Str, "the cluster's configured name, else the last segment of its ARM id";
    Category = "category" Str, "diagnostic category of the record";
    Verb = "verb" Str, "Kubernetes verb, as in the audit event";
    Stage = "stage" Str, "stage of the request at which the event was written";
    AuditId = "audit_id" Str, "the request's audit ID; the client may have chosen it";
    RequestUri = "request_uri" Str, "the request's URI as sent";
    UserAgent = "user_agent" Str, "the client's user agent; it says what it likes";
    UserAgentFamily = "user_agent.family" Str, "first product of the user agent without its version, in lower case";
    UserAgentVersion = "user_agent.version" Str, "version of the user agent's first product, as in `v1.34.1`";
    UserAgentMinor = "user_agent.minor" Int, "minor version of the user agent's first product where it is written as Kubernetes writes its own (`v1.MINOR.PATCH`), else 0";
    ActorUser = "actor.user" Str, "name of the authenticated user";
    ActorGroups = "actor.groups" List, "groups of the authenticated user";
    ActorEffective = "actor.effective" Str, "the impersonated user where there is one, else the authenticated";
    ActorImpersonated = "actor.impersonated" Str, "name of the impersonated user";
    ActorServiceAccount = "actor.service_account" Str, "namespace/name where the authenticated user is a service account";
    ActorCredential = "actor.credential" Str, "id of the credential (user.extra credential-id), else the user's name";
    ActorNodeName = "actor.node_name" Str, "node that a service account's token is bound to with its pod (user.extra node-name), or that the actor is";
    SourceIpAddress = "source_ip.address" Str, "the client: right-most address that is no trusted hop";
    SourceIpNetwork = "source_ip.network" Str, "the client's network: /24 of IPv4, /48 of IPv6";
    SourceIpClass = "source_ip.class" Str, "loopback, link_local, private, shared, public, or unknown";
    ObjectGroup = "object.group" Str, "API group; empty for core";
    ObjectResource = "object.resource" Str, "resource, in the plural";
    ObjectSubresource = "object.subresource" Str, "subresource, if any";
    ObjectNs = "object.ns" Str, "namespace of the object";
    ObjectName = "object.name" Str, "name of the object; of a generateName create, from the response";
    ResponseCode = "response.code" Int, "HTTP code of the answer; 0 where none is known";
    ResponseReason = "response.reason" Str, "reason in the answer's status";
    ResponseMessage = "response.message" Str, "message in the answer's status";
    ExecCommand = "exec.command" Str, "decoded command of an exec, or of a run through the kubelet";
    ExecContainer = "exec.container" Str, "container named by an exec, attach or port-forward";
    ExecOrigin = "exec.origin" Str, "how the command came: exec, attach, portforward, or kubelet";
    ActorKind = "actor.kind" Str, "user, service_account, node, control_plane, aks, static_admin or anonymous";
    ActorImpersonatedGroups = "actor.impersonated_groups" List, "groups of the impersonated user";
    SourceIpChain = "source_ip.chain" List, "all addresses of sourceIPs; all but the client's and the hops after it are the client's to choose";
    RequestPath = "request.path" Str, "the URI's path, decoded";
    ProxyPath = "proxy.path" Str, "decoded path behind …/proxy: what was asked of the pod, service or kubelet";
    ObjectRef = "object.ref" Str, "the object for people: namespace/name, name, the path of a URL that is no resource, or `all in NAMESPACE` and `all` of a collection";
    ObjectKind = "object.kind" Str, "resource, or resource/subresource";
    RoleDangerous = "role.dangerous" Str, "the dangerous rights of a role that is written, for people";
    BindingRole = "binding.role" Str, "role that a binding binds, as Kind/name";
    BindingSubjects = "binding.subjects" List, "subjects of a binding, as Kind:name; service accounts as ServiceAccount:namespace/name";
    DecisionReason = "decision.reason" Str, "why the authorizer allowed the request: which binding and role";
    PodImages = "pod.images" List, "images of the pod or pod template, as written";
    PodRepositories = "pod.repositories" List, "repositories of these images, with registry and without tag or digest";
    PodRegistries = "pod.registries" List, "registries of these images";
    PodHostPaths = "pod.host_paths" List, "paths of the node that the pod mounts, normalised";
    PodCapabilities = "pod.capabilities" List, "capabilities that containers add";
    PodServiceAccount = "pod.service_account" Str, "service account that the pod runs as";
    PodNode = "pod.node" Str, "node that the pod names or is bound to";
    PodFindings = "pod.findings" List, "what of the pod's settings weakens its isolation, in words";
    PodCommands = "pod.commands" List, "commands and arguments of the containers, a string each, redacted";
    WorkloadReplicas = "workload.replicas" Int, "replicas that the request asks for; -1 where it says nothing";
    ServiceType = "service.type" Str, "type of the service";
    ServicePorts = "service.ports" List, "ports of the service";
    IngressHosts = "ingress.hosts" List, "hosts of the ingress";
    CsrSubject = "csr.subject" Str, "subject of the certificate asked for";
    CsrSigner = "csr.signer" Str, "signer of the certificate asked for";
    WebhookTargets = "webhook.targets" List, "services and URLs that the webhooks call";
    TokenLifetime = "token.lifetime" Int, "seconds that the token asked for lives; 0 where the record does not say";
    Action = "action" Str, "what the verb did, for people: created, changed, deleted, read, listed, watched";
    ObjectNoun = "object.noun" Str, "resource in the singular, with the subresource if any";
    ObjectLabels = "object.labels" List, "labels that the request sets or removes, as key=value";
    LineKind = "line.kind" Str, "kind of a line of the API server's own log, as `lines` names it; empty of an audit event";
    LineMessage = "line.message" Str, "text of the line behind its header; empty of a request";
    LineSource = "line.source" Str, "file.go:line of the API server's source that wrote the line";
    LineSeverity = "line.severity" Str, "severity of the line: info, warning, error or fatal";
    LineWebhook = "line.webhook" Str, "admission webhook that failed";
}

impl Field {
    pub fn info(self) -> &'static FieldInfo {
        &FIELDS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn parse(name: &str) -> Option<Field> {
        FIELDS
            .iter()
            .find(|info| info.name == name)
            .map(|info| info.field)
    }
}

/// The value of `field` for the event behind `view`.
pub(super) fn value<'v>(view: &'v View<'_>, field: Field) -> FieldValue<'v> {
    let event = view.event;
    let object = view.object_ref();
    let owned = |text: String| FieldValue::Str(Cow::Owned(text));
    let list = |items: Vec<String>| FieldValue::List(items.into_iter().map(Cow::Owned).collect());
    match field {
        Field::Cluster => view.origin.cluster.as_ref().into(),
        Field::ClusterName if view.site.name.is_empty() => view
            .origin
            .cluster
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .into(),
        Field::ClusterName => view.site.name.as_str().into(),
        Field::Category => view.origin.category.as_str().into(),
        Field::Verb => event.verb.as_ref().into(),
        Field::Stage => event.stage.as_str().into(),
        Field::AuditId => view.audit_id().into(),
        Field::RequestUri => event.request_uri.as_ref().into(),
        Field::RequestPath => owned(target::path(&event.request_uri)),
        Field::UserAgent => event.user_agent.as_ref().into(),
        Field::UserAgentFamily => owned(agent::product(&event.user_agent).to_ascii_lowercase()),
        Field::UserAgentVersion => agent::version(&event.user_agent).into(),
        Field::UserAgentMinor => FieldValue::Int(agent::kubernetes_minor(&event.user_agent)),
        Field::ActorNodeName => actor::node_name(event).into(),
        Field::ActorUser => event.user.username.as_ref().into(),
        Field::ActorGroups => borrowed(&event.user.groups),
        Field::ActorEffective => event
            .impersonated_user
            .as_ref()
            .unwrap_or(&event.user)
            .username
            .as_ref()
            .into(),
        Field::ActorImpersonated => event
            .impersonated_user
            .as_ref()
            .map_or("", |user| user.username.as_ref())
            .into(),
        Field::ActorImpersonatedGroups => event
            .impersonated_user
            .as_ref()
            .map_or(FieldValue::List(Vec::new()), |user| borrowed(&user.groups)),
        Field::ActorServiceAccount => match actor::service_account(&event.user.username) {
            Some((namespace, name)) => owned(format!("{namespace}/{name}")),
            None => "".into(),
        },
        Field::ActorKind => actor::Kind::of(&event.user.username).as_str().into(),
        Field::ActorCredential => event
            .user
            .extra
            .iter()
            .find(|(key, _)| key == "authentication.kubernetes.io/credential-id")
            .and_then(|(_, values)| values.first())
            .unwrap_or(&event.user.username)
            .as_ref()
            .into(),
        Field::SourceIpAddress => FieldValue::Str(source_ip::address_text(view)),
        Field::SourceIpNetwork => owned(source_ip::network_text(view)),
        Field::SourceIpClass => source_ip::Class::of(view.client()).as_str().into(),
        Field::SourceIpChain => borrowed(&event.source_ips),
        Field::ObjectGroup => object.api_group.as_ref().into(),
        Field::ObjectResource => object.resource.as_ref().into(),
        Field::ObjectSubresource => object.subresource.as_ref().into(),
        Field::ObjectKind if object.subresource.is_empty() => object.resource.as_ref().into(),
        Field::ObjectKind => owned(format!("{}/{}", object.resource, object.subresource)),
        Field::ObjectNs => object.namespace.as_ref().into(),
        Field::ObjectName => view.name().into(),
        Field::ObjectRef => owned(reference(view)),
        Field::ProxyPath if object.subresource == "proxy" => {
            owned(format!("/{}", target::proxy_path(view)))
        }
        Field::ProxyPath => "".into(),
        Field::ResponseCode => FieldValue::Int(
            event
                .response_status
                .as_ref()
                .map_or(0, |status| status.code),
        ),
        Field::ResponseReason => event
            .response_status
            .as_ref()
            .map_or("", |status| status.reason.as_ref())
            .into(),
        Field::ResponseMessage => target::message(view).into(),
        Field::DecisionReason => event
            .annotation("authorization.k8s.io/reason")
            .unwrap_or_default()
            .into(),
        Field::ExecCommand => owned(view.exec().line()),
        Field::ExecContainer => view.exec().container.as_str().into(),
        Field::ExecOrigin => view.exec().way.as_str().into(),
        Field::RoleDangerous => owned(view.rules().dangerous()),
        Field::BindingRole => owned(view.binding().role()),
        Field::BindingSubjects => list(view.binding().subjects()),

        Field::PodImages => image::list(view, ImagePart::Reference),
        Field::PodRepositories => image::list(view, ImagePart::Repository),
        Field::PodRegistries => image::list(view, ImagePart::Registry),
        Field::PodHostPaths => pod::host_path_names(view),
        Field::PodCapabilities => pod::capability_names(view),
        Field::PodServiceAccount => pod::service_account(view),
        Field::PodNode => pod::node(view),
        Field::PodFindings => pod_security::findings(view),
        Field::PodCommands => pod::command_lines(view),
        Field::WorkloadReplicas => workload::replicas(view),
        Field::ServiceType => service::service_type(view),
        Field::ServicePorts => service::ports(view),
        Field::IngressHosts => service::hosts(view),
        Field::CsrSubject => csr::subject(view),
        Field::CsrSigner => csr::signer(view),
        Field::WebhookTargets => admission::targets(view),
        Field::TokenLifetime => secret::lifetime(view),
        Field::Action => FieldValue::from(object::action(&view.event.verb)),
        Field::ObjectNoun => owned(object::noun(view.resource(), view.subresource())),
        Field::ObjectLabels => workload::labels(view),
        Field::LineKind => view.line.map_or("", |line| line.kind.as_str()).into(),
        Field::LineMessage => view.line.map_or("", |line| line.message).into(),
        Field::LineSource => view.line.map_or("", |line| line.source).into(),
        Field::LineSeverity => view.line.map_or("", |line| line.severity()).into(),
        Field::LineWebhook => view.line.map_or("", |line| line.webhook()).into(),
    }
}

/// See [`View::hash_field`].
pub(super) fn hash(view: &View<'_>, field: Field, hasher: &mut impl Hasher) {
    let event = view.event;
    let object = view.object_ref();
    match field {
        Field::UserAgentFamily => hasher.write(agent::product(&event.user_agent).as_bytes()),
        Field::ActorServiceAccount => {
            if let Some((namespace, name)) = actor::service_account(&event.user.username) {
                hasher.write(namespace.as_bytes());
                hasher.write_u8(0xff);
                hasher.write(name.as_bytes());
            }
        }
        Field::SourceIpAddress => view.client().hash(hasher),
        Field::SourceIpNetwork => view.client().and_then(source_ip::network).hash(hasher),
        Field::ObjectKind => {
            hasher.write(object.resource.as_bytes());
            hasher.write_u8(0xff);
            hasher.write(object.subresource.as_bytes());
        }
        other => hasher.write(value(view, other).text().as_bytes()),
    }
}

fn borrowed<'v>(items: &'v [Cow<'_, str>]) -> FieldValue<'v> {
    FieldValue::List(
        items
            .iter()
            .map(|item| Cow::Borrowed(item.as_ref()))
            .collect(),
    )
}

/// The object for people: `namespace/name`, `name`, or `all` of a collection.
fn reference(view: &View<'_>) -> String {
    let (namespace, name) = (view.namespace(), view.name());
    match (namespace, name) {
        ("", "") if view.event.object_ref.is_none() => target::path(&view.event.request_uri),
        ("", "") => "all".to_owned(),
        (namespace, "") => format!("all in {namespace}"),
        ("", name) => name.to_owned(),
        (namespace, name) if view.resource() == "namespaces" && namespace == name => {
            name.to_owned()
        }
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_index_the_table() {
        for (i, info) in FIELDS.iter().enumerate() {
            assert_eq!(info.field as usize, i);
            assert_eq!(Field::parse(info.name), Some(info.field));
        }
    }
}
