//! What an exec, attach or port-forward asks for, also through a kubelet: the command out of the
//! URI and what it does.
//!
//! The command stands in repeated `command=` parameters of the URI, percent-encoded, in any order;
//! what is typed in the session is never logged. A shell hides words in quotes, escapes and base64:
//! the patterns of [`command`] look at the text without them, and at what is decoded.

use super::view::View;
use super::{Body, Fact, FactSet, Truth, command, target};

/// By which way a command or stream reaches a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    None,
    Exec,
    Attach,
    PortForward,
    /// `run`, `exec`, … at a kubelet through nodes/proxy.
    Kubelet,
}

impl Way {
    pub fn as_str(self) -> &'static str {
        match self {
            Way::None => "",
            Way::Exec => "exec",
            Way::Attach => "attach",
            Way::PortForward => "portforward",
            Way::Kubelet => "kubelet",
        }
    }
}

/// An exec, attach, port-forward or kubelet request.
#[derive(Debug)]
pub struct Exec {
    pub way: Way,
    /// The command's arguments, decoded; empty where there is none or it was not logged.
    pub command: Vec<String>,
    /// Whether the command was not logged.
    pub hidden: bool,
    pub container: String,
    pub tty: bool,
    pub stdin: bool,
}

impl Exec {
    pub(super) fn of(view: &View<'_>) -> Exec {
        let way = match (view.resource(), view.subresource()) {
            ("pods", "exec") => Way::Exec,
            ("pods", "attach") => Way::Attach,
            ("pods", "portforward") => Way::PortForward,
            ("nodes", "proxy") if view.is(Fact::TargetKubeletCommand) => Way::Kubelet,
            _ => Way::None,
        };
        let mut exec = Exec {
            way,
            command: Vec::new(),
            hidden: false,
            container: String::new(),
            tty: false,
            stdin: false,
        };
        match way {
            Way::None => {}
            Way::Kubelet => exec.read_kubelet(view),
            Way::Exec | Way::Attach | Way::PortForward => exec.read_pod(view),
        }
        exec
    }

    fn read_pod(&mut self, view: &View<'_>) {
        self.read_query(view, &["command"], "stdin");
        // An options object in the body is what some exports make of the query.
        if let Some(options) = view.request_object() {
            if self.command.is_empty() {
                self.command = options
                    .get("command")
                    .strings()
                    .map(str::to_owned)
                    .collect();
            }
            if self.container.is_empty() {
                self.container = options.get("container").str().to_owned();
            }
            self.tty |= options.get("tty").is_true();
            self.stdin |= options.get("stdin").is_true();
        }
        self.hidden = self.way == Way::Exec
            && self.command.is_empty()
            && view.event.request_object == Body::Unreadable;
    }

    /// The kubelet's paths: `run/NS/POD[/UID]/CONTAINER?cmd=…` (which may also be in a form body),
    /// `exec/NS/POD[/UID]/CONTAINER?command=…&input=1&output=1&tty=1`, `cri/exec/TOKEN`.
    fn read_kubelet(&mut self, view: &View<'_>) {
        self.read_query(view, &["command", "cmd"], "input");
        let path = target::proxy_path(view);
        let endpoint = target::kubelet_command(&path);
        if matches!(endpoint, Some("run" | "exec" | "attach")) {
            self.container = path.rsplit('/').next().unwrap_or("").to_owned();
        }
        self.hidden = self.command.is_empty() && matches!(endpoint, Some("run" | "cri"));
    }

    fn read_query(&mut self, view: &View<'_>, commands: &[&str], stdin: &str) {
        let (mut tty, mut input) = (None, None);
        for (name, value) in view.query() {
            match name.as_ref() {
                name if commands.contains(&name) => self.command.push(value.to_string()),
                "container" if self.container.is_empty() => self.container = value.to_string(),
                "tty" => tty = tty.or(Some(is_true(value))),
                name if name == stdin => input = input.or(Some(is_true(value))),
                _ => {}
            }
        }
        self.tty = tty.unwrap_or(false);
        self.stdin = input.unwrap_or(false);
    }

    /// The command on one line.
    pub fn line(&self) -> String {
        self.command.join(" ")
    }
}

/// As Kubernetes' conversion of query parameters: all but `false` and `0` is true.
fn is_true(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

pub(super) fn facts(view: &View<'_>, facts: &mut FactSet) {
    let exec = view.exec();
    facts.set(Fact::ExecTty, exec.tty);
    facts.set(Fact::ExecStdin, exec.stdin);
    facts.set(Fact::ExecKubelet, exec.way == Way::Kubelet);
    let traits = command::Traits::of(&exec.command);
    let hidden = exec.hidden;
    let mut set = |fact: Fact, truth: bool| {
        let truth = if hidden {
            Truth::Unknown
        } else {
            Truth::from(truth)
        };
        facts.set(fact, truth);
        truth == Truth::True
    };
    set(Fact::ExecShell, traits.shell);
    set(
        Fact::ExecPipedShell,
        traits.shell && !exec.tty && exec.stdin && !traits.shell_command,
    );
    set(Fact::ExecReadsToken, traits.reads_token);
    set(Fact::ExecServicePrincipal, traits.service_principal);
    let notable = [
        (Fact::ExecInteractiveShell, traits.shell && exec.tty),
        (Fact::ExecReverseShell, traits.reverse_shell),
        (Fact::ExecDownload, traits.download),
        (Fact::ExecMetadataEndpoint, traits.metadata_endpoint),
        (Fact::ExecReadsCredentials, traits.reads_credentials),
        (Fact::ExecCopiesOut, traits.copies_out),
        (Fact::ExecCopiesIn, traits.copies_in),
        (Fact::ExecBreakout, traits.breakout),
        (Fact::ExecInstallsPackage, traits.installs_package),
        (Fact::ExecMiner, traits.miner),
        (Fact::ExecEncodedPayload, traits.encoded_payload),
        (Fact::ExecOffensiveTool, traits.offensive_tool),
    ]
    .into_iter()
    .fold(false, |any, (fact, truth)| set(fact, truth) | any);
    // A command that was not logged is not known to be harmless, but it is not notable either.
    facts.set(Fact::ExecNotable, notable);
}
