//! Floods: a storm of findings, clusters without number, groups without number, a source that is
//! faster than we are, a receiver whose queue is full.

use std::sync::atomic::Ordering;
use std::time::Instant;

use lanner::alert::group::Cause;
use lanner::alert::own::RECEIVER_QUOTA;

use crate::pipeline::{Event, Pipeline};

/// `LANNER_STORM=100000 cargo test --test live a_storm -- --nocapture` for another number of findings.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_one_identity_is_one_notification_and_counted_exactly() {
    const EACH: usize = 500;
    let findings = std::env::var("LANNER_STORM");
    let findings = findings.map_or(20_000, |text| text.parse().expect("a number"));
    let batches = findings / EACH;
    let begun = Instant::now();
    let mut pipeline = Pipeline::start("");
    pipeline.pass(3600);
    for batch in 0..batches {
        let at = batch as i64;
        let records: Vec<_> = (0..EACH)
            .map(|of| {
                let number = batch * EACH + of;
                let event = Event {
                    at,
                    number,
                    ..Event::default()
                };
                event.exec("web-0")
            })
            .collect();
        pipeline.send(at, false, &records).await;
    }
    pipeline.judged().await;
    println!("{findings} findings in {:?}", begun.elapsed());
    let told = pipeline.told("pod-exec");
    assert_eq!(
        told.len(),
        1,
        "{:?}",
        told.iter().map(|told| told.0).collect::<Vec<Cause>>()
    );
    // Requests and their audit IDs are remembered one by one, up to a bound; all else does not follow the storm.
    let entries = pipeline.heard.entries.lock().unwrap().clone();
    let follows = |name: &str| entries[name] > 100;
    let following: Vec<_> = entries.keys().filter(|name| follows(name)).collect();
    assert_eq!(following, [&"requests", &"reuse"], "{entries:?}");
    let open = pipeline.open_alerts().await;
    let alert = open.iter().find(|alert| alert.detector.id == "pod-exec");
    assert_eq!(alert.expect("it is open").count, (batches * EACH) as u64);
    assert!(open.len() <= 3, "{open:?}");
}

/// Of a value that repeats within a batch only the time is remembered. The end of a request that
/// counted long ago is no first time, and the next one is no repetition of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_long_request_hides_no_new_one_of_the_same_batch() {
    let mut pipeline = Pipeline::start("");
    let log = |number: usize, at: i64, pod: &str, stage: &str, received: i64| {
        let event = Event {
            at,
            number,
            ..Event::default()
        };
        event.log(pod, stage, received)
    };
    let begun = |number: usize, at: i64, pod: &str| log(number, at, pod, "ResponseStarted", at);
    pipeline.send(0, false, &[begun(0, 0, "web-0")]).await;
    let four: Vec<_> = (1..5)
        .map(|of| begun(of, 3600 + of as i64, &format!("web-{of}")))
        .collect();
    pipeline.send(3605, false, &four).await;
    pipeline.judged().await;
    assert!(pipeline.told("pod-logs-bulk").is_empty(), "four pods");
    // The first once more is the fifth.
    let batch = [
        log(0, 3606, "web-0", "ResponseComplete", 0),
        begun(5, 3607, "web-0"),
    ];
    pipeline.send(3607, false, &batch).await;
    pipeline.judged().await;
    assert_eq!(pipeline.told("pod-logs-bulk").len(), 1, "five pods");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_clusters_are_told_apart_within_bounds() {
    const CLUSTERS: usize = 10_000;
    let mut pipeline = Pipeline::start("");
    for batch in 0..20 {
        let per_batch = CLUSTERS / 20;
        let names: Vec<String> = (0..per_batch)
            .map(|of| format!("c{}", batch * per_batch + of))
            .collect();
        let records: Vec<_> = names
            .iter()
            .map(|cluster| {
                Event {
                    cluster,
                    ..Event::default()
                }
                .exec("web-0")
            })
            .collect();
        pipeline.send(0, false, &records).await;
    }
    pipeline.judged().await;
    assert_eq!(pipeline.told("pod-exec").len(), CLUSTERS);
    let entries = pipeline.heard.entries.lock().unwrap().clone();
    assert!(entries["absence"] <= 4096, "{entries:?}");
    assert!(entries["incidents"] <= 10_000, "{entries:?}");
    // What a bound pushed out is counted.
    let evicted = pipeline.heard.evicted.load(Ordering::SeqCst);
    assert!(evicted >= (CLUSTERS - 4096) as u64, "{evicted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_is_told_to_the_others() {
    // Nobody reads the queue of the webhook here; it fills.
    let mut pipeline = Pipeline::start(
        "[store]\nreceiver-quota = 65536\n[webhook.soc]\nurl = \"https://hooks.example.com/\"\n",
    );
    for number in 0..60 {
        let event = Event {
            at: number as i64,
            number,
            ..Event::default()
        };
        let record = event.exec(&format!("web-{number}"));
        pipeline.send(number as i64, false, &[record]).await;
    }
    let about = || {
        let delivered = pipeline.delivered.lock().unwrap();
        let of = |body: &&serde_json::Value| body["detector"]["id"] == RECEIVER_QUOTA;
        delivered.iter().filter(of).cloned().collect::<Vec<_>>()
    };
    pipeline.until("it is told", |_| !about().is_empty()).await;
    pipeline.judged().await;
    let about = about();
    assert_eq!(about.len(), 1, "once, however much is lost");
    let summary = about[0]["summary"].as_str().expect("text");
    assert!(
        summary.starts_with("webhook.soc takes nothing"),
        "{summary}"
    );
}
