//! Opens the official clients: credentials, endpoint, transport, and a limit on every call.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::Url;
use azure_identity::{
    DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use azure_messaging_eventhubs::models::AmqpTransport;
use azure_messaging_eventhubs::{ConsumerClient, ProducerClient, RetryOptions};
use backon::{BackoffBuilder, ExponentialBuilder};

use super::config::{Auth, EventHubConfig, Transport};
use super::error::{Fault, HubError};

/// How long a client that is thrown away may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The wait after a first error.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// The port of an emulator whose connection string names none.
const EMULATOR_PORT: u16 = 5672;

/// Waits between attempts.
pub(super) type Delays = Box<dyn Iterator<Item = Duration> + Send>;

/// Opens clients for one hub; a token credential is made once, so that its cache is shared.
pub(super) struct Connector {
    config: EventHubConfig,
    credential: std::sync::Mutex<Option<Arc<dyn TokenCredential>>>,
}

/// How to prove who we are, read anew for each client.
enum Proof {
    Token(Arc<dyn TokenCredential>),
    ConnectionString(String),
}

impl Connector {
    pub(super) fn new(config: EventHubConfig) -> Connector {
        Connector {
            config,
            credential: std::sync::Mutex::new(None),
        }
    }

    pub(super) fn config(&self) -> &EventHubConfig {
        &self.config
    }

    pub(super) async fn consumer(&self) -> Result<ConsumerClient, HubError> {
        let (proof, endpoint) = self.proof().await?;
        let mut builder = ConsumerClient::builder()
            .with_consumer_group(self.config.consumer_group.clone())
            .with_transport(self.transport())
            .with_retry_options(no_retries());
        if let Some(endpoint) = endpoint {
            builder = builder.with_custom_endpoint(endpoint);
        }
        let hub = &self.config.hub;
        match proof {
            Proof::Token(credential) => {
                let opening = builder.open(self.namespace()?, hub.clone(), credential);
                self.limited("connect", opening).await
            }
            Proof::ConnectionString(text) => {
                let opening = builder.open_with_connection_string(&text, Some(hub));
                self.limited("connect", opening).await
            }
        }
    }

    pub(super) async fn producer(&self) -> Result<ProducerClient, HubError> {
        let (proof, endpoint) = self.proof().await?;
        let mut builder = ProducerClient::builder()
            .with_transport(self.transport())
            .with_retry_options(no_retries());
        if let Some(endpoint) = endpoint {
            builder = builder.with_custom_endpoint(endpoint);
        }
        let hub = &self.config.hub;
        match proof {
            Proof::Token(credential) => {
                self.limited("connect", builder.open(self.namespace()?, hub, credential))
                    .await
            }
            Proof::ConnectionString(text) => {
                let opening = builder.open_with_connection_string(&text, Some(hub));
                self.limited("connect", opening).await
            }
        }
    }

    /// Awaits a call into the client, for a limited time.
    pub(super) async fn limited<T>(
        &self,
        call: &str,
        future: impl Future<Output = azure_messaging_eventhubs::Result<T>>,
    ) -> Result<T, HubError> {
        let limit = self.config.pace.call;
        match tokio::time::timeout(limit, future).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(HubError::from_client(call, &error)),
            Err(_) => Err(HubError::timeout(call, limit)),
        }
    }

    /// The waits between attempts: exponential, with jitter.
    pub(super) fn delays(&self) -> Delays {
        let delays = ExponentialBuilder::new()
            .with_min_delay(FIRST_DELAY.min(self.config.pace.backoff))
            .with_max_delay(self.config.pace.backoff)
            .without_max_times()
            .with_jitter()
            .build();
        Box::new(delays)
    }

    fn namespace(&self) -> Result<&str, HubError> {
        self.config
            .namespace
            .as_deref()
            .ok_or_else(|| HubError::new(Fault::NotFound, "no namespace is configured"))
    }

    fn transport(&self) -> AmqpTransport {
        match self.config.transport {
            Transport::Amqp => AmqpTransport::Tcp,
            Transport::Websocket => AmqpTransport::WebSocket,
        }
    }

    /// The proof, and the endpoint to connect to instead of the namespace.
    async fn proof(&self) -> Result<(Proof, Option<String>), HubError> {
        let endpoint = self.config.endpoint.clone();
        if self.config.auth != Auth::ConnectionString {
            return Ok((Proof::Token(self.token_credential()?), endpoint));
        }
        let text = match (
            &self.config.connection_string,
            &self.config.connection_string_file,
        ) {
            (Some(secret), _) => secret.expose().to_owned(),
            // Read for each client, so that a key can be rotated without a restart.
            (None, Some(path)) => tokio::fs::read_to_string(path).await.map_err(|error| {
                let text = format!("the connection string in {}: {error}", path.display());
                HubError::new(Fault::Unauthorized, text)
            })?,
            (None, None) => {
                let text = "no connection string is configured";
                return Err(HubError::new(Fault::Unauthorized, text));
            }
        };
        let text = text.trim().to_owned();
        let endpoint = endpoint.or_else(|| emulator_endpoint(&text));
        Ok((Proof::ConnectionString(text), endpoint))
    }

    fn token_credential(&self) -> Result<Arc<dyn TokenCredential>, HubError> {
        let mut made = self
            .credential
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(credential) = &*made {
            return Ok(Arc::clone(credential));
        }
        let client_id = self.config.client_id.clone();
        let credential: azure_core::Result<Arc<dyn TokenCredential>> = match self.config.auth {
            Auth::ManagedIdentity => {
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.map(UserAssignedId::ClientId),
                    ..Default::default()
                };
                ManagedIdentityCredential::new(Some(options)).map(|c| c as _)
            }
            Auth::DeveloperTools => DeveloperToolsCredential::new(None).map(|c| c as _),
            Auth::WorkloadIdentity | Auth::ConnectionString => {
                let options = WorkloadIdentityCredentialOptions {
                    client_id,
                    ..Default::default()
                };
                WorkloadIdentityCredential::new(Some(options)).map(|c| c as _)
            }
        };
        let credential = credential.map_err(|error| HubError::from_credential(&error))?;
        *made = Some(Arc::clone(&credential));
        Ok(credential)
    }
}

