//! Credential access: secrets, tokens, certificates, the node's own identity.

use serde_json::json;

use super::super::super::event::Target;
use super::super::super::identity::Identity;
use super::super::{ADMIN_REASON, Stage};
use super::execution::command;
use super::{ANYONE, Account, Ground, NOT_A_PIPELINE, Technique, Who, create, dull};

pub(in super::super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "Dump all secrets (T1552.007)",
        run: dump,
        by: &[Who::Person, Who::Pipeline, Who::LocalAdmin, Who::Nobody],
    },
    Technique {
        name: "Read secrets one by one (T1552.007)",
        run: one_by_one,
        by: &[Who::Person, Who::Account, Who::LocalAdmin, Who::Node],
    },
    Technique {
        name: "Steal a pod's service account token (T1552.007)",
        run: steal_token,
        by: NOT_A_PIPELINE,
    },
    Technique {
        name: "Create a token for a service account (T1528)",
        run: request_token,
        by: &[
            Who::Person,
            Who::Pipeline,
            Who::Account,
            Who::LocalAdmin,
            Who::Node,
        ],
    },
    Technique {
        name: "Create a token that never expires (T1528)",
        run: lasting_token,
        by: ANYONE,
    },
    Technique {
        name: "Client certificate credential (T1550)",
        run: certificate,
        by: &[Who::Person, Who::LocalAdmin],
    },
    Technique {
        name: "Instance metadata (T1552.005)",
        run: metadata,
        by: NOT_A_PIPELINE,
    },
];

fn dump(s: &mut Stage<'_>, g: &mut Ground) {
    match s.rng.below(3) {
        0 => {
            let event = g
                .client
                .request(s.rng, s.now(), "list", Target::core("secrets"))
                .query("limit=500");
            s.strike("lists the secrets of all namespaces", event);
        }
        1 => {
            for page in [
                "limit=100",
                "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ&limit=100",
            ] {
                let event = g
                    .client
                    .request(s.rng, s.now(), "list", Target::core("secrets"))
                    .query(page);
                s.strike("lists the secrets of all namespaces by pages", event);
            }
        }
        _ => {
            let event = g.client.request(
                s.rng,
                s.now(),
                "list",
                Target::core("secrets").ns("kube-system"),
            );
            s.strike("lists the system's secrets", event);
        }
    }
}

fn one_by_one(s: &mut Stage<'_>, g: &mut Ground) {
    let names: Vec<(String, String)> = s
        .world
        .apps
        .iter()
        .flat_map(|app| {
            ["credentials", "tls", "db", "api-key"]
                .map(|of| (app.namespace.clone(), format!("{}-{of}", app.name)))
        })
        .collect();
    let pace = s.pace;
    s.pace = pace.min(0.1);
    for (ns, name) in names.into_iter().take(40) {
        let event = g.client.request(
            s.rng,
            s.now(),
            "get",
            Target::core("secrets").ns(&ns).name(&name),
        );
        s.strike("reads a secret", event);
    }
    s.pace = pace;
}

/// And uses it from where the intruder is.
fn steal_token(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, app, pod) = s.victim();
    let words: &[&str] = match s.rng.below(4) {
        0 => &["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"],
        1 => &[
            "sh",
            "-c",
            "cat /run/secrets/kubernetes.io/serviceaccount/token | base64",
        ],
        2 => &[
            "/bin/bash",
            "-c",
            "cd /var/run/secrets/kubernetes.io; tail -n +1 serviceaccount/*",
        ],
        _ => &[
            "head",
            "-c",
            "4096",
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
        ],
    };
    let event = command(s, g, (&ns, &pod), words, false);
    s.strike_long("reads the pod's token", event, 1.0);
    if g.address.is_empty() {
        return;
    }
    let node = s.world.nodes[0].name.clone();
    let identity = Identity::service_account(s.rng, &ns, &app, &pod, &node);
    g.client = s
        .world
        .outside(&identity, &g.address, g.agent, ADMIN_REASON);
    g.who = Who::Account;
    let pause = 60.0 * s.pace;
    s.begin("Use a stolen token from outside (T1078)", pause);
    for resource in ["pods", "secrets"] {
        let event = g
            .client
            .request(s.rng, s.now(), "list", Target::core(resource).ns(&ns));
        s.strike("uses the pod's token", event);
    }
}

