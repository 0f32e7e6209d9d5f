//! What a command line does, as far as its words tell.
//!
//! [`Traits::of`] takes the arguments of an exec as the API server got them. Judged are the plain
//! line and the line without a shell's quoting; what is base64 within is decoded and judged too.
//! Bounded: only the first 64 KiB count.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::{Regex, RegexSet};

const LONGEST: usize = 64 * 1024;

/// Addresses at which a cloud answers for the machine: the instance metadata service and Azure's
/// WireServer.
const METADATA: [Ipv4Addr; 2] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
];

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Traits {
    pub shell: bool,
    /// The shell was given a command (`-c`) or a script.
    pub shell_command: bool,
    pub reverse_shell: bool,
    pub download: bool,
    pub metadata_endpoint: bool,
    pub reads_token: bool,
    pub reads_credentials: bool,
    pub service_principal: bool,
    pub copies_out: bool,
    pub copies_in: bool,
    pub breakout: bool,
    pub installs_package: bool,
    pub miner: bool,
    pub encoded_payload: bool,
    pub offensive_tool: bool,
}

impl Traits {
    pub(super) fn of(command: &[String]) -> Traits {
        if command.is_empty() {
            return Traits::default();
        }
        let mut line = command.join(" ");
        truncate(&mut line);
        let mut traits = Traits::default();
        (traits.shell, traits.shell_command) = shell(command);
        let plain = unquote(&line);
        traits.judge(&plain);
        if plain != line {
            traits.judge(&line);
        }
        for decoded in decode_base64(&plain) {
            traits.judge(&decoded);
        }
        traits
    }

    fn judge(&mut self, line: &str) {
        let found = PATTERNS.matches(line);
        let any = |trait_: Trait| {
            TABLE
                .iter()
                .enumerate()
                .any(|(i, (of, _))| *of == trait_ && found.matched(i))
        };
        self.reverse_shell |= any(Trait::ReverseShell);
        self.metadata_endpoint |= any(Trait::Metadata) || names_metadata_address(line);
        self.download |= any(Trait::Download) || fetches(line);
        self.reads_token |= any(Trait::Token);
        self.service_principal |= any(Trait::ServicePrincipal);
        self.reads_credentials |=
            any(Trait::Credentials) || any(Trait::Token) || any(Trait::ServicePrincipal);
        self.breakout |= any(Trait::Breakout);
        self.installs_package |= any(Trait::Package);
        self.miner |= any(Trait::Miner);
        self.encoded_payload |= any(Trait::Encoded);
        self.offensive_tool |= any(Trait::Offensive);
        let (out, into) = tar(line);
        self.copies_out |= out;
        self.copies_in |= into;
    }
}

fn truncate(line: &mut String) {
    if line.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|&i| line.is_char_boundary(i))
            .unwrap_or(0);
        line.truncate(end);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trait {
    ReverseShell,
    Download,
    Metadata,
    Token,
    ServicePrincipal,
    Credentials,
    Breakout,
    Package,
    Miner,
    Encoded,
    Offensive,
}

