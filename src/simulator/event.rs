//! Audit events as a Kubernetes API server writes them: who asks, for what, and with what answer.
//!
//! Life and attacks make them with [`Client::request`]; [`super::record`] wraps them in Azure's
//! envelope. Keys stand in the order of Go's struct, and `&`, `<` and `>` are escaped as Go does.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::identity::Identity;
use super::rng::Rng;

/// Who asks, from where and by which program; the reason that the authorizer gives for letting it.
#[derive(Debug, Clone)]
pub struct Client {
    pub identity: Arc<Identity>,
    /// `sourceIPs` as JSON.
    sources: Arc<str>,
    agent: Arc<str>,
    reason: Arc<str>,
}

impl Client {
    /// `addresses` as in `sourceIPs`: the client, then the proxies before the API server.
    pub fn new(identity: &Arc<Identity>, addresses: &[&str], agent: &str, reason: &str) -> Client {
        let list = addresses
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect::<Vec<_>>()
            .join(",");
        Client {
            identity: Arc::clone(identity),
            sources: format!("[{list}]").into(),
            agent: agent.into(),
            reason: reason.into(),
        }
    }

    /// The same credential by another program.
    pub fn with_agent(&self, agent: &str) -> Client {
        Client {
            agent: agent.into(),
            ..self.clone()
        }
    }

    /// The same client, let through for another reason.
    pub fn allowed_by(&self, reason: &str) -> Client {
        Client {
            reason: reason.into(),
            ..self.clone()
        }
    }

    /// A request that is answered with 200, or 201 where it creates, after some milliseconds.
    pub fn request(
        &self,
        rng: &mut Rng,
        at: Timestamp,
        verb: &'static str,
        target: Target,
    ) -> Event {
        let code = if verb == "create" { 201 } else { 200 };
        Event {
            audit_id: rng.uuid(),
            stage: Stage::Complete,
            level: level(verb, &target),
            uri: target.uri(),
            verb,
            client: self.clone(),
            target,
            impersonated: None,
            code,
            status: None,
            request: None,
            response: None,
            received: at,
            staged: at + Duration::from_micros(900 + rng.below(24_000) as u64),
            allowed: true,
            annotations: Vec::new(),
            bare: false,
        }
    }
}

/// What is asked for: a resource, or a URL that is none.
#[derive(Debug, Clone, Default)]
pub struct Target {
    pub group: String,
    pub version: &'static str,
    pub resource: String,
    pub subresource: &'static str,
    pub namespace: String,
    pub name: String,
    /// Of requests for no resource.
    pub path: String,
}

impl Target {
    pub fn core(resource: &str) -> Target {
        Target::of("", "v1", resource)
    }

    pub fn of(group: &str, version: &'static str, resource: &str) -> Target {
        Target {
            group: group.to_owned(),
            version,
            resource: resource.to_owned(),
            ..Target::default()
        }
    }

    pub fn rbac(resource: &str) -> Target {
        Target::of("rbac.authorization.k8s.io", "v1", resource)
    }

    pub fn url(path: &str) -> Target {
        Target {
            path: path.to_owned(),
            ..Target::default()
        }
    }

    pub fn ns(mut self, namespace: &str) -> Target {
        self.namespace = namespace.to_owned();
        self
    }

    pub fn name(mut self, name: &str) -> Target {
        self.name = name.to_owned();
        self
    }

    pub fn sub(mut self, subresource: &'static str) -> Target {
        self.subresource = subresource;
        self
    }

