//! People at work: in their hours, from their networks, with their tools; mostly they look.

use std::time::Duration;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;

use super::super::Traffic;
use super::super::body;
use super::super::event::{Client, Target};
use super::super::site::Duty;
use super::super::world::World;
use super::deploys;

/// A session of some commands, if the person is at work; gives the time to the next look.
pub fn turn(index: usize, world: &mut World, t: &mut Traffic<'_>, clock: i8) -> Duration {
    let person = world.people[index].clone();
    let now = TimeZone::UTC.to_datetime(t.now + i64::from(clock).hours());
    let into_day = (now.hour() - person.begins).rem_euclid(24);
    let weekend = matches!(
        now.weekday(),
        jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday
    );
    if is_away(index, now.date(), world, t.now) {
        return t.rng.wait(20_000.0);
    }
    // The first of the platform's people is on call, whatever the hour.
    let on_call = person.duty == Duty::Platform && index == 0;
    if (into_day >= 9 || weekend) && !(on_call && t.rng.chance(0.1)) {
        return t.rng.wait(1500.0);
    }
    let client = world.at_work(&person, t.rng);
    let begun = t.now;
    // Most belong to one team and stay with its namespace.
    let home = index % world.apps.len();
    if person.agent.contains("Lens") {
        overview(&client, home, world, t);
    } else {
        discovery(&client, t);
    }
    for _ in 0..2 + t.rng.below(9) {
        t.pass(2.0, 40.0);
        let app = if t.rng.chance(0.8) {
            home
        } else {
            t.rng.below(world.apps.len())
        };
        command(&client, person.duty, app, world, t);
    }
    let lasted = t.now.duration_since(begun);
    let lasted = Duration::try_from(lasted).unwrap_or_default();
    lasted + t.rng.wait(900.0)
}

/// On holiday, or not on the staff yet: two come in the second week.
fn is_away(index: usize, today: jiff::civil::Date, world: &World, now: jiff::Timestamp) -> bool {
    let week = today.iso_week_date().week() as usize;
    let hired = world.opened + jiff::SignedDuration::from_hours(24 * (8 + (index / 15) as i64));
    (week + index).is_multiple_of(7) || (index % 15 == 13 && now < hired)
}

fn discovery(client: &Client, t: &mut Traffic<'_>) {
    for path in ["/api?timeout=32s", "/apis?timeout=32s"] {
        let event = client.request(t.rng, t.now, "get", Target::url(path));
        t.send(event);
        t.pass(0.02, 0.1);
    }
}