fn request_token(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, name) = match s.rng.below(3) {
        0 => (
            "kube-system".to_owned(),
            "clusterrole-aggregation-controller".to_owned(),
        ),
        1 => ("kube-system".to_owned(), "daemon-set-controller".to_owned()),
        _ => {
            let (ns, app, _) = s.victim();
            (ns, app)
        }
    };
    let credential = format!("JTI={}", s.rng.uuid());
    let token = Target::core("serviceaccounts")
        .ns(&ns)
        .name(&name)
        .sub("token");
    let mut event = g.client.request(s.rng, s.now(), "create", token);
    event.annotations.push((
        "authentication.kubernetes.io/issued-credential-id",
        credential.clone(),
    ));
    s.strike("gets a token of a service account", event);
    if s.rng.chance(0.5) {
        let identity = Identity::new(
            &format!("system:serviceaccount:{ns}:{name}"),
            &s.rng.uuid(),
            &[
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{ns}"),
                "system:authenticated",
            ],
            &[("authentication.kubernetes.io/credential-id", &credential)],
        );
        g.client = if g.address.is_empty() {
            s.world.client(&identity, 0, g.agent, ADMIN_REASON)
        } else {
            s.world
                .outside(&identity, &g.address, g.agent, ADMIN_REASON)
        };
        g.who = Who::Account;
    }
}

fn lasting_token(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, app, _) = s.victim();
    let name = dull(s);
    // The log has no body of secrets; that it is of this type shows by who fills it in.
    let event = create(
        s,
        g,
        Target::core("secrets").ns(&ns),
        &name,
        json!({}).to_string(),
    );
    s.strike("creates a secret for a token", event);
    let filled = s.world.tokens_controller().request(
        s.rng,
        s.now(),
        "update",
        Target::core("secrets").ns(&ns).name(&name),
    );
    s.strike("Kubernetes puts a token in", filled);
    let read = g.client.request(
        s.rng,
        s.now(),
        "get",
        Target::core("secrets").ns(&ns).name(&name),
    );
    s.prepare("reads the token", read);
    g.account = Some(Account {
        namespace: ns,
        name: app,
        secret: Some(name),
    });
}

fn certificate(s: &mut Stage<'_>, g: &mut Ground) {
    const CSR: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
    let name = dull(s);
    let requests = Target::of("certificates.k8s.io", "v1", "certificatesigningrequests");
    let object = json!({"kind": "CertificateSigningRequest", "apiVersion": "certificates.k8s.io/v1", "metadata": {"name": name},
        "spec": {"request": CSR, "signerName": "kubernetes.io/kube-apiserver-client", "expirationSeconds": 31_536_000,
            "usages": ["client auth"], "username": g.client.identity.name}});
    let event = create(s, g, requests.clone(), &name, object.to_string());
    s.strike("asks for a client certificate", event);
    let mut approved = object;
    approved["status"] =
        json!({"conditions": [{"type": "Approved", "status": "True", "reason": "KubectlApprove"}]});
    let event = g
        .client
        .request(
            s.rng,
            s.now(),
            "update",
            requests.clone().name(&name).sub("approval"),
        )
        .writes(approved.to_string());
    s.strike("approves it", event);
    let event = g
        .client
        .request(s.rng, s.now(), "get", requests.name(&name));
    s.prepare("fetches the certificate", event);
}

fn metadata(s: &mut Stage<'_>, g: &mut Ground) {
    let (ns, _, pod) = s.victim();
    let words: &[&str] = match s.rng.below(3) {
        0 => &[
            "curl",
            "-s",
            "-H",
            "Metadata: true",
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com/",
        ],
        1 => &[
            "wget",
            "-qO-",
            "--header=Metadata: true",
            "http://169.254.169.254/metadata/instance?api-version=2021-02-01",
        ],
        _ => &[
            "python3",
            "-c",
            "import urllib.request as u;print(u.urlopen(u.Request('http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net',headers={'Metadata':'true'})).read())",
        ],
    };
    let event = command(s, g, (&ns, &pod), words, false);
    s.strike_long("asks the metadata endpoint", event, 1.0);
}