/// Errors are to surface at once: a client that recovers by itself forgets how far it had read.
fn no_retries() -> RetryOptions {
    RetryOptions {
        max_retries: 0,
        ..RetryOptions::default()
    }
}

/// The plaintext endpoint that a connection string with `UseDevelopmentEmulator=true` means; the
/// client itself ignores that part, and the port.
fn emulator_endpoint(connection_string: &str) -> Option<String> {
    let value = |wanted: &str| {
        connection_string.split(';').find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| value.trim())
        })
    };
    if !value("UseDevelopmentEmulator")?.eq_ignore_ascii_case("true") {
        return None;
    }
    let url = Url::parse(value("Endpoint")?).ok()?;
    let port = url.port().unwrap_or(EMULATOR_PORT);
    Some(format!("amqp://{}:{port}", url.host_str()?))
}

/// Closes a client that is not needed any more; what it answers changes nothing.
pub(super) async fn close(client: ConsumerClient, at_most: Duration) {
    let limit = CLOSE_TIMEOUT.min(at_most);
    if let Ok(Err(error)) = tokio::time::timeout(limit, client.close()).await {
        tracing::debug!(error = %HubError::from_client("close", &error), "a client was not closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_emulators_connection_string_gives_an_endpoint() {
        let emulator = "Endpoint=sb://127.0.0.1:5673;SharedAccessKeyName=k;SharedAccessKey=a=;UseDevelopmentEmulator=true;";
        assert_eq!(
            emulator_endpoint(emulator).as_deref(),
            Some("amqp://127.0.0.1:5673")
        );
        let portless = "Endpoint=sb://localhost;UseDevelopmentEmulator=TRUE";
        assert_eq!(
            emulator_endpoint(portless).as_deref(),
            Some("amqp://localhost:5672")
        );
        let real =
            "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=a";
        assert_eq!(emulator_endpoint(real), None);
    }
}