/// All are matched without case; `%` stands for [`WORD`].
const TABLE: &[(Trait, &str)] = &[
    (Trait::ReverseShell, r"/dev/(tcp|udp)/"),
    (
        Trait::ReverseShell,
        r"%(nc|ncat|netcat|nc\.[a-z]+)\s[^|;&]*(-[a-z]*[ec]\b|--(sh-)?exec\b)",
    ),
    (
        Trait::ReverseShell,
        r"%(nc|ncat|netcat|nc\.[a-z]+|telnet)\s[^;&]*\|\s*\S*%?(ba|da|a|z|k)?sh\b",
    ),
    (
        Trait::ReverseShell,
        r"%(ba|da|a|z|k)?sh\b[^;]*\|\s*\S*(nc|ncat|netcat|telnet|openssl)\s",
    ),
    (
        Trait::ReverseShell,
        r"%mk(fifo|nod)\s.*%?(nc|ncat|netcat|telnet|openssl|socat|sh|bash)\b",
    ),
    (Trait::ReverseShell, r"%socat\s.*(exec|system|shell):"),
    (
        Trait::ReverseShell,
        r"pty\s*\.\s*spawn|%script\s+(-[a-z]+\s+)*.*/dev/null\s*$",
    ),
    (
        Trait::ReverseShell,
        r"python[0-9.]*\s.*socket.*(connect|bind).*(dup2|subprocess|pty|/sh|bash|popen|system)",
    ),
    (
        Trait::ReverseShell,
        r"python[0-9.]*\s.*socket.*(dup2|subprocess|popen|os\.system).*connect",
    ),
    (
        Trait::ReverseShell,
        r"perl\s.*socket.*(exec|system|open|/sh)",
    ),
    (
        Trait::ReverseShell,
        r"ruby\s.*(tcpsocket|-rsocket).*(exec|spawn|/sh|popen|system|fork)",
    ),
    (
        Trait::ReverseShell,
        r"php\s.*(fsockopen|stream_socket_client|socket_create).*(exec|popen|proc_open|/sh|system|passthru)",
    ),
    (
        Trait::ReverseShell,
        r"lua[0-9.]*\s.*socket.*(execute|popen|/sh)",
    ),
    (
        Trait::ReverseShell,
        r"node\s.*net.*(connect|socket).*(child_process|spawn|exec|/sh)|node\s.*child_process.*net.*(connect|socket)",
    ),
    (Trait::ReverseShell, r"awk\s.*/inet/(tcp|udp)/"),
    (
        Trait::ReverseShell,
        r"openssl\s+s_client.*(\||>).*(/tmp|/dev|sh\b)|%(ba|a|da)?sh\b.*openssl\s+s_client",
    ),
    (Trait::ReverseShell, r"net\.sockets\.tcpclient|powercat"),
    (
        Trait::ReverseShell,
        r"%(ba|a|da|z)?sh\s+-[a-z]*i[a-z]*\b.*([0-9]?>&|<&|/dev/)",
    ),
    (
        Trait::ReverseShell,
        r"%exec\s+[0-9]+<>|ztcp|meterpreter|msfvenom|reverse[_-]?shell|revshell",
    ),
    (
        Trait::Download,
        r"urlretrieve|urllib[0-9.]*(\.request)?\W.*https?://|requests\.get\(.*https?://",
    ),
    (
        Trait::Download,
        r"invoke-webrequest|invoke-restmethod|%iwr\s|%irm\s|downloadstring|downloadfile|start-bitstransfer|certutil.*-urlcache|bitsadmin",
    ),
    (
        Trait::Download,
        r"%git\s+clone\s|%(scp|sftp|tftp|ftpget|lwp-download|aria2c|axel|azcopy|gsutil)\s|%rsync\s.*(::|@|rsync://)",
    ),
    (
        Trait::Download,
        r"%az\s+storage\s+blob\s+download|%aws\s+s3\s+(cp|sync)\s",
    ),
    (
        Trait::Download,
        r"%(curl|wget)\s.*\|\s*(sudo\s+)?\S*(ba|da|a|z|k)?sh\b",
    ),
    (
        Trait::Metadata,
        r"metadata/identity|metadata/(instance|scheduledevents|attested|loadbalancer)\b|oauth2/token|latest/(meta-data|user-data|dynamic|api/token)|computemetadata/v1",
    ),
    (
        Trait::Metadata,
        r"metadata\.google\.internal|instance-data(\.ec2\.internal)?\b|metadata\.azure\.(com|internal)|169-254-169-254|fd00:ec2::254",
    ),
    (Trait::Metadata, r"comp=goalstate|machine/\?comp="),
    (
        Trait::Token,
        r"/run/secrets(/|%|$)|serviceaccounts?/token|secrets/(kubernetes\.io|azure|eks\.amazonaws\.com|tokens)(/|%|$)",
    ),
    (
        Trait::Token,
        r"azure-identity-token|azure_federated_token_file|workload-identity",
    ),
    (
        Trait::Token,
        r"kubernetes\.io~(projected|secret)|kubernetes\.io/serviceaccount",
    ),
    (
        Trait::ServicePrincipal,
        r"azure\.json|azurestackcloud\.json|aadclientsecret|/etc/kubernetes/(%|$|\*)|%ls\s.*/etc/kubernetes/?(%|$)",
    ),
    (
        Trait::Credentials,
        r"/etc/kubernetes(/|%|$)|/var/lib/kubelet(/(pki|kubeconfig|bootstrap-kubeconfig|pods)|%|$)",
    ),
    (
        Trait::Credentials,
        r"\.kube(/|%|$)|kubeconfig\b|/admin\.conf|/etc/rancher",
    ),
    (
        Trait::Credentials,
        r"[^\s]\.(pem|pfx|p12|jks|ppk|kdbx|keytab)(%|$)|\.key(%|$)|id_(rsa|dsa|ecdsa|ed25519)\b|\.ssh(/|%|$)",
    ),
    (
        Trait::Credentials,
        r"/etc/(shadow|gshadow|sudoers)\b|/etc/security/opasswd",
    ),
    (
        Trait::Credentials,
        r"\.aws(/|%|$)|\.azure(/|%|$)|accesstokens\.json|msal_token_cache|\.config/gcloud|application_default_credentials|\.docker/config\.json|\.dockercfg|\.dockerconfigjson",
    ),
    (
        Trait::Credentials,
        r"\.git-credentials|\.netrc|\.pgpass|\.my\.cnf|\.npmrc|\.pypirc|\.vault-token|/vault/secrets|secrets-store",
    ),
    (Trait::Credentials, r"/proc/([0-9]+|self|\*|\$\S+)/environ"),
    (
        Trait::Credentials,
        r"credentials?(\.(json|xml|ya?ml|csv|txt|ini|db))?(%|$)|(secrets?|passwords?|tokens?)\.(json|xml|ya?ml|csv|txt|env|conf)\b|/\.env\b|wp-config\.php|terraform\.tfstate",
    ),
    (
        Trait::Credentials,
        r"(find|grep|rg)\s.*(password|passwd|secret|token|api[_-]?key|private key)",
    ),
    (Trait::Breakout, r"%nsenter\b|%unshare\b|%capsh\b|%setns\b"),
    (
        Trait::Breakout,
        r"%chroot\s+(-\S+\s+)*\S*/?(host|node|root|mnt|hostfs|rootfs|hostroot|noderoot|proc/1/root)",
    ),
    (
        Trait::Breakout,
        r"%mount\s.*(/dev/(sd|vd|xvd|nvme|root|disk|mapper|dm-)|cgroup|--bind\s+/|-t\s+proc)",
    ),
    (
        Trait::Breakout,
        r"release_agent|notify_on_release|uevent_helper|core_pattern|binfmt_misc|sysrq-trigger|/proc/1/(root|ns)|/proc/self/exe\b",
    ),
    (
        Trait::Breakout,
        r"(docker|containerd|crio|cri-dockerd|dockershim|podman)\.sock\b|%(docker|podman|nerdctl|crictl|ctr)\s",
    ),
    (
        Trait::Breakout,
        r"%(insmod|modprobe|kmod\s+load|debugfs|losetup|cryptsetup|mknod\s+\S+\s+b)\b",
    ),
    (
        Trait::Breakout,
        r"/(host|hostfs|rootfs|noderoot)/(etc|var|root|proc|home|run|usr)\b|%(fdisk|lsblk|blkid)\b",
    ),
    (
        Trait::Package,
        r"%(apt|apt-get|aptitude|yum|dnf|microdnf|tdnf|zypper|apk|pacman|opkg|brew|choco|conda)\s+(-\S+\s+)*(install|add|update|upgrade|in|-s[yu]*)\b",
    ),
    (
        Trait::Package,
        r"%(pip[0-9.]*|gem|go|cargo|luarocks|cpan|easy_install)\s+(-\S+\s+)*install\b|-m\s+pip\s+install|%npm\s+(i|install|add)\b|%yarn\s+add\b|%(dpkg|rpm)\s+-[a-z]*[iu]",
    ),
    (
        Trait::Miner,
        r"xmrig|xmr-stak|minerd\b|cpuminer|ccminer|ethminer|nbminer|phoenixminer|lolminer|t-rex\s|gminer|srbminer|kinsing|kdevtmpfsi|minergate|nicehash|cryptonight|randomx|ethash|kawpow",
    ),
    (
        Trait::Miner,
        r"stratum[0-9]?\+(tcp|ssl|tls)|stratum://|--donate-level|--algo[= ]\S*(rx|cn|kheavy|cryptonight)|--coin[= ](xmr|monero)|(supportxmr|minexmr|moneroocean|hashvault|nanopool|2miners|f2pool|unmineable|herominers|c3pool)",
    ),
    (
        Trait::Encoded,
        r"base(64|32)\s+(-\S+\s+)*(-d|--decode|-di|-id)\b.*\|\s*(sudo\s+)?\S*((ba|da|a|z|k)?sh|python[0-9.]*|perl|ruby|php|node|xargs|source)\b",
    ),
    (
        Trait::Encoded,
        r"(^|[^=\w])(`|\$\(|<\()[^)`]*base(64|32)\s+(-\S+\s+)*(-d|--decode)|base64\s+(-\S+\s+)*(-d|--decode).*>.*%(chmod|sh|bash|\.)\s",
    ),
    (
        Trait::Encoded,
        r"openssl\s+(enc\s+)?(-?base64|-?aes\S*)\s.*-d\b.*\||%xxd\s+(-\S+\s+)*-r.*\||%(gunzip|zcat|gzip\s+-\S*d\S*)\b.*\|\s*\S*(ba|da|a|z)?sh\b",
    ),
    (
        Trait::Encoded,
        r"%(exec|eval|system|iex|invoke-expression|popen|subprocess|run)\b.*(b64decode|frombase64string|decode64|base64_decode|atob|\.decode\(.?(base64|hex))",
    ),
    (
        Trait::Encoded,
        r"(b64decode|frombase64string|decode64|base64_decode|atob|\.decode\(.?(base64|hex)).*%(exec|eval|system|iex|invoke-expression|popen|subprocess)\b",
    ),
    (
        Trait::Encoded,
        r"(powershell|pwsh)(\.exe)?\s.*-e(n|nc|nco\S*)?\s+[a-z0-9+/=]{16,}",
    ),
    (
        Trait::Encoded,
        r"%(printf|echo\s+-\S*e\S*)\s+.*(\\x[0-9a-f]{2}){4,}.*(\||`|\$\()|%eval\s.*(\\x[0-9a-f]{2}|\$\(|`)",
    ),
    (
        Trait::Offensive,
        r"kube-?hunter|kubeletctl|peirates|kubesploit|kdigger|%botb\b|amicontained|deepce|linpeas|linenum|lse\.sh|les\.sh|%pspy|traitor|gtfobins|%cdk\s+(eva|run|kcurl|ps|nc)|mimikatz|mimipenguin|azurehound|bloodhound|trufflehog|gitleaks|crackmapexec|impacket|responder\.py",
    ),
    (
        Trait::Offensive,
        r"%(nmap|masscan|zmap|rustscan|naabu|hydra|medusa|msfconsole|sqlmap|nikto|nuclei|gobuster|ffuf|chisel|ngrok|frpc|frps|gost|ligolo|cloudflared|tshark|tcpdump|bettercap|arpspoof|ettercap|proot|proxychains4?)\b",
    ),
    (
        Trait::Offensive,
        r"%(kubectl|helm|etcdctl)\s|%az\s+(login|account|keyvault|aks|ad|role)\s",
    ),
];

