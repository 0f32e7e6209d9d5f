//! The Kubernetes dashboard: reached, exposed, deployed without login, bound to more, misused.

use serde_json::json;

use super::super::body;
use super::super::event::{Client, Target};
use super::super::truth::Family;
use super::{Play, Stage};

const NS: &str = "kubernetes-dashboard";

pub(super) const PLAYS: &[Play] = &[
    Play::of(
        Family::Dashboard,
        "dashboard through the API server's proxy",
        &["DASH-1"],
        &["T1133", "T1613"],
        proxied,
    ),
    Play::of(
        Family::Dashboard,
        "port-forward to the dashboard",
        &["DASH-2", "PF-1"],
        &["T1090"],
        forwarded,
    ),
    Play::of(
        Family::Dashboard,
        "dashboard's service account beyond its own objects",
        &["DASH-3"],
        &["T1078.001"],
        account,
    ),
    Play::of(
        Family::Dashboard,
        "dashboard exposed by a public load balancer",
        &["DASH-4"],
        &["T1133"],
        exposed,
    ),
    Play::of(
        Family::Dashboard,
        "dashboard deployed without login",
        &["DASH-5"],
        &["T1610", "T1133"],
        deployed,
    ),
    Play::of(
        Family::Dashboard,
        "dashboard's service account bound to cluster-admin",
        &["DSA-1", "RBAC-1", "CRB-1"],
        &["T1098.006"],
        bound,
    ),
];

/// One visit is dozens of requests.
fn proxied(s: &mut Stage<'_>) {
    let browser = s
        .insider()
        .with_agent("Mozilla/5.0 (X11; Linux x86_64; rv:137.0) Gecko/20100101 Firefox/137.0");
    let service = "https:kubernetes-dashboard:";
    for path in [
        "/",
        "/main.js",
        "/api/v1/settings/global",
        "/api/v1/namespace",
        "/api/v1/secret/payments",
    ] {
        let mut event = browser.request(
            s.rng,
            s.now(),
            "get",
            Target::core("services").ns(NS).name(service).sub("proxy"),
        );
        event.uri =
            format!("/api/v1/namespaces/{NS}/services/https:kubernetes-dashboard:/proxy{path}");
        s.strike_long("opens a page of the dashboard", event, 0.5);
    }
}

fn forwarded(s: &mut Stage<'_>) {
    let client = s.insider();
    let pod = format!(
        "kubernetes-dashboard-{}-{}",
        s.rng.suffix(9),
        s.rng.suffix(5)
    );
    let pods = Target::core("pods").ns(NS);
    let look = client.request(s.rng, s.now(), "get", pods.clone().name(&pod));
    s.prepare("looks at the pod", look);
    let verb = s.upgrade();
    let event = client
        .request(s.rng, s.now(), verb, pods.name(&pod).sub("portforward"))
        .code(101);
    s.strike_long("forwards a port to the dashboard", event, 60.0);
}

fn account(s: &mut Stage<'_>) {
    let identity = s.stolen(NS, "kubernetes-dashboard");
    let client = inside(s, &identity, "dashboard/v2.7.0");
    let list = client.request(
        s.rng,
        s.now(),
        "list",
        Target::core("secrets").ns("payments"),
    );
    s.strike("lists another namespace's secrets as the dashboard", list);
    let get = client.request(
        s.rng,
        s.now(),
        "get",
        Target::core("secrets")
            .ns("payments")
            .name("ledger-credentials"),
    );
    s.strike("reads one of them", get);
}

fn inside(s: &Stage<'_>, identity: &std::sync::Arc<super::Identity>, agent: &str) -> Client {
    s.world.client(identity, 0, agent, super::ADMIN_REASON)
}

fn exposed(s: &mut Stage<'_>) {
    let client = s.insider();
    let revision = s.world.revise();
    let service = body::service(
        NS,
        "kubernetes-dashboard",
        "LoadBalancer",
        json!({}),
        revision,
    );
    let event = client
        .request(
            s.rng,
            s.now(),
            "patch",
            Target::core("services").ns(NS).name("kubernetes-dashboard"),
        )
        .query("fieldManager=kubectl-patch")
        .sends(json!({"spec": {"type": "LoadBalancer"}}).to_string())
        .gets(service.to_string());
    s.strike(
        "makes the dashboard's service a public load balancer",
        event,
    );
}

fn deployed(s: &mut Stage<'_>) {
    let client = s.insider();
    let mut object = body::deployment(
        NS,
        "kubernetes-dashboard",
        "docker.io/kubernetesui/dashboard:v2.7.0",
        1,
        0,
    );
    object["spec"]["template"]["spec"]["containers"][0]["args"] = json!([
        "--enable-skip-login",
        "--disable-settings-authorizer",
        "--namespace=kubernetes-dashboard"
    ]);
    let mut event = client
        .request(
            s.rng,
            s.now(),
            "create",
            Target::of("apps", "v1", "deployments").ns(NS),
        )
        .query("fieldManager=kubectl-client-side-apply&fieldValidation=Strict")
        .writes(object.to_string());
    event.target.name = "kubernetes-dashboard".to_owned();
    s.strike(
        "deploys a dashboard that lets everyone skip its login",
        event,
    );
}

fn bound(s: &mut Stage<'_>) {
    let client = s.insider();
    let revision = s.world.revise();
    let subjects = [body::account_subject(NS, "kubernetes-dashboard")];
    let object = body::binding(
        "",
        "dashboard-viewer",
        ("ClusterRole", "cluster-admin"),
        &subjects,
        revision,
    );
    let mut event = client
        .request(
            s.rng,
            s.now(),
            "create",
            Target::rbac("clusterrolebindings"),
        )
        .query("fieldManager=kubectl-create&fieldValidation=Strict")
        .writes(object.to_string());
    event.target.name = "dashboard-viewer".to_owned();
    s.strike(
        "binds the dashboard's service account to cluster-admin",
        event,
    );
}
