//! Alerts by e-mail, through lettre: text and HTML, STARTTLS, implicit TLS, or plain on loopback.
//!
//! A mail's Message-ID is made of the notification's id and is the same at every attempt, so that a
//! mail sent twice can be told; the notifications of one alert form a thread. SMTP has no way to
//! make delivery exactly-once: a connection that breaks after the server took a mail repeats it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use lettre::address::{Address, Envelope};
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{self, Certificate, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransportBuilder, Error as SmtpError, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::Deserialize;

use super::setup::{Section, describe, is_loopback, one_line, reason_in};
use super::{Attempt, ConfigError, FailureReason, Notification, Receiver, table};
use crate::alert::{Alert, render};
use crate::config::secret::Secret;

/// Notifications of which some recipients are remembered to have them already.
const MAX_PARTIAL: usize = 100;

/// `[email.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EmailConfig {
    pub host: String,
    /// Default by `tls`: 587 for starttls, 465 for implicit, 25 for none.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password: Option<Secret>,
    #[serde(default)]
    pub password_file: Option<std::path::PathBuf>,
    /// PEM file of a private certificate authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
    pub from: String,
    pub to: Vec<String>,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// Whether to tell when an alert closes.
    #[serde(default)]
    pub send_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Refused where the server does not offer it.
    #[default]
    Starttls,
    Implicit,
    /// On loopback only.
    None,
}

fn default_timeout_secs() -> u64 {
    30
}

impl EmailConfig {
    /// A configuration for this server and these addresses, with every default.
    pub fn to(host: &str, from: &str, to: &[&str]) -> EmailConfig {
        EmailConfig {
            host: host.to_owned(),
            port: None,
            tls: Tls::default(),
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            from: from.to_owned(),
            to: to.iter().map(|&address| address.to_owned()).collect(),
            timeout_secs: default_timeout_secs(),
            send_closed: false,
        }
    }
}

/// A receiver that sends mails.
#[derive(Debug)]
pub struct Email {
    settings: AsyncSmtpTransportBuilder,
    /// Made with the first mail: its pool spawns a task, and who checks a configuration has no
    /// runtime.
    transport: OnceLock<AsyncSmtpTransport<Tokio1Executor>>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
    /// By notification: who has it already, where a mail reached only some of its recipients.
    partial: Mutex<HashMap<String, Vec<Address>>>,
}

impl Email {
    /// Checks `[email.NAME]` and reads the files it names; connects to nobody.
    pub fn new(name: &str, config: &EmailConfig) -> Result<Email, ConfigError> {
        let section = Section {
            kind: "email",
            name,
        };
        let mailbox = |key: &str, text: &str| {
            text.parse::<Mailbox>().map_err(|_| {
                let shown = one_line(text);
                let problem = format!("`{shown}` is no address; write name@example.com");
                section.error(key, problem)
            })
        };
        let from = mailbox("from", &config.from)?;
        if config.to.is_empty() {
            return Err(section.error("to", "is empty; give at least one address"));
        }
        let to = config
            .to
            .iter()
            .enumerate()
            .map(|(index, text)| mailbox(&format!("to[{index}]"), text))
            .collect::<Result<Vec<_>, _>>()?;
        let timeout = section.timeout(config.timeout_secs)?;
        Ok(Email {
            settings: settings(section, config, timeout)?,
            transport: OnceLock::new(),
            from,
            to,
            timeout,
            partial: Mutex::default(),
        })
    }

    async fn send(&self, notification: &Notification) -> Attempt {
        let message = notification
            .alert()
            .map_err(|error| error.to_string())
            .and_then(|alert| self.message(&alert, notification));
        let message = match message {
            Ok(message) => message,
            Err(error) => return Attempt::unfit(&error),
        };
        let bytes = message.formatted();
        let recipients = self.remaining(&notification.notification_id);
        let outcome = self.attempt(&recipients, &bytes).await;
        match outcome {
            // One bad address must not keep the mail from the others.
            Attempt::Rejected { .. } if recipients.len() > 1 => {
                self.send_singly(notification, recipients, &bytes).await
            }
            outcome => outcome,
        }
    }

