//! TLS and WebSockets: the daemon as a process, because the client takes roots that are not the
//! machine's from the environment.

use std::path::Path;

use jiff::Timestamp;
use lanner::emulator::{Certificate, Emulator, EmulatorConfig, HubConfig};

use crate::process::{Daemon, exec};
use crate::reading::HUB;

/// An emulator with a certificate that nobody else has signed, which lies in the folder too.
async fn tls_emulator(folder: &Path) -> Emulator {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let certificate = Certificate {
        chain: made.cert.pem().into_bytes(),
        key: made.signing_key.serialize_pem().into_bytes(),
    };
    std::fs::write(folder.join("root.pem"), &certificate.chain).expect("a file");
    let config = EmulatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        hubs: vec![HubConfig::new(HUB, 2)],
    };
    Emulator::start_tls(config, &certificate)
        .await
        .expect("the emulator starts")
}

fn hub(folder: &Path, emulator: &Emulator, transport: &str) -> String {
    let secret = folder.join("hub");
    std::fs::write(&secret, emulator.connection_string()).expect("a file");
    format!(
        "hub = {HUB:?}\nauth = \"connection-string\"\nconnection-string-file = {secret:?}\n\
         endpoint = {:?}\ntransport = {transport:?}",
        emulator.tls_endpoint(),
    )
}

/// Reads, loses its connections, and reads on.
async fn reads_over(transport: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let emulator = tls_emulator(folder.path()).await;
    let hub = hub(folder.path(), &emulator, transport);
    let root = folder.path().join("root.pem");
    let daemon = Daemon::start(folder.path(), &hub, &[("SSL_CERT_FILE", &root)]);
    daemon.until_ready(|status, _| status == 200).await;
    let publish = |partition: &str, pod: &str| {
        let body = exec(pod, Timestamp::now());
        emulator.publish(HUB, partition, body).expect("it exists");
    };
    publish("0", "web-0");
    publish("1", "web-1");
    daemon.until_alerts(&["web-0", "web-1"]).await;
    assert!(emulator.drop_connections() > 0);
    publish("0", "web-2");
    publish("1", "web-3");
    daemon
        .until_alerts(&["web-0", "web-1", "web-2", "web-3"])
        .await;
    drop(daemon);
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amqp_in_tls_is_read() {
    reads_over("amqp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amqp_in_a_websocket_is_read() {
    reads_over("websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_knows_is_refused_and_said() {
    for transport in ["amqp", "websocket"] {
        let folder = tempfile::tempdir().expect("a folder");
        let emulator = tls_emulator(folder.path()).await;
        let hub = hub(folder.path(), &emulator, transport);
        let daemon = Daemon::start(folder.path(), &hub, &[]);
        daemon
            .until_ready(|status, body| status == 503 && body.contains("ertificate"))
            .await;
        drop(daemon);
        emulator.shutdown().await;
    }
}
