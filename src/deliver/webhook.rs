//! Alerts by HTTP POST, signed after the Standard Webhooks specification.
//!
//! The body is the alert's JSON as it lies in the outbox. The headers are `webhook-id`,
//! `webhook-timestamp` and `webhook-signature` as <https://www.standardwebhooks.com> has them, and
//! `Idempotency-Key`; id and key are the notification's and stay the same at every attempt.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use futures::future::BoxFuture;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::setup::{Section, describe, is_loopback, one_line, reason_in};
use super::{Attempt, ConfigError, FailureReason, Notification, Receiver};
use crate::config::secret::Secret;

/// As much of an answer as is ever read.
const MAX_ANSWER: usize = 4096;

/// `[webhook.NAME]`.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookConfig {
    /// Shown nowhere but for its host, because many services put their token into it.
    pub url: String,
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
}

fn default_timeout_secs() -> u64 {
    10
}

impl WebhookConfig {
    /// A configuration with this address and every default.
    pub fn to(url: &str) -> WebhookConfig {
        WebhookConfig {
            url: url.to_owned(),
            signing_secret: None,
            signing_secret_file: None,
            bearer_token: None,
            bearer_token_file: None,
            ca_file: None,
            allow_insecure: false,
            timeout_secs: default_timeout_secs(),
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

/// A receiver that takes alerts by POST.
pub struct Webhook {
    client: Client,
    url: Url,
    key: Option<Vec<u8>>,
    authorization: Option<HeaderValue>,
}

impl Webhook {
    /// Checks `[webhook.NAME]` and reads the files it names; connects to nobody.
    pub fn new(name: &str, config: &WebhookConfig) -> Result<Webhook, ConfigError> {
        let section = Section {
            kind: "webhook",
            name,
        };
        let url = check_url(section, &config.url, config.allow_insecure)?;
        let key = section
            .secret(
                "signing-secret",
                config.signing_secret.as_ref(),
                config.signing_secret_file.as_deref(),
            )?
            .map(|secret| {
                signing_key(&secret).ok_or_else(|| {
                    section.error(
                        "signing-secret",
                        "must be `whsec_` and 24 to 64 bytes in base64, as `openssl rand -base64 32` makes them",
                    )
                })
            })
            .transpose()?;
        let authorization = section
            .secret(
                "bearer-token",
                config.bearer_token.as_ref(),
                config.bearer_token_file.as_deref(),
            )?
            .map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                    .map_err(|_| {
                        section.error("bearer-token", "holds characters that no header may hold")
                    })?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;

        let timeout = section.timeout(config.timeout_secs)?;
        let mut builder = Client::builder()
            .user_agent(concat!("lanner/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_max_idle_per_host(1);
        if let Some(path) = &config.ca_file {
            let pem = section.read("ca-file", path)?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| section.error("ca-file", "holds no certificate in PEM form"))?;
            builder = builder.tls_certs_merge(certificates);
        } else if url.scheme() == "http" {
            // No certificate will be looked at, so none need be found on this machine.
            builder = builder.tls_certs_only([]);
        }
        if url.host_str().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| {
            section.error(
                "ca-file",
                format!("cannot set up TLS: {}", describe(&error)),
            )
        })?;
        Ok(Webhook {
            client,
            url,
            key,
            authorization,
        })
    }

    async fn post(&self, notification: &Notification) -> Attempt {
        let headers = self.headers(notification, Timestamp::now());
        let request = self
            .client
            .post(self.url.clone())
            .headers(headers)
            .body(notification.body.clone());
        match request.send().await {
            Ok(response) => answer(response).await,
            Err(error) => {
                let error = error.without_url();
                Attempt::Retry {
                    reason: failure_reason(&error),
                    after: None,
                    detail: describe(&error),
                }
            }
        }
    }

    fn headers(&self, notification: &Notification, now: Timestamp) -> HeaderMap {
        let id = header_id(&notification.notification_id);
        let id_value = HeaderValue::from_str(&id).expect("an id of visible ASCII is a header");
        let timestamp = now.as_second();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("webhook-id", id_value.clone());
        headers.insert("idempotency-key", id_value);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        if let Some(key) = &self.key {
            let signature = sign(key, &id, timestamp, &notification.body);
            let signature = HeaderValue::from_str(&signature).expect("base64 is a header");
            headers.insert("webhook-signature", signature);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert("authorization", authorization.clone());
        }
        headers
    }
}

impl Receiver for Webhook {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt> {
        Box::pin(self.post(notification))
    }
}

fn check_url(section: Section<'_>, url: &str, allow_insecure: bool) -> Result<Url, ConfigError> {
    let url = Url::parse(url).map_err(|error| {
        section.error(
            "url",
            format!("is no address: {error}; write https://HOST/PATH"),
        )
    })?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => {}
        "http" if allow_insecure || is_loopback(host) => {}
        "http" => {
            return Err(section.error(
                "url",
                "must be https; plain http to another machine needs `allow-insecure = true`",
            ));
        }
        _ => return Err(section.error("url", "must be https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(section.error(
            "url",
            "must not hold a user name or password; use `bearer-token-file`",
        ));
    }
    Ok(url)
}

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

async fn answer(mut response: Response) -> Attempt {
    let status = response.status();
    if status.is_success() {
        // Read, so that the connection can be used again; what it says does not matter.
        read_bounded(&mut response).await;
        return Attempt::Delivered;
    }
    let after = retry_after(response.headers(), Timestamp::now());
    let (reason, retry) = judge(status);
    if retry {
        let hint = match reason {
            FailureReason::Redirect => "; redirects are not followed, give the final address",
            _ => "",
        };
        return Attempt::Retry {
            reason,
            after,
            detail: format!("HTTP {status}{hint}"),
        };
    }
    let said = one_line(&String::from_utf8_lossy(&read_bounded(&mut response).await));
    let separator = if said.is_empty() { "" } else { ": " };
    Attempt::Rejected {
        reason,
        detail: format!("HTTP {status}{separator}{said}"),
    }
}

/// Why a status is a failure, and whether another attempt may succeed.
fn judge(status: StatusCode) -> (FailureReason, bool) {
    match status.as_u16() {
        300..=399 => (FailureReason::Redirect, true),
        401 | 403 | 407 => (FailureReason::Auth, false),
        408 => (FailureReason::Timeout, true),
        413 => (FailureReason::TooLarge, false),
        425 => (FailureReason::ClientError, true),
        429 => (FailureReason::RateLimited, true),
        400..=499 => (FailureReason::ClientError, false),
        500..=599 => (FailureReason::ServerError, true),
        _ => (FailureReason::Other, true),
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(date.duration_since(now).try_into().unwrap_or_default())
}

async fn read_bounded(response: &mut Response) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < MAX_ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => read.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER)]),
            // The status has come: what else there was to say may be lost.
            Ok(None) | Err(_) => break,
        }
    }
    read.truncate(MAX_ANSWER);
    read
}

fn failure_reason(error: &reqwest::Error) -> FailureReason {
    if error.is_timeout() {
        FailureReason::Timeout
    } else if error.is_dns() {
        FailureReason::Dns
    } else if let Some(reason) = reason_in(error) {
        reason
    } else if error.is_connect() || error.is_request() {
        // An answer that breaks off is an error of the request.
        FailureReason::Connect
    } else {
        FailureReason::Other
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
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).expect("a header"));
            retry_after(&headers, now)
        };
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            parse("Fri, 20 Nov 2026 10:01:30 GMT"),
            Some(Duration::from_secs(90))
        );
        assert_eq!(parse("Fri, 20 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-5"), None);
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
