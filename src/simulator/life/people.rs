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
    let event = match t.rng.below(100) {
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
            let lasts = t.rng.wait(if follow { 90.0 } else { 0.2 });
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
