//! Records that are dated wrongly, and clocks that jump.

use lanner::alert::group::Cause;
use lanner::event::clock::Misdated;

use crate::pipeline::{Event, Pipeline, at};

/// The date of a broken record, or of one that somebody forged.
const FUTURE: Option<&str> = Some("2099-01-01T00:00:00Z");

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

fn event(number: usize, at: i64) -> Event<'static> {
    Event {
        at,
        number,
        ..Event::default()
    }
}

fn dated(number: usize, time: Option<&'static str>) -> Event<'static> {
    Event {
        time,
        number,
        ..Event::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_the_future_closes_no_alert_and_silences_none() {
    let mut pipeline = Pipeline::start("");
    pipeline.send(0, false, &[event(1, 0).exec("web-0")]).await;
    pipeline
        .send(10, false, &[dated(2, FUTURE).exec("web-0")])
        .await;
    pipeline
        .send(20, false, &[event(3, 20).exec("web-0")])
        .await;
    pipeline.judged().await;
    let told = pipeline.told("pod-exec");
    assert_eq!(told.len(), 1, "it is one alert, and goes on: {told:?}");
    assert!(pipeline.watermark() < 60, "{}", pipeline.watermark());
    {
        let tally = pipeline.heard.tally.lock().unwrap();
        assert_eq!((tally.future, tally.untold), (1, 0));
    }
    // Nine hours on, it is told again, and so is one that begins then.
    pipeline.pass(9 * HOUR);
    for (number, quarter) in (0..9 * 4).enumerate() {
        let seconds = quarter * 15 * MINUTE;
        pipeline
            .send(
                seconds,
                false,
                &[event(100 + number, seconds).exec("web-0")],
            )
            .await;
    }
    pipeline.judged().await;
    let causes: Vec<Cause> = pipeline
        .told("pod-exec")
        .iter()
        .map(|told| told.0)
        .collect();
    assert_eq!(causes, [Cause::Opened, Cause::Repeated]);
    let open = pipeline.open_alerts().await;
    let alert = open.iter().find(|alert| alert.detector.id == "pod-exec");
    let alert = alert.expect("it is open");
    assert_eq!(alert.count, 39);
    assert!(alert.last_seen < Some(at(9 * HOUR)), "{alert:?}");
    // What the record says stands in the evidence, for whoever looks for it.
    let told = FUTURE.map(|time| time.parse().expect("a time"));
    assert!(alert.evidence.iter().any(|piece| piece.time == told));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_the_future_empties_no_window() {
    let mut pipeline = Pipeline::start("");
    // Somebody who wants to go on unseen sends one of each kind ahead.
    pipeline
        .send(
            0,
            false,
            &[
                dated(1, FUTURE).denied("s-0"),
                dated(2, FUTURE).exec("web-0"),
            ],
        )
        .await;
    pipeline.judged().await;
    for number in 0..8 {
        let seconds = HOUR + number * 10;
        let event = event(10 + number as usize, seconds);
        pipeline
            .send(seconds, false, &[event.denied(&format!("s-{number}"))])
            .await;
    }
    let late = 2 * HOUR;
    let records = [
        event(30, late).privileged("web-0"),
        event(31, late + 60).exec("web-0"),
    ];
    pipeline.send(late + 60, false, &records).await;
    pipeline.judged().await;
    assert_eq!(pipeline.told("secret-reads-denied").len(), 1);
    assert_eq!(pipeline.told("privileged-pod-then-exec").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_the_future_does_not_hide_that_a_cluster_falls_silent() {
    let mut pipeline = Pipeline::start("");
    for minute in 0..30 {
        let seconds = minute * MINUTE;
        pipeline
            .send(seconds, true, &[event(minute as usize, seconds).quiet()])
            .await;
        pipeline.pass(MINUTE);
    }
    pipeline
        .send(30 * MINUTE, true, &[dated(99, FUTURE).quiet()])
        .await;
    pipeline.judged().await;
    assert!(pipeline.told("cluster-silent").is_empty());
    pipeline.pass(20 * MINUTE);
    pipeline
        .until("the silence is told", |_| {
            !pipeline.told("cluster-silent").is_empty()
        })
        .await;
    assert_eq!(pipeline.told("cluster-silent").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_records_are_all_from_the_future_holds_up_nothing() {
    let mut pipeline = Pipeline::start("");
    pipeline.pass(HOUR);
    for number in 0..20 {
        let seconds = number * 10;
        let ahead = dated(100 + number as usize, FUTURE);
        pipeline
            .send_to("1", seconds, false, &[ahead.quiet()])
            .await;
        pipeline
            .send_to(
                "0",
                seconds,
                false,
                &[event(number as usize, seconds).quiet()],
            )
            .await;
    }
    pipeline.judged().await;
    assert_eq!(pipeline.watermark(), 190 - 120);
    assert_eq!(pipeline.heard.tally.lock().unwrap().future, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_time_or_of_another_age_end_no_learning() {
    for time in [
        "",
        "not a time",
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
    ] {
        let mut pipeline = Pipeline::start("");
        pipeline.send(0, false, &[event(1, 0).exec("web-0")]).await;
        pipeline
            .send(10, false, &[dated(2, Some(time)).exec("web-1")])
            .await;
        for (number, user) in ["bob@example.com", "eve@example.com"].iter().enumerate() {
            let stranger = Event {
                user,
                ..event(10 + number, 20)
            };
            pipeline.send(20, false, &[stranger.exec("web-2")]).await;
        }
        pipeline.judged().await;
        let told = pipeline.told("exec-first-time");
        assert!(told.is_empty(), "after {time:?}: {told:?}");
    }
    let clock = lanner::event::clock::Clock::new(Some(at(0)), None);
    assert_eq!(clock.misdated(None), Some(Misdated::Untold));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_hours_late_are_one_alert() {
    let mut pipeline = Pipeline::start("");
    pipeline.pass(30 * HOUR);
    pipeline.ticks(2).await;
    let now = 30 * HOUR;
    for number in 0..60 {
        let late = event(number as usize, number);
        pipeline
            .send(now + number, true, &[late.exec("web-0")])
            .await;
        if number % 20 == 0 {
            pipeline.judged().await;
        }
    }
    pipeline.judged().await;
    let told = pipeline.told("pod-exec");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told[0].1.first_seen,
        Some(at(0)),
        "when it was, not when it came"
    );
    // It closes once nothing has been added for as long as it says.
    pipeline.pass(2 * HOUR);
    pipeline.ticks(2).await;
    let open = pipeline.open_alerts().await;
    assert!(
        open.iter().all(|alert| alert.detector.id != "pod-exec"),
        "{open:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_and_comes_back_closes_and_misses_nothing() {
    for jump in [10 * 365 * 24 * HOUR, -5 * HOUR] {
        let mut pipeline = Pipeline::start("");
        for minute in 0..30 {
            let seconds = minute * MINUTE;
            let event = event(minute as usize, seconds);
            pipeline.send(seconds, true, &[event.exec("web-0")]).await;
            pipeline.pass(MINUTE);
        }
        pipeline.judged().await;
        pipeline.jump(jump);
        pipeline.ticks(3).await;
        pipeline.pass(5 * MINUTE);
        pipeline.ticks(3).await;
        assert_eq!(pipeline.watermark(), 33 * MINUTE, "after {jump} s");
        pipeline.jump(-jump);
        pipeline.ticks(3).await;
        assert!(pipeline.told("cluster-silent").is_empty(), "after {jump} s");
        let seconds = 35 * MINUTE;
        pipeline
            .send(seconds, true, &[event(99, seconds).exec("web-0")])
            .await;
        pipeline.judged().await;
        assert_eq!(pipeline.told("pod-exec").len(), 1, "after {jump} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_is_taken_over_and_misses_nothing() {
    let mut pipeline = Pipeline::start("");
    for minute in 0..30 {
        let seconds = minute * MINUTE;
        pipeline
            .send(seconds, true, &[event(minute as usize, seconds).quiet()])
            .await;
        pipeline.pass(MINUTE);
    }
    pipeline.judged().await;
    pipeline.jump(5 * HOUR);
    pipeline.ticks(3).await;
    // The records go on by the hub's clock, which was right all the time.
    for minute in 30..45 {
        let seconds = minute * MINUTE;
        pipeline
            .send(seconds, true, &[event(minute as usize, seconds).quiet()])
            .await;
        pipeline.pass(MINUTE);
        pipeline.ticks(1).await;
    }
    pipeline.judged().await;
    assert_eq!(pipeline.watermark(), 5 * HOUR + 43 * MINUTE);
    assert!(pipeline.told("cluster-silent").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_pause_time_stands_still_until_every_partition_is_heard() {
    let mut pipeline = Pipeline::start("");
    for partition in ["0", "1"] {
        let first = event(1, 0);
        pipeline
            .send_to(partition, 0, true, &[first.exec("web-0")])
            .await;
    }
    pipeline.judged().await;
    let mut pipeline = pipeline.stop_and_restart().await;
    pipeline.pass(3 * HOUR);
    pipeline.ticks(3).await;
    // What it missed goes on with the alert, which closed nowhere in between.
    for quarter in 1..12 {
        let seconds = quarter * 15 * MINUTE;
        for partition in ["0", "1"] {
            let event = event(10 + quarter as usize, seconds);
            pipeline
                .send_to(partition, seconds, false, &[event.exec("web-0")])
                .await;
        }
    }
    pipeline.ticks(4).await;
    assert_eq!(pipeline.told("pod-exec").len(), 1);
    let open = pipeline.open_alerts().await;
    let alert = open.iter().find(|alert| alert.detector.id == "pod-exec");
    assert_eq!(alert.expect("it is open").count, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_second_is_a_time() {
    let mut pipeline = Pipeline::start("");
    let leap = Event {
        time: Some("2026-11-20T09:59:60.250Z"),
        number: 1,
        ..Event::default()
    };
    pipeline.send(0, false, &[leap.exec("web-0")]).await;
    pipeline.judged().await;
    let told = pipeline.told("pod-exec");
    assert_eq!(told.len(), 1);
    let first = told[0].1.first_seen.expect("it tells a time");
    assert!(
        (0..=1).contains(&(at(0).as_second() - first.as_second())),
        "{first}"
    );
    let tally = pipeline.heard.tally.lock().unwrap();
    assert_eq!((tally.untold, tally.damaged_total()), (0, 0));
}
