//! Who asks: authenticated identities as the API server logs them.

use std::sync::Arc;

use super::event::quote;
use super::rng::Rng;

/// An authenticated identity, and its `user` object as JSON.
#[derive(Debug)]
pub struct Identity {
    pub name: String,
    json: String,
    /// The secret that its token lies in, where it is one that never expires.
    pub secret: Option<String>,
}

impl Identity {
    /// The `user` of its requests.
    pub fn json(&self) -> &str {
        &self.json
    }

    pub fn new(name: &str, uid: &str, groups: &[&str], extra: &[(&str, &str)]) -> Arc<Identity> {
        let mut json = String::from("{\"username\":");
        quote(&mut json, name);
        if !uid.is_empty() {
            json.push_str(",\"uid\":");
            quote(&mut json, uid);
        }
        json.push_str(",\"groups\":[");
        for (i, group) in groups.iter().enumerate() {
            if i > 0 {
                json.push(',');
            }
            quote(&mut json, group);
        }
        json.push(']');
        if !extra.is_empty() {
            json.push_str(",\"extra\":{");
            for (i, (key, value)) in extra.iter().enumerate() {
                if i > 0 {
                    json.push(',');
                }
                quote(&mut json, key);
                json.push_str(":[");
                quote(&mut json, value);
                json.push(']');
            }
            json.push('}');
        }
        json.push('}');
        Arc::new(Identity {
            name: name.to_owned(),
            json,
            secret: None,
        })
    }

    /// One of the control plane's or AKS' own, which hold certificates.
    pub fn system(name: &str, groups: &[&str]) -> Arc<Identity> {
        let groups: Vec<&str> = groups
            .iter()
            .copied()
            .chain(["system:authenticated"])
            .collect();
        Identity::new(name, "", &groups, &[])
    }

    /// A service account by no token that the log tells of, or by that of a secret.
    pub fn bearer(
        rng: &mut Rng,
        namespace: &str,
        name: &str,
        secret: Option<String>,
    ) -> Arc<Identity> {
        let groups = [
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
            "system:authenticated",
        ];
        let name = format!("system:serviceaccount:{namespace}:{name}");
        let identity = Identity::new(&name, &rng.uuid(), &groups, &[]);
        match Arc::into_inner(identity) {
            Some(identity) => Arc::new(Identity { secret, ..identity }),
            None => unreachable!("it was just made"),
        }
    }

    /// A service account by a token bound to a pod.
    pub fn service_account(
        rng: &mut Rng,
        namespace: &str,
        name: &str,
        pod: &str,
        node: &str,
    ) -> Arc<Identity> {
        let credential = format!("JTI={}", rng.uuid());
        let (node_uid, pod_uid, uid) = (rng.uuid(), rng.uuid(), rng.uuid());
        Identity::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &uid,
            &[
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ],
            &[
                ("authentication.kubernetes.io/credential-id", &credential),
                ("authentication.kubernetes.io/node-name", node),
                ("authentication.kubernetes.io/node-uid", &node_uid),
                ("authentication.kubernetes.io/pod-name", pod),
                ("authentication.kubernetes.io/pod-uid", &pod_uid),
            ],
        )
    }
}
