//! Places at which a test ends the process or makes a step fail, on the very program that it tests.
//!
//! `LANNER_FAIL_POINTS="commit.inside=kill@3, commit.disk=fail@1-5"` names places, what happens there
//! and at which passages, counted from 1 (`@2-` is the second and all after it; without `@`, all).
//! `kill` is SIGKILL to the own process, `panic` ends the thread, `fail` makes the step return its
//! error. Only builds with debug assertions have all this, so that `cargo test` exercises it without
//! further ado; in a release build the macro is empty and the variable means nothing. A crate was no
//! help: those there are can panic and return, but not kill.

/// A place by its name in [`NAMES`](crate::failpoint::NAMES); with an expression, one that can return
/// it as the function's error.
#[cfg(debug_assertions)]
macro_rules! fail_point {
    ($name:literal) => {
        crate::failpoint::pass($name);
    };
    ($name:literal, $error:expr) => {
        if crate::failpoint::pass($name) {
            return Err($error);
        }
    };
}

#[cfg(not(debug_assertions))]
macro_rules! fail_point {
    ($name:literal $(, $error:expr)?) => {};
}

pub(crate) use fail_point;

/// Whether what is named is to be done out of turn; never in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn is_forced(_name: &str) -> bool {
    false
}

#[cfg(debug_assertions)]
pub(crate) use active::is_forced;
#[cfg(debug_assertions)]
pub use active::{NAMES, pass};

#[cfg(debug_assertions)]
mod active {
    use std::ops::RangeInclusive;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const VARIABLE: &str = "LANNER_FAIL_POINTS";

    /// Every place, in the order in which a run passes them.
    pub const NAMES: [&str; 37] = [
        // The store, while it is opened. `moved` and `created` are passed with a damaged database.
        "start.locked",
        "start.moving",
        "start.moved",
        "start.creating",
        "start.created",
        "start.opened",
        "start.recovered",
        "start.running",
        // A batch, from the hub to the state.
        "source.received",
        "source.sent",
        "work.decoding",
        "work.decoded",
        "judge.before",
        "judge.match",
        "judge.after",
        // The commit. `disk` can fail as a full disk does, `damage` as a damaged database.
        "commit.before",
        "commit.positions",
        "commit.inside",
        "commit.disk",
        "commit.damage",
        "commit.after",
        // A notification.
        "deliver.before",
        "deliver.after",
        "deliver.stored",
        // A snapshot: in the database, then as a file. `due` can force one after each commit.
        "snapshot.due",
        "snapshot.before",
        "snapshot.inside",
        "snapshot.committed",
        "snapshot.half",
        "snapshot.unnamed",
        "snapshot.named",
        "snapshot.after",
        // A reload, a stop.
        "reload.before",
        "reload.after",
        "stop.before",
        "stop.read",
        "stop.judged",
    ];

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Panic,
        Fail,
    }

    #[derive(Debug)]
    struct Armed {
        name: &'static str,
        action: Action,
        at: RangeInclusive<u64>,
        passed: AtomicU64,
    }

    static ARMED: LazyLock<Vec<Armed>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        parse(&text).unwrap_or_else(|error| {
            eprintln!("lanner: {VARIABLE}: {error}");
            std::process::exit(2);
        })
    });

    fn parse(text: &str) -> Result<Vec<Armed>, String> {
        let parts = text.split(',').map(str::trim);
        parts.filter(|part| !part.is_empty()).map(one).collect()
    }

    fn one(part: &str) -> Result<Armed, String> {
        let (name, what) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` has no `=`"))?;
        let name = NAMES
            .into_iter()
            .find(|known| *known == name)
            .ok_or_else(|| format!("there is no place `{name}`"))?;
        let (action, at) = what.split_once('@').unwrap_or((what, "1-"));
        let action = match action {
            "kill" => Action::Kill,
            "panic" => Action::Panic,
            "fail" => Action::Fail,
            _ => return Err(format!("`{action}` is none of kill, panic, fail")),
        };
        let (first, last) = at.split_once('-').unwrap_or((at, at));
        let number = |text: &str, default| match text {
            "" => Ok(default),
            text => text
                .parse()
                .map_err(|_| format!("`{text}` is no number of a passage")),
        };
        Ok(Armed {
            name,
            action,
            at: number(first, 1)?..=number(last, u64::MAX)?,
            passed: AtomicU64::new(0),
        })
    }

    /// Passes a place; says whether the step is to fail.
    pub fn pass(name: &str) -> bool {
        debug_assert!(NAMES.contains(&name), "{name} is not in the list");
        let Some(armed) = ARMED.iter().find(|armed| armed.name == name) else {
            return false;
        };
        let nth = armed.passed.fetch_add(1, Ordering::Relaxed) + 1;
        if !armed.at.contains(&nth) {
            return false;
        }
        match armed.action {
            Action::Kill => kill(),
            Action::Panic => panic!("the fail point {name}"),
            Action::Fail => true,
        }
    }

    pub fn is_forced(name: &str) -> bool {
        pass(name)
    }

    fn kill() -> ! {
        #[cfg(target_os = "linux")]
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // Reached only where the signal is on its way.
        std::process::abort()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn places_and_passages_are_read() {
            let armed =
                parse("commit.inside=kill@3, snapshot.due=fail,judge.match=panic@2-4,").unwrap();
            let seen: Vec<_> = armed
                .iter()
                .map(|armed| (armed.name, armed.action, armed.at.clone()))
                .collect();
            let expected = [
                ("commit.inside", Action::Kill, 3..=3),
                ("snapshot.due", Action::Fail, 1..=u64::MAX),
                ("judge.match", Action::Panic, 2..=4),
            ];
            assert_eq!(seen, expected);
            for wrong in [
                "commit.inside",
                "commit.outside=kill",
                "commit.inside=die",
                "commit.inside=kill@x",
            ] {
                parse(wrong).unwrap_err();
            }
        }
    }
}