    async fn send_singly(
        &self,
        notification: &Notification,
        recipients: Vec<Address>,
        bytes: &[u8],
    ) -> Attempt {
        let mut later = None;
        let mut refused = None;
        let mut accepted = self.to.len() - recipients.len();
        for recipient in recipients {
            match self.attempt(std::slice::from_ref(&recipient), bytes).await {
                Attempt::Delivered => {
                    accepted += 1;
                    self.note(&notification.notification_id, recipient);
                }
                Attempt::Retry {
                    reason,
                    after,
                    detail,
                } => {
                    later = Some(Attempt::Retry {
                        reason,
                        after,
                        detail,
                    });
                }
                Attempt::Rejected { reason, detail } => {
                    tracing::error!(
                        recipient = %recipient,
                        error = detail,
                        "a recipient of alerts is refused by the mail server"
                    );
                    refused = Some(Attempt::Rejected { reason, detail });
                }
            }
        }
        match (later, refused) {
            (Some(later), _) => later,
            (None, Some(refused)) if accepted == 0 => refused,
            _ => {
                self.partial().remove(&notification.notification_id);
                Attempt::Delivered
            }
        }
    }

    async fn attempt(&self, recipients: &[Address], bytes: &[u8]) -> Attempt {
        let envelope = Envelope::new(Some(self.from.email.clone()), recipients.to_vec())
            .expect("there is at least one recipient");
        // Several commands, each of which may take the transport's own timeout.
        let whole = self.timeout * 4;
        let transport = self.transport.get_or_init(|| self.settings.clone().build());
        match tokio::time::timeout(whole, transport.send_raw(&envelope, bytes)).await {
            Ok(Ok(_)) => Attempt::Delivered,
            Ok(Err(error)) => judge(&error),
            Err(_) => Attempt::Retry {
                reason: FailureReason::Timeout,
                after: None,
                detail: "the mail server took too long".to_owned(),
            },
        }
    }

    fn message(&self, alert: &Alert, notification: &Notification) -> Result<Message, String> {
        let domain = self.from.email.domain();
        let thread = message_id(&alert.id, domain);
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(render::subject(alert))
            .message_id(Some(message_id(&notification.notification_id, domain)))
            .in_reply_to(thread.clone())
            .references(thread)
            .date_now()
            .header(AutoSubmitted);
        for mailbox in &self.to {
            builder = builder.to(mailbox.clone());
        }
        builder
            .multipart(
                MultiPart::alternative()
                    .singlepart(
                        SinglePart::builder()
                            .header(ContentType::TEXT_PLAIN)
                            .body(render::mail_text(alert)),
                    )
                    .singlepart(
                        SinglePart::builder()
                            .header(ContentType::TEXT_HTML)
                            .body(render::mail_html(alert)),
                    ),
            )
            .map_err(|error| error.to_string())
    }

    /// The recipients that do not have the notification yet.
    fn remaining(&self, notification_id: &str) -> Vec<Address> {
        let partial = self.partial();
        let have = partial.get(notification_id);
        self.to
            .iter()
            .map(|mailbox| mailbox.email.clone())
            .filter(|address| have.is_none_or(|have| !have.contains(address)))
            .collect()
    }

    fn note(&self, notification_id: &str, recipient: Address) {
        let mut partial = self.partial();
        if partial.len() >= MAX_PARTIAL {
            partial.clear();
        }
        partial
            .entry(notification_id.to_owned())
            .or_default()
            .push(recipient);
    }

