//! What people do for good reasons, and attackers alike: nobody can tell them apart by the log.

use super::super::event::Target;
use super::super::truth::Family;
use super::{Play, Stage};

pub(super) const PLAYS: &[Play] = &[
    Play {
        name: "on-call looks into a container",
        family: Family::Exec,
        rows: &["EXEC-1", "EXEC-9"],
        attack: &[],
        run: look_inside,
    },
    Play {
        name: "developer debugs their own service",
        family: Family::PortForward,
        rows: &["PF-1"],
        attack: &[],
        run: debug,
    },
];

fn look_inside(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, pod) = s.victim();
    let verb = s.upgrade();
    let event = client
        .request(
            s.rng,
            s.now(),
            verb,
            Target::core("pods").ns(&ns).name(&pod).sub("exec"),
        )
        .query("command=sh&container=app&stdin=true&stdout=true&tty=true")
        .code(101);
    s.strike_long("opens a shell", event, 120.0);
}

fn debug(s: &mut Stage<'_>) {
    let client = s.insider();
    let (ns, _, pod) = s.victim();
    let verb = s.upgrade();
    let event = client
        .request(
            s.rng,
            s.now(),
            verb,
            Target::core("pods").ns(&ns).name(&pod).sub("portforward"),
        )
        .code(101);
    s.strike_long("forwards a port", event, 120.0);
}
