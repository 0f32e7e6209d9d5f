//! The words by which a command gives away what it does: one regular expression a line, all of them
//! compiled once into one automaton.

use std::sync::LazyLock;

use regex::RegexSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trait {
    ReverseShell,
    Download,
    RunsDownload,
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
pub(super) const TABLE: &[(Trait, &str)] = &[
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
        Trait::RunsDownload,
        r"%(curl|wget)\s.*\|\s*(sudo\s+)?\S*((ba|da|a|z|k)?sh|python[0-9.]*|perl|node|php)\b",
    ),
    (
        Trait::RunsDownload,
        r"%(curl|wget)\s.*%chmod\s+(-\S+\s+)*(\+x|[ugoa]*\+\S*x|0?[1-7]{3})",
    ),
    (
        Trait::RunsDownload,
        r"%(eval|source|\.|(ba|da|a|z|k)?sh)\s.*(\$\(|`|<\()\s*(curl|wget)\s",
    ),
    (
        Trait::RunsDownload,
        r"%(exec|eval|system|popen|subprocess)\W.*(urlopen|requests\.get|urllib)",
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

pub(super) static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(
        TABLE
            .iter()
            .map(|(_, pattern)| format!("(?is){}", pattern.replace('%', WORD))),
    )
    .expect("the patterns above are regular expressions")
});

/// Where a word begins or ends: at the line's ends, behind a separator or a program's path.
const WORD: &str = r#"(?:^|[\s;|&()<>`'"=/]|$)"#;