static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(
        TABLE
            .iter()
            .map(|(_, pattern)| format!("(?is){}", pattern.replace('%', WORD))),
    )
    .expect("the patterns above are regular expressions")
});

/// Where a word begins or ends: at the line's ends, behind a separator or a program's path.
const WORD: &str = r#"(?:^|[\s;|&()<>`'"=/]|$)"#;

/// Whether the program is a shell, and whether it was given something to run.
fn shell(command: &[String]) -> (bool, bool) {
    let mut words = command.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let program = word.rsplit(['/', '\\']).next().unwrap_or(word);
        let program = program.strip_suffix(".exe").unwrap_or(program);
        match program.to_ascii_lowercase().as_str() {
            "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh" | "mksh" | "csh" | "tcsh" | "fish"
            | "rbash" | "rsh" | "cmd" | "powershell" | "pwsh" | "su" | "login" => {
                let runs = words.clone().any(|argument| {
                    !argument.starts_with('-')
                        || argument.trim_start_matches('-').contains('c')
                            && !argument.starts_with("--")
                });
                return (true, runs);
            }
            // Programs that run the program named after them.
            "env" | "sudo" | "doas" | "nohup" | "setsid" | "exec" | "busybox" | "toybox"
            | "nice" | "ionice" | "stdbuf" | "timeout" | "time" | "xargs" | "unbuffer" | "tini"
            | "dumb-init" | "nsenter" | "chroot" | "unshare" | "setpriv" | "script" | "command"
            | "rlwrap" | "strace" => {
                while words.peek().is_some_and(|next| {
                    let name = next.rsplit('/').next().unwrap_or(next);
                    !is_shell_name(name) && words_before_program(next)
                }) {
                    words.next();
                }
            }
            // `sh -c …` as one argument, or words split oddly.
            _ if word.contains(char::is_whitespace) => {
                let inner: Vec<String> = word.split_whitespace().map(str::to_owned).collect();
                let (is_shell, runs) = shell(&inner);
                return (is_shell, runs || words.peek().is_some());
            }
            _ => return (false, false),
        }
    }
    (false, false)
}

