//! Alerts by HTTP POST, signed after the Standard Webhooks specification.
//!
//! The body is the alert's JSON as it lies in the outbox, an OCSF finding (`[ocsf.NAME]`), or what
//! a template of the site's own makes of the alert. The headers are `webhook-id`,
//! `webhook-timestamp` and `webhook-signature` as <https://www.standardwebhooks.com> has them, and
//! `Idempotency-Key`; id and key are the notification's and stay the same at every attempt.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use futures::future::BoxFuture;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::http::{Http, Settings, default_timeout_secs};
use super::payload::{self, Template};
use super::setup::Section;
use super::{Attempt, ConfigError, Notification, Receiver, table};
use crate::config::secret::Secret;

const JSON: &str = "application/json";

/// `[webhook.NAME]`.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookConfig {
    /// Shown nowhere but for its host, because many services put their token into it.
    pub url: String,
    /// Read into `url` when the configuration is loaded.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// A template of the body in place of the alert's JSON; see [`Template`].
    #[serde(default)]
    pub body: Option<String>,
    /// Read into `body` when the configuration is loaded.
    #[serde(default)]
    pub body_file: Option<PathBuf>,
    /// Of the body; where it is JSON, every value in the template is written as JSON.
    #[serde(default = "default_content_type")]
    pub content_type: String,
    /// `whsec_…` (base64); without one, notifications are not signed.
    #[serde(default)]
    pub signing_secret: Option<Secret>,
    #[serde(default)]
    pub signing_secret_file: Option<PathBuf>,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// PEM file of a private certificate authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Plain http to other hosts than loopback.
    #[serde(default)]
    pub allow_insecure: bool,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// Whether to tell when an alert closes.
    #[serde(default)]
    pub send_closed: bool,
}

fn default_content_type() -> String {
    JSON.to_owned()
}

impl WebhookConfig {
    /// A configuration with this address and every default.
    pub fn to(url: &str) -> WebhookConfig {
        WebhookConfig {
            url: url.to_owned(),
            url_file: None,
            body: None,
            body_file: None,
            content_type: default_content_type(),
            signing_secret: None,
            signing_secret_file: None,
            bearer_token: None,
            bearer_token_file: None,
            ca_file: None,
            allow_insecure: false,
            timeout_secs: default_timeout_secs(),
            send_closed: false,
        }
    }
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(&self.url).ok();
        f.debug_struct("WebhookConfig")
            .field("host", &url.as_ref().and_then(Url::host_str))
            .field("signed", &self.signing_secret.is_some())
            .finish_non_exhaustive()
    }
}

/// `[ocsf.NAME]`: a webhook whose body is an OCSF Detection Finding.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OcsfConfig {
    pub url: Secret,
    /// Read into `url` when the configuration is loaded.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// As of `[webhook.NAME]`, like the rest.
    #[serde(default)]
    pub signing_secret: Option<Secret>,
    #[serde(default)]
    pub signing_secret_file: Option<PathBuf>,
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub allow_insecure: bool,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    #[serde(default)]
    pub send_closed: bool,
}

/// A receiver that takes alerts by POST.
pub struct Webhook {
    http: Http,
    key: Option<Vec<u8>>,
    content_type: HeaderValue,
    body: Body,
}

enum Body {
    Alert,
    Ocsf,
    Own(Box<Template>),
}

impl Webhook {
    /// Checks `[webhook.NAME]` and reads the files it names; connects to nobody.
    pub fn new(name: &str, config: &WebhookConfig) -> Result<Webhook, ConfigError> {
        let section = Section {
            kind: "webhook",
            name,
        };
        let content_type = HeaderValue::from_str(&config.content_type)
            .ok()
            .filter(|_| config.content_type.contains('/'))
            .ok_or_else(|| section.error("content-type", "is none; write one as text/plain"))?;
        let text = section.text("body", config.body.as_deref(), config.body_file.as_deref())?;
        let body = match text {
            None if config.content_type != JSON => {
                let problem = "is for a `body` of your own; the alert itself is application/json";
                return Err(section.error("content-type", problem));
            }
            None => Body::Alert,
            Some(text) => Template::new(&text, &config.content_type)
                .map(|template| Body::Own(Box::new(template)))
                .map_err(|problem| section.error("body", problem))?,
        };
        let settings = Settings {
            url: &config.url,
            bearer_token: config.bearer_token.as_ref(),
            bearer_token_file: config.bearer_token_file.as_deref(),
            ca_file: config.ca_file.as_deref(),
            allow_insecure: Some(config.allow_insecure),
            timeout_secs: config.timeout_secs,
        };
        let http = Http::new(section, settings)?;
        let (secret, file) = (&config.signing_secret, &config.signing_secret_file);
        Ok(Webhook {
            http,
            key: key(section, secret.as_ref(), file.as_deref())?,
            content_type,
            body,
        })
    }

    /// Checks `[ocsf.NAME]`, as [`Webhook::new`] does.
    pub fn ocsf(name: &str, config: &OcsfConfig) -> Result<Webhook, ConfigError> {
        let section = Section { kind: "ocsf", name };
        let settings = Settings {
            url: config.url.expose(),
            bearer_token: config.bearer_token.as_ref(),
            bearer_token_file: config.bearer_token_file.as_deref(),
            ca_file: config.ca_file.as_deref(),
            allow_insecure: Some(config.allow_insecure),
            timeout_secs: config.timeout_secs,
        };
        let http = Http::new(section, settings)?;
        let (secret, file) = (&config.signing_secret, &config.signing_secret_file);
        Ok(Webhook {
            http,
            key: key(section, secret.as_ref(), file.as_deref())?,
            content_type: HeaderValue::from_static(JSON),
            body: Body::Ocsf,
        })
    }