    fn uri(&self) -> String {
        if !self.path.is_empty() {
            return self.path.clone();
        }
        let mut uri = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if !self.namespace.is_empty() && self.resource != "namespaces" {
            let _ = write!(uri, "/namespaces/{}", self.namespace);
        }
        let _ = write!(uri, "/{}", self.resource);
        for part in [self.name.as_str(), self.subresource] {
            if !part.is_empty() {
                let _ = write!(uri, "/{part}");
            }
        }
        uri
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Started,
    Complete,
    Panic,
}

/// One audit event, before it is text.
#[derive(Debug, Clone)]
pub struct Event {
    pub audit_id: String,
    pub stage: Stage,
    pub level: &'static str,
    pub uri: String,
    pub verb: &'static str,
    pub client: Client,
    pub target: Target,
    pub impersonated: Option<Arc<Identity>>,
    pub code: u16,
    /// Message and reason of an answer that is an error.
    pub status: Option<(String, &'static str)>,
    /// JSON.
    pub request: Option<String>,
    pub response: Option<String>,
    pub received: Timestamp,
    pub staged: Timestamp,
    /// What the authorizer said; refusals by admission or escalation checks come after it.
    pub allowed: bool,
    pub annotations: Vec<(&'static str, String)>,
    /// Refused before anybody was known: no user, no annotations, as of a 401.
    pub bare: bool,
}

impl Event {
    pub fn query(mut self, query: &str) -> Event {
        self.uri
            .push(if self.uri.contains('?') { '&' } else { '?' });
        self.uri.push_str(query);
        self
    }

    pub fn code(mut self, code: u16) -> Event {
        self.code = code;
        self
    }

    /// Bodies are logged where the level says so.
    pub fn sends(mut self, body: impl Into<String>) -> Event {
        self.request = Some(body.into());
        self
    }

    pub fn gets(mut self, body: impl Into<String>) -> Event {
        self.response = Some(body.into());
        self
    }

    /// Sends an object and gets it back.
    pub fn writes(mut self, body: impl Into<String>) -> Event {
        let body = body.into();
        self.request = Some(body.clone());
        self.response = Some(body);
        self
    }

    /// An answer with an error.
    pub fn fails(mut self, code: u16, reason: &'static str, message: impl Into<String>) -> Event {
        self.code = code;
        self.status = Some((message.into(), reason));
        self.response = None;
        self
    }

    /// Refused by the authorizer.
    pub fn forbidden(mut self) -> Event {
        let target = &self.target;
        let scope = match (target.namespace.as_str(), target.path.as_str()) {
            ("", "") => " at the cluster scope".to_owned(),
            ("", _) => String::new(),
            (namespace, _) => format!(" in the namespace \"{namespace}\""),
        };
        let message = format!(
            "{} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \"{}\"{scope}",
            target.resource, self.client.identity.name, self.verb, target.resource, target.group,
        );
        self.allowed = false;
        self.fails(403, "Forbidden", message)
    }

    pub fn not_found(self) -> Event {
        let message = format!(
            "{} \"{}\" not found",
            self.target.resource, self.target.name
        );
        self.fails(404, "NotFound", message)
    }

    /// Both stages of a request that stays open for `lasts`.
    pub fn long(mut self, lasts: Duration) -> [Event; 2] {
        let mut end = self.clone();
        end.staged = self.staged + lasts;
        self.stage = Stage::Started;
        [self, end]
    }

    /// Writes the event as one JSON object.
    pub fn write(&self, out: &mut String) {
        let body = |level: &str| self.level == level || self.level == "RequestResponse";
        let stage = match self.stage {
            Stage::Started => "ResponseStarted",
            Stage::Complete => "ResponseComplete",
            Stage::Panic => "Panic",
        };
        let _ = write!(
            out,
            "{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"{}\",\"auditID\":\"{}\",\"stage\":\"{stage}\",\"requestURI\":",
            self.level, self.audit_id,
        );
        quote(out, &self.uri);
        let _ = write!(out, ",\"verb\":\"{}\",\"user\":", self.verb);
        out.push_str(if self.bare {
            "{}"
        } else {
            self.client.identity.json()
        });
        if let Some(impersonated) = &self.impersonated {
            out.push_str(",\"impersonatedUser\":");
            out.push_str(impersonated.json());
        }
        let _ = write!(out, ",\"sourceIPs\":{}", self.client.sources);
        if !self.client.agent.is_empty() {
            out.push_str(",\"userAgent\":");
            quote(out, &self.client.agent);
        }
        self.write_object_ref(out);
        self.write_status(out);
        if body("Request")
            && let Some(request) = &self.request
        {
            out.push_str(",\"requestObject\":");
            embed(out, request);
        }
        if body("RequestResponse")
            && let Some(response) = &self.response
        {
            out.push_str(",\"responseObject\":");
            embed(out, response);
        }
        let _ = write!(
            out,
            ",\"requestReceivedTimestamp\":\"{:.6}\",\"stageTimestamp\":\"{:.6}\"",
            self.received, self.staged,
        );
        if self.bare {
            out.push('}');
            return;
        }
        out.push_str(",\"annotations\":{");
        let decision = if self.allowed { "allow" } else { "forbid" };
        let reason = if self.allowed {
            &self.client.reason
        } else {
            ""
        };
        let _ = write!(out, "\"authorization.k8s.io/decision\":\"{decision}\"");
        out.push_str(",\"authorization.k8s.io/reason\":");
        quote(out, reason);
        let identity = &self.client.identity;
        let legacy = identity.secret.iter().flat_map(|secret| {
            [
                ("authentication.k8s.io/legacy-token", &identity.name),
                ("authentication.k8s.io/legacy-token-manual-secret", secret),
            ]
        });
        let others = self.annotations.iter().map(|(key, value)| (*key, value));
        for (key, value) in others.chain(legacy) {
            let _ = write!(out, ",\"{key}\":");
            quote(out, value);
        }
        out.push_str("}}");
    }

    fn write_object_ref(&self, out: &mut String) {
        let target = &self.target;
        if target.resource.is_empty() {
            return;
        }
        let _ = write!(out, ",\"objectRef\":{{\"resource\":\"{}\"", target.resource);
        let namespace = if target.resource == "namespaces" {
            &target.name
        } else {
            &target.namespace
        };
        for (key, value) in [("namespace", namespace.as_str()), ("name", &target.name)] {
            if !value.is_empty() {
                let _ = write!(out, ",\"{key}\":");
                quote(out, value);
            }
        }
        if !target.group.is_empty() {
            let _ = write!(out, ",\"apiGroup\":\"{}\"", target.group);
        }
        let _ = write!(out, ",\"apiVersion\":\"{}\"", target.version);
        if !target.subresource.is_empty() {
            let _ = write!(out, ",\"subresource\":\"{}\"", target.subresource);
        }
        out.push('}');
    }

    fn write_status(&self, out: &mut String) {
        out.push_str(",\"responseStatus\":{\"metadata\":{}");
        if let Some((message, reason)) = &self.status {
            out.push_str(",\"status\":\"Failure\",\"message\":");
            quote(out, message);
            let _ = write!(out, ",\"reason\":\"{reason}\"");
        }
        let _ = write!(out, ",\"code\":{}}}", self.code);
    }
}

/// The level at which AKS logs a request: what may hold credentials, and custom resources, without
/// bodies; reads too.
fn level(verb: &str, target: &Target) -> &'static str {
    let own =
        target.group.is_empty() || !target.group.contains('.') || target.group.ends_with(".k8s.io");
    match (target.resource.as_str(), target.subresource) {
        _ if !own || matches!(verb, "get" | "list" | "watch") => "Metadata",
        ("secrets" | "configmaps" | "tokenreviews" | "leases", _) => "Metadata",
        (_, "token" | "exec" | "attach" | "portforward" | "proxy") => "Metadata",
        ("nodes" | "pods", "status") | ("events", _) => "Request",
        _ => "RequestResponse",
    }
}

/// Writes `text` as a JSON string, as Go's encoder does.
pub fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '&' | '<' | '>' | '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Writes JSON text, with what Go escapes escaped: such characters stand in strings only.
fn embed(out: &mut String, json: &str) {
    let mut rest = json;
    while let Some(place) = rest.find(['&', '<', '>']) {
        out.push_str(&rest[..place]);
        let _ = write!(out, "\\u{:04x}", rest.as_bytes()[place]);
        rest = &rest[place + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_json_as_go_writes_it() {
        let mut rng = Rng::new(3);
        let identity = Identity::new("ada@example.com", "1", &["system:authenticated"], &[]);
        let client = Client::new(
            &identity,
            &["203.0.113.7", "172.31.2.3"],
            "a \"<b>\"",
            "why",
        );
        let at: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let target = Target::core("pods").ns("shop").name("web-0").sub("exec");
        let [started, complete] = client
            .request(&mut rng, at, "get", target)
            .query("command=id&stdout=true")
            .code(101)
            .long(Duration::from_secs(90));
        let mut text = String::new();
        started.write(&mut text);
        assert!(text.contains("exec?command=id\\u0026stdout=true"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["stage"], "ResponseStarted");
        assert_eq!(value["objectRef"]["subresource"], "exec");
        assert_eq!(value["userAgent"], "a \"<b>\"");
        assert_eq!(started.audit_id, complete.audit_id);
        assert_eq!(complete.staged.duration_since(started.staged).as_secs(), 90);
    }
}