fn is_shell_name(name: &str) -> bool {
    matches!(
        name,
        "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh" | "csh" | "tcsh" | "fish"
    )
}

/// Options, assignments, numbers and paths between a wrapper and its program.
fn words_before_program(word: &str) -> bool {
    word.starts_with('-')
        || word.contains('=')
        || word.starts_with(|c: char| c.is_ascii_digit())
        || word.starts_with('/') && !word.contains("/bin/")
}

/// The line as a shell reads it, roughly: without quotes and backslashes, `$IFS` as a blank, and
/// blanks run together.
fn unquote(line: &str) -> String {
    static IFS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\$\{IFS[^}]*\}|\$IFS(\$?[0-9])?|\$[@*]|\$\{[@*]\}").expect("a literal pattern")
    });
    let line = IFS.replace_all(
        line,
        |found: &regex::Captures<'_>| {
            if found[0].contains("IFS") { " " } else { "" }
        },
    );
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {}
            // `\x41` of printf stays what it is.
            '\\' if matches!(chars.peek(), Some('x' | '0'..='9')) => out.push(c),
            '\\' => {}
            c if c.is_whitespace() || c.is_control() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Texts that long base64 words of the line decode to, also UTF-16 as PowerShell takes it.
fn decode_base64(line: &str) -> Vec<String> {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{16,}={0,2}").expect("a literal pattern"));
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    WORDS
        .find_iter(line)
        .take(32)
        .filter_map(|word| {
            let word = word.as_str().replace('-', "+").replace('_', "/");
            let bytes = ENGINE.decode(word.trim_end_matches('=')).ok()?;
            let text = if bytes.len() >= 4 && bytes.iter().skip(1).step_by(2).all(|b| *b == 0) {
                bytes.iter().step_by(2).map(|b| char::from(*b)).collect()
            } else {
                String::from_utf8(bytes).ok()?
            };
            let printable = text.chars().all(|c| !c.is_control() || c.is_whitespace());
            printable.then(|| unquote(&text))
        })
        .collect()
}