    async fn post(&self, notification: &Notification) -> Attempt {
        let body = match &self.body {
            Body::Alert => Ok(notification.body.clone()),
            Body::Ocsf => notification
                .alert()
                .map(|alert| payload::ocsf(&alert).to_string())
                .map_err(|error| error.to_string()),
            Body::Own(template) => notification
                .alert()
                .map_err(|error| error.to_string())
                .and_then(|alert| template.render(&alert)),
        };
        match body {
            Ok(body) => {
                let headers = self.headers(notification, &body, Timestamp::now());
                self.http.post(headers, body).await
            }
            Err(error) => Attempt::unfit(&error),
        }
    }

    fn headers(&self, notification: &Notification, body: &str, now: Timestamp) -> HeaderMap {
        let id = header_id(&notification.notification_id);
        let id_value = HeaderValue::from_str(&id).expect("an id of visible ASCII is a header");
        let timestamp = now.as_second();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", self.content_type.clone());
        headers.insert("webhook-id", id_value.clone());
        headers.insert("idempotency-key", id_value);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        if let Some(key) = &self.key {
            let signature = sign(key, &id, timestamp, body);
            let signature = HeaderValue::from_str(&signature).expect("base64 is a header");
            headers.insert("webhook-signature", signature);
        }
        headers
    }
}

impl Receiver for Webhook {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt> {
        Box::pin(self.post(notification))
    }
}

fn key(
    section: Section<'_>,
    secret: Option<&Secret>,
    file: Option<&std::path::Path>,
) -> Result<Option<Vec<u8>>, ConfigError> {
    section
        .secret("signing-secret", secret, file)?
        .map(|secret| {
            signing_key(&secret).ok_or_else(|| {
                section.error(
                    "signing-secret",
                    "must be `whsec_` and 24 to 64 bytes in base64, as `openssl rand -base64 32` makes them",
                )
            })
        })
        .transpose()
}

table!(WebhookConfig, "webhook", Webhook::new);
table!(OcsfConfig, "ocsf", Webhook::ocsf);

/// The bytes of a `whsec_` secret; the specification asks for 24 to 64 of them.
fn signing_key(secret: &Secret) -> Option<Vec<u8>> {
    let text = secret.expose().strip_prefix("whsec_")?;
    let key = STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
fn sign(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// An id that can stand in a header: itself, or the SHA-256 of one that cannot.
fn header_id(id: &str) -> Cow<'_, str> {
    let fits = !id.is_empty() && id.len() <= 200 && id.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Cow::Borrowed(id)
    } else {
        Cow::Owned(format!("sha256-{:x}", Sha256::digest(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_specification_does() {
        // The example in the specification's reference libraries.
        let key =
            signing_key(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).expect("a key");
        let body = "{\"test\": 2432232314}";
        assert_eq!(
            sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn an_id_from_elsewhere_cannot_break_a_header() {
        assert_eq!(header_id("ab12-3"), "ab12-3");
        for id in ["a\r\nb", "", "é"] {
            assert!(header_id(id).starts_with("sha256-"), "{id}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_told_by_key() {
        let error = |change: &dyn Fn(&mut WebhookConfig)| {
            let mut config = WebhookConfig::to("https://soc.example.com/hook?sig=hush");
            change(&mut config);
            match Webhook::new("soc", &config) {
                Ok(_) => panic!("was taken"),
                Err(error) => error.to_string(),
            }
        };
        let url = |url: &'static str| error(&move |config| config.url = url.to_owned());
        assert!(url("soc.example.com").starts_with("webhook.soc.url: is no address"));
        assert!(url("http://soc.example.com/").contains("must be https"));
        assert!(url("ftp://soc.example.com/").contains("must be https"));
        assert!(url("https://u:hush@soc.example.com/").contains("user name or password"));
        assert!(!url("https://u:hush@soc.example.com/").contains("hush"));
        let twice = error(&|config| {
            config.bearer_token = Some(Secret::new("x"));
            config.bearer_token_file = Some("x".into());
        });
        assert!(twice.contains("given twice"), "{twice}");
        let config = WebhookConfig::to("https://soc.example.com/hook?sig=hush");
        assert!(!format!("{config:?}").contains("hush"));
        let secret = |text: &'static str| {
            error(&move |config| config.signing_secret = Some(Secret::new(text)))
        };
        assert!(secret("whsec_hush").starts_with("webhook.soc.signing-secret: must be"));
        assert!(secret("plain").starts_with("webhook.soc.signing-secret: must be"));
        assert!(
            error(&|config| config.bearer_token_file = Some("/nowhere/token".into()))
                .starts_with("webhook.soc.bearer-token-file: cannot read /nowhere/token")
        );
        assert!(
            error(&|config| config.ca_file = Some("Cargo.toml".into()))
                .starts_with("webhook.soc.ca-file: holds no certificate")
        );
        assert!(error(&|config| config.timeout_secs = 0).contains("timeout-secs: must be 1"));
    }
}
