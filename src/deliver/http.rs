//! What receivers over HTTP share: an address that may be used, one POST, and what its answer means.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url};

use super::setup::{Section, describe, is_loopback, one_line, reason_in};
use super::{Attempt, ConfigError, FailureReason};
use crate::config::secret::Secret;

/// As much of an answer as is ever read.
const MAX_ANSWER: usize = 4096;

/// Shorter parts of an address are words.
const SHORTEST_SECRET: usize = 8;

/// Seconds for one attempt, where nothing else is configured.
pub(super) fn default_timeout_secs() -> u64 {
    10
}

/// The keys that every section of a receiver over HTTP has.
#[derive(Clone, Copy)]
pub(super) struct Settings<'a> {
    pub url: &'a str,
    pub bearer_token: Option<&'a Secret>,
    pub bearer_token_file: Option<&'a Path>,
    pub ca_file: Option<&'a Path>,
    /// `None` for services on the internet, which have no such key.
    pub allow_insecure: Option<bool>,
    pub timeout_secs: u64,
}

/// Where to post, and how.
pub(super) struct Http {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
    /// What no log may show, should the receiver echo it.
    secrets: Vec<String>,
}

impl Http {
    /// Checks the settings and reads the files they name; connects to nobody.
    pub fn new(section: Section<'_>, settings: Settings<'_>) -> Result<Http, ConfigError> {
        let url = check_url(section, settings.url, settings.allow_insecure)?;
        let token = section.secret(
            "bearer-token",
            settings.bearer_token,
            settings.bearer_token_file,
        )?;
        let secrets = secrets(&url, token.as_ref());
        let authorization = token
            .map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                    .map_err(|_| {
                        section.error("bearer-token", "holds characters that no header may hold")
                    })?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        let timeout = section.timeout(settings.timeout_secs)?;
        let mut builder = Client::builder()
            .user_agent(concat!("lanner/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_max_idle_per_host(1);
        if let Some(path) = settings.ca_file {
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
        Ok(Http {
            client,
            url,
            authorization,
            secrets,
        })
    }

    /// One attempt.
    pub async fn post(&self, mut headers: HeaderMap, body: String) -> Attempt {
        if let Some(authorization) = &self.authorization {
            headers.insert("authorization", authorization.clone());
        }
        let request = self.client.post(self.url.clone()).headers(headers);
        match request.body(body).send().await {
            Ok(response) => answer(response, &self.secrets).await,
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
}

fn check_url(
    section: Section<'_>,
    url: &str,
    allow_insecure: Option<bool>,
) -> Result<Url, ConfigError> {
    let url = Url::parse(url).map_err(|error| {
        section.error(
            "url",
            format!("is no address: {error}; write https://HOST/PATH"),
        )
    })?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => {}
        "http" if allow_insecure == Some(true) || is_loopback(host) => {}
        "http" if allow_insecure.is_some() => {
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

/// The token, and what stands behind the address's host: its path, and each part that is long
/// enough to be a secret.
fn secrets(url: &Url, token: Option<&Secret>) -> Vec<String> {
    let query = url.query().unwrap_or_default();
    let mut secrets: Vec<String> = [url.path(), query]
        .into_iter()
        .chain(url.path().split('/'))
        .chain(query.split(['&', '=']))
        .chain(token.map(Secret::expose))
        .filter(|part| part.len() >= SHORTEST_SECRET)
        .map(str::to_owned)
        .collect();
    // The longest first, so that none is left in part.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

async fn answer(mut response: Response, secrets: &[String]) -> Attempt {
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
    let said = read_bounded(&mut response).await;
    let mut said = String::from_utf8_lossy(&said).into_owned();
    for secret in secrets {
        said = said.replace(secret, "[redacted]");
    }
    let said = one_line(&said);
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
}