/// A graphical client opens its first page and keeps watching.
fn overview(client: &Client, home: usize, world: &World, t: &mut Traffic<'_>) {
    discovery(client, t);
    let ns = &world.apps[home].namespace;
    for target in [
        Target::core("namespaces"),
        Target::core("nodes"),
        Target::core("pods").ns(ns),
        Target::of("apps", "v1", "deployments").ns(ns),
        Target::core("events").ns(ns),
    ] {
        t.pass(0.02, 0.3);
        let event = client
            .request(t.rng, t.now, "list", target)
            .query("limit=500");
        t.send(event);
    }
    // It asks for everything that it has a page of, and some people may see little of it.
    if world.spec.grown && t.rng.chance(0.15) {
        for target in [
            Target::core("persistentvolumes"),
            Target::of("storage.k8s.io", "v1", "storageclasses"),
            Target::rbac("clusterroles"),
            Target::rbac("clusterrolebindings"),
            Target::core("secrets").ns(ns),
            Target::of("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        ] {
            t.pass(0.02, 0.3);
            let event = client
                .request(t.rng, t.now, "list", target)
                .query("limit=500")
                .forbidden();
            t.send(event);
        }
    }
    let pods = Target::core("pods").ns(ns);
    let event = client
        .request(t.rng, t.now, "watch", pods)
        .query("allowWatchBookmarks=true&watch=true");
    let lasts = t.rng.turn(240.0);
    t.send_all(event.long(lasts));
}

fn command(client: &Client, duty: Duty, index: usize, world: &mut World, t: &mut Traffic<'_>) {
    let app = &world.apps[index];
    let (ns, name) = (app.namespace.clone(), app.name.clone());
    let pod = t.rng.pick(&app.pods).name.clone();
    let pods = Target::core("pods").ns(&ns);
    let deployments = Target::of("apps", "v1", "deployments").ns(&ns);
    let event = match t.rng.below(110) {
        0..=24 => client
            .request(t.rng, t.now, "list", pods)
            .query("limit=500"),
        25..=36 => {
            let get = client.request(t.rng, t.now, "get", pods.name(&pod));
            t.send(get);
            t.pass(0.02, 0.2);
            let query = format!("fieldSelector=involvedObject.name%3D{pod}&limit=500");
            client
                .request(t.rng, t.now, "list", Target::core("events").ns(&ns))
                .query(&query)
        }
        37..=54 => {
            let log = pods.name(&pod).sub("log");
            let follow = t.rng.chance(0.4);
            let query = if follow {
                "container=app&follow=true&tailLines=100"
            } else {
                "container=app&tailLines=200"
            };
            let lasts = match (follow, t.rng.chance(0.1)) {
                // Left open in some window until the evening.
                (true, true) => t.rng.wait(7200.0),
                (true, false) => t.rng.wait(90.0),
                (false, _) => t.rng.wait(0.2),
            };
            let event = client.request(t.rng, t.now, "get", log).query(query);
            let [started, complete] = event.long(lasts);
            t.send(started);
            complete
        }
        55..=66 => client
            .request(t.rng, t.now, "list", deployments)
            .query("limit=500"),
        67..=71 => client.request(t.rng, t.now, "list", Target::core("services").ns(&ns)),
        72..=75 => client.request(
            t.rng,
            t.now,
            "list",
            Target::of("metrics.k8s.io", "v1beta1", "pods").ns(&ns),
        ),
        76..=79 => client.request(
            t.rng,
            t.now,
            "get",
            Target::core("configmaps")
                .ns(&ns)
                .name(&format!("{name}-config")),
        ),
        80..=83 => {
            let review = Target::of("authorization.k8s.io", "v1", "selfsubjectaccessreviews");
            client
                .request(t.rng, t.now, "create", review)
                .writes(body::access_review(
                    &client.identity.name,
                    "create",
                    "deployments",
                    &ns,
                ))
        }
        // A slip of the fingers.
        84..=87 => client
            .request(t.rng, t.now, "get", deployments.name(&format!("{name}s")))
            .not_found(),
        88..=90 => {
            // Not one's own namespace.
            let target = Target::core("secrets")
                .ns(&ns)
                .name(&format!("{name}-credentials"));
            let event = client.request(t.rng, t.now, "get", target);
            if duty == Duty::Platform {
                event
            } else {
                event.forbidden()
            }
        }
        91..=93 => client
            .request(t.rng, t.now, "list", Target::core("nodes"))
            .query("limit=500"),
        94..=95 => client.request(
            t.rng,
            t.now,
            "list",
            Target::of("autoscaling", "v2", "horizontalpodautoscalers").ns(&ns),
        ),
        96..=97 => {
            let role = Target::rbac("rolebindings").ns(&ns);
            client.request(t.rng, t.now, "list", role)
        }
        100 => {
            // `kubectl auth can-i --list`.
            let review = Target::of("authorization.k8s.io", "v1", "selfsubjectrulesreviews");
            client.request(t.rng, t.now, "create", review)
        }
        101 | 102 => {
            // A pod that hangs.
            let event = client
                .request(t.rng, t.now, "delete", pods.name(&pod))
                .sends("{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\"}");
            t.send(event);
            return;
        }
        103 => {
            let scale = format!(
                "{{\"kind\":\"Scale\",\"apiVersion\":\"autoscaling/v1\",\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"{ns}\"}},\"spec\":{{\"replicas\":{}}}}}",
                2 + t.rng.below(3)
            );
            client
                .request(t.rng, t.now, "patch", deployments.name(&name).sub("scale"))
                .writes(scale)
        }
        104 | 105 => {
            // `kubectl get all`.
            for target in [
                Target::core("pods"),
                Target::core("services"),
                Target::of("apps", "v1", "daemonsets"),
                Target::of("apps", "v1", "deployments"),
                Target::of("apps", "v1", "replicasets"),
                Target::of("apps", "v1", "statefulsets"),
                Target::of("autoscaling", "v2", "horizontalpodautoscalers"),
                Target::of("batch", "v1", "cronjobs"),
                Target::of("batch", "v1", "jobs"),
            ] {
                let list = client
                    .request(t.rng, t.now, "list", target.ns(&ns))
                    .query("limit=500");
                t.send(list);
                t.pass(0.05, 0.2);
            }
            return;
        }
        106 if duty == Duty::Platform => {
            let node = t.rng.pick(&world.nodes).name.clone();
            client
                .request(t.rng, t.now, "patch", Target::core("nodes").name(&node))
                .sends("{\"spec\":{\"unschedulable\":true}}")
                .gets(format!("{{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"{node}\"}},\"spec\":{{\"unschedulable\":true}}}}"))
        }
        107 => {
            // `kubectl create job --from=cronjob`.
            let job = serde_json::json!({"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": format!("{name}-manual"), "namespace": ns},
                "spec": {"template": body::deployment(&ns, &name, &app.image, 1, 1)["spec"]["template"]}});
            let mut event = client
                .request(
                    t.rng,
                    t.now,
                    "create",
                    Target::of("batch", "v1", "jobs").ns(&ns),
                )
                .writes(job.to_string());
            event.target.name = format!("{name}-manual");
            event
        }
        _ => {
            // `kubectl rollout restart`.
            let query = "fieldManager=kubectl-rollout";
            let get = client.request(t.rng, t.now, "get", deployments.name(&name));
            t.send(get);
            t.pass(0.05, 0.2);
            deploys::rollout(client, query, index, world, t);
            return;
        }
    };
    t.send(event);
}