/// Whether the line holds a metadata address in any spelling that C libraries read.
fn names_metadata_address(line: &str) -> bool {
    static NUMBERS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}")
            .expect("a literal pattern")
    });
    static IPV6: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)[0-9a-f]{0,4}:[0-9a-f:]*:[0-9a-f:.]+").expect("a literal pattern")
    });
    NUMBERS
        .find_iter(line)
        .filter_map(|found| inet_aton(found.as_str()))
        .any(|address| METADATA.contains(&address))
        || IPV6.find_iter(line).any(|found| {
            found
                .as_str()
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| match address.to_ipv4() {
                    Some(v4) => METADATA.contains(&v4),
                    None => address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
                })
        })
}

/// An IPv4 address as `inet_aton` reads it: one to four parts, each decimal, octal or hexadecimal,
/// the last filling what remains.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text
        .split('.')
        .map(|part| {
            let lower = part.to_ascii_lowercase();
            if let Some(hex) = lower.strip_prefix("0x") {
                u64::from_str_radix(hex, 16).ok()
            } else if lower.len() > 1 && lower.starts_with('0') {
                u64::from_str_radix(&lower, 8).ok()
            } else {
                lower.parse().ok()
            }
        })
        .collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    let mut address: u64 = 0;
    for part in leading {
        if *part > 255 {
            return None;
        }
        address = address << 8 | part;
    }
    let rest = 8 * (4 - leading.len() as u32);
    if *last >= 1 << rest {
        return None;
    }
    u32::try_from(address << rest | last)
        .ok()
        .map(Ipv4Addr::from)
}