    fn partial(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Address>>> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver for Email {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt> {
        Box::pin(self.send(notification))
    }
}

table!(EmailConfig, "email", Email::new);

fn settings(
    section: Section<'_>,
    config: &EmailConfig,
    timeout: Duration,
) -> Result<AsyncSmtpTransportBuilder, ConfigError> {
    if config.host.is_empty()
        || config.host.contains([':', '/', '@', ' ']) && !is_loopback(&config.host)
    {
        return Err(section.error(
            "host",
            "must be a host's name or address alone; the port is `port`",
        ));
    }
    let password = section.secret(
        "password",
        config.password.as_ref(),
        config.password_file.as_deref(),
    )?;
    let credentials = match (&config.username, password) {
        (Some(user), Some(password)) => {
            Some(Credentials::new(user.clone(), password.expose().to_owned()))
        }
        (None, None) => None,
        (Some(_), None) => {
            return Err(section.error("password-file", "is missing; `username` needs one"));
        }
        (None, Some(_)) => {
            return Err(section.error("username", "is missing; a password is given"));
        }
    };
    if config.tls == Tls::None && !is_loopback(&config.host) {
        return Err(section.error("tls", "must be starttls or implicit, but on loopback"));
    }
    let tls = match config.tls {
        Tls::None => client::Tls::None,
        Tls::Starttls => client::Tls::Required(tls_parameters(section, config)?),
        Tls::Implicit => client::Tls::Wrapper(tls_parameters(section, config)?),
    };
    let port = config.port.unwrap_or(match config.tls {
        Tls::Starttls => 587,
        Tls::Implicit => 465,
        Tls::None => 25,
    });
    // One mail at a time; a connection is kept for the next of a burst.
    let pool = PoolConfig::new()
        .max_size(1)
        .idle_timeout(Duration::from_secs(30));
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
        .port(port)
        .tls(tls)
        .timeout(Some(timeout))
        .pool_config(pool);
    if let Some(credentials) = credentials {
        builder = builder.credentials(credentials);
    }
    Ok(builder)
}

fn tls_parameters(
    section: Section<'_>,
    config: &EmailConfig,
) -> Result<TlsParameters, ConfigError> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(path) = &config.ca_file {
        let pem = section.read("ca-file", path)?;
        let certificate = Certificate::from_pem(&pem)
            .ok()
            .filter(|_| pem.windows(11).any(|window| window == b"-----BEGIN "))
            .ok_or_else(|| section.error("ca-file", "holds no certificate in PEM form"))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder
        .build()
        .map_err(|error| section.error("tls", format!("cannot be set up: {}", describe(&error))))
}

/// Whether another attempt may succeed. A refused login is worth one: it is not about the mail.
fn judge(error: &SmtpError) -> Attempt {
    let detail = describe(error);
    let code = error.status().map(u16::from);
    let reason = match code {
        Some(454 | 530 | 534 | 535 | 538) => FailureReason::Auth,
        Some(421 | 450 | 451 | 452) => FailureReason::ServerError,
        Some(552) => FailureReason::TooLarge,
        Some(500..=599) => FailureReason::ClientError,
        Some(_) => FailureReason::ServerError,
        None if error.is_timeout() => FailureReason::Timeout,
        None if error.is_tls() => FailureReason::Tls,
        None => reason_in(error).unwrap_or(match error.is_client() {
            // The server lacks what is required of it: STARTTLS, a way to log in.
            true => FailureReason::Other,
            false => FailureReason::Connect,
        }),
    };
    if error.is_permanent() && reason != FailureReason::Auth {
        return Attempt::Rejected { reason, detail };
    }
    Attempt::Retry {
        reason,
        after: None,
        detail,
    }
}

/// `<ID@lanner.DOMAIN>`; what may not stand in a Message-ID is written in hexadecimal.
fn message_id(id: &str, domain: &str) -> String {
    let mut left = String::new();
    for byte in id.bytes().take(200) {
        if byte.is_ascii_alphanumeric() || b"-_+".contains(&byte) {
            left.push(char::from(byte));
        } else {
            let _ = write!(left, "={byte:02x}");
        }
    }
    format!("<{left}@lanner.{domain}>")
}

/// Tells out-of-office replies to stay silent (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EmailConfig {
        EmailConfig::to(
            "smtp.example.com",
            "Lanner <lanner@example.com>",
            &["oncall@example.com"],
        )
    }

    #[test]
    fn a_message_id_is_made_of_any_id() {
        assert_eq!(
            message_id("5d1f-7", "example.com"),
            "<5d1f-7@lanner.example.com>"
        );
        assert_eq!(
            message_id("a.b\r\n>", "example.com"),
            "<a=2eb=0d=0a=3e@lanner.example.com>"
        );
    }

    #[test]
    fn a_wrong_configuration_is_told_by_key() {
        let error = |change: &dyn Fn(&mut EmailConfig)| {
            let mut config = config();
            change(&mut config);
            match Email::new("oncall", &config) {
                Ok(_) => panic!("was taken"),
                Err(error) => error.to_string(),
            }
        };
        let starts = |text: String, start: &str| assert!(text.starts_with(start), "{text}");
        starts(
            error(&|config| config.from = "nobody".to_owned()),
            "email.oncall.from: `nobody` is no address",
        );
        starts(
            error(&|config| config.to.push("x@y@z".to_owned())),
            "email.oncall.to[1]: `x@y@z` is no address",
        );
        starts(
            error(&|config| config.to.clear()),
            "email.oncall.to: is empty",
        );
        starts(
            error(&|config| config.host = "smtp.example.com:25".to_owned()),
            "email.oncall.host: must be",
        );
        starts(
            error(&|config| config.tls = Tls::None),
            "email.oncall.tls: must be starttls or implicit",
        );
        starts(
            error(&|config| config.username = Some("u".to_owned())),
            "email.oncall.password-file: is missing",
        );
        starts(
            error(&|config| config.password = Some(Secret::new("hush"))),
            "email.oncall.username: is missing",
        );
        starts(
            error(&|config| config.ca_file = Some("Cargo.toml".into())),
            "email.oncall.ca-file: holds no certificate",
        );
        starts(
            error(&|config| config.timeout_secs = 0),
            "email.oncall.timeout-secs: must be",
        );
    }
}
