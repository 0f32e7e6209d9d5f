//! What the platform does for somebody, known by who asked for it just before.

use super::pipeline::{Event, Pipeline};

/// Of a token in a secret: its making, its filling.
fn made_and_filled() -> [serde_json::Value; 2] {
    let event = |number, at| Event {
        user: "eve@example.com",
        number,
        at,
        ..Event::default()
    };
    [
        event(1, 10).secret("web-token"),
        event(2, 11).filled("web-token"),
    ]
}

async fn is_told_once(pipeline: &Pipeline) {
    pipeline.judged().await;
    assert!(
        pipeline.told("secret-written").is_empty(),
        "a signal alerts nobody"
    );
    let told = pipeline.told("secret-written-then-token");
    assert_eq!(told.len(), 1, "{told:?}");
    let (_, alert) = &told[0];
    assert_eq!(
        alert.summary,
        "A token that never expires was put into secret shop/web-token, asked for by eve@example.com (203.0.113.7)"
    );
    let reason = &alert.reason;
    assert!(reason.contains("secret-written at"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_put_into_a_secret_is_for_who_made_the_secret() {
    let mut pipeline = Pipeline::start("");
    let [made, filled] = made_and_filled();
    pipeline.send(12, false, &[made, filled]).await;
    is_told_once(&pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_made_it_may_become_known_late() {
    let mut pipeline = Pipeline::start("");
    let [made, filled] = made_and_filled();
    pipeline.send(12, false, &[filled]).await;
    pipeline.judged().await;
    assert!(pipeline.told("secret-written-then-token").is_empty());
    pipeline.send(13, false, &[made]).await;
    is_told_once(&pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_the_two_forgets_nobody() {
    let mut pipeline = Pipeline::start("");
    let [made, filled] = made_and_filled();
    pipeline.send(12, false, &[made]).await;
    pipeline.judged().await;
    let mut pipeline = pipeline.stop_and_restart().await;
    pipeline.send(13, false, &[filled]).await;
    is_told_once(&pipeline).await;
}