/// Whether curl, wget or the like ask for something that is neither local nor a health check nor
/// the metadata endpoint, which is a finding of its own.
fn fetches(line: &str) -> bool {
    static CLIENT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:^|[\s;|&()`/])(?:curl|wget|fetch|http|https|lynx|links)\s+([^;|&]*)")
            .expect("a literal pattern")
    });
    static HOST: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?ix)(?:^|\s) (?: (?:https?|ftps?|tftp)://(?:[^@/\s]*@)? (\[[^\]\s]*\]|[^/:\s?]+)
            | ((?:[a-z0-9-]+\.)+(?:[a-z]{2,})|[0-9]+(?:\.[0-9]+){3}) (?::[0-9]+)? (?:/|\s|$) )
            ([^\s]*)",
        )
        .expect("a literal pattern")
    });
    CLIENT.captures_iter(line).any(|client| {
        HOST.captures_iter(&client[1]).any(|host| {
            let name = host
                .get(1)
                .or_else(|| host.get(2))
                .map_or("", |name| name.as_str());
            let path = host.get(3).map_or("", |path| path.as_str());
            let file_like = host.get(1).is_none() && !host[0].contains('/') && is_file_name(name);
            !is_local(name) && !is_probe(path) && !names_metadata_address(name) && !file_like
        })
    })
}

/// A bare word such as `out.tgz` behind `-o` is no host.
fn is_file_name(name: &str) -> bool {
    [
        ".gz", ".tgz", ".zip", ".sh", ".py", ".json", ".txt", ".html", ".log", ".yaml", ".yml",
        ".pem", ".crt", ".bin", ".tar", ".xml",
    ]
    .iter()
    .any(|ending| name.ends_with(ending))
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.starts_with("127.")
        || matches!(host, "[::1]" | "0.0.0.0" | "[::]")
}

fn is_probe(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or("").trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or("");
    matches!(
        last,
        "health"
            | "healthz"
            | "livez"
            | "readyz"
            | "ready"
            | "live"
            | "ping"
            | "metrics"
            | "status"
            | "jwks"
            | "jwks.json"
            | "openid-configuration"
    )
}

/// Whether the line packs to standard output, and whether it unpacks from standard input.
fn tar(line: &str) -> (bool, bool) {
    let (mut out, mut into) = (false, false);
    for command in line.split([';', '|', '&', '\n', '(', ')', '`']) {
        let mut words = command
            .split_whitespace()
            .skip_while(|word| {
                let name = word.rsplit('/').next().unwrap_or(word);
                !matches!(name, "tar" | "gtar" | "bsdtar" | "star")
            })
            .skip(1);
        let Some(first) = words.next() else { continue };
        let rest: Vec<&str> = std::iter::once(first).chain(words).collect();
        let letters = rest
            .iter()
            .enumerate()
            .filter(|(i, word)| {
                (*i == 0 || word.starts_with('-')) && !word.starts_with("--") && **word != "-"
            })
            .map(|(_, word)| *word)
            .collect::<Vec<_>>();
        let has = |letter: char, long: &[&str]| {
            letters.iter().any(|word| word.contains(letter))
                || rest.iter().any(|word| long.contains(word))
        };
        let stream = rest.iter().any(|word| {
            matches!(
                *word,
                "-" | "--file=-" | "-f-" | "/dev/stdout" | "/dev/stdin"
            )
        }) || letters
            .iter()
            .any(|word| word.len() > 2 && word.ends_with("f-"))
            || !has('f', &["--file"]) && !rest.iter().any(|word| word.starts_with("--file"));
        let create = letters.first().is_some_and(|word| word.contains('c'))
            || rest.contains(&"--create")
            || rest.contains(&"-c");
        let extract = !create && has('x', &["--extract", "--get"]);
        out |= stream && create;
        into |= stream && extract;
    }
    (out, into)
}
