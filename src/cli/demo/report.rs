//! What the demo shows: what it starts, alerts as they arrive, and the reckoning at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Arguments;
use super::receivers::{Arrival, Receivers};
use super::run::per_family;
use crate::alert::escape::bounded;
use crate::alert::{Alert, Severity};
use crate::cli::output;
use crate::cli::traffic::Published;
use crate::detect::Detector;
use crate::simulator::score::{Score, score};
use crate::simulator::{Campaign, Family, Truth};

/// Milliseconds; a notification later than a minute counts as that late.
const LATEST: u64 = 60_000;

/// Columns of a narrow terminal, and those before an alert's text.
const WIDTH: usize = 100;
const INDENT: usize = 19;

pub struct Report {
    colour: bool,
    lasts: Option<Duration>,
    /// Rows of the coverage table by detector.
    covers: BTreeMap<String, Vec<String>>,
    began: Instant,
    alerts: Vec<Alert>,
    webhooks: Receipts,
    mails: Receipts,
    read: u64,
}

/// What one receiver got.
struct Receipts {
    ids: BTreeSet<String>,
    repeated: usize,
    /// From publishing to delivery, in milliseconds.
    latency: Histogram<u64>,
}

impl Receipts {
    fn new() -> Receipts {
        let latency = Histogram::new_with_bounds(1, LATEST, 3).expect("the bounds are valid");
        Receipts {
            ids: BTreeSet::new(),
            repeated: 0,
            latency,
        }
    }

    fn add(&mut self, id: &str) {
        if !self.ids.insert(id.to_owned()) {
            self.repeated += 1;
        }
    }

    fn time(&mut self, latency: Option<Duration>) {
        if let Some(latency) = latency {
            let millis = (latency.as_micros() as u64).div_ceil(1000);
            self.latency.saturating_record(millis.clamp(1, LATEST));
        }
    }
}

impl Report {
    pub fn new(detectors: &[Detector], lasts: Option<Duration>) -> Report {
        Report {
            colour: output::colour(),
            lasts,
            covers: detectors
                .iter()
                .filter(|detector| detector.enabled)
                .map(|detector| (detector.id.clone(), detector.covers.clone()))
                .collect(),
            began: Instant::now(),
            alerts: Vec::new(),
            webhooks: Receipts::new(),
            mails: Receipts::new(),
            read: 0,
        }
    }

    fn paint(&self, codes: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{codes}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn line(&self, out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
        let label = self.paint("2", &format!("{label:<11}"));
        writeln!(out, "  {label}{text}")
    }

    /// What is about to happen.
    pub fn header(
        &self,
        endpoint: &str,
        receivers: &Receivers,
        arguments: &Arguments,
        seed: u64,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let title = "Lanner demo: an event hub, three AKS clusters' audit logs, the daemon and its receivers.";
        writeln!(out, "{}", self.paint("1", title))?;
        writeln!(
            out,
            "All of it runs in this process; nothing is installed and nothing leaves this machine.\n"
        )?;
        self.line(
            &mut out,
            "hub",
            &format!("{endpoint}, emulated; read and written over AMQP by Microsoft's client"),
        )?;
        let rate = arguments.rate;
        self.line(&mut out, "traffic", &format!("about {rate} records a second: nodes, controllers, GitOps, CI, people (seed {seed})"))?;
        let count = per_family(arguments.lasts) * Family::ALL.len();
        let hidden = match arguments.lasts {
            Some(_) => format!("{count} attacks of six families, each at a moment of its own"),
            None => {
                format!("{count} attacks of six families a minute, each at a moment of its own")
            }
        };
        self.line(&mut out, "hidden", &hidden)?;
        self.line(
            &mut out,
            "daemon",
            &format!(
                "{} detectors; alerts of medium severity and above are notified",
                self.covers.len()
            ),
        )?;
        self.line(
            &mut out,
            "receivers",
            &format!(
                "webhook on {}, e-mail by SMTP on {}",
                receivers.webhook, receivers.mail
            ),
        )?;
        let ends = match arguments.lasts {
            Some(lasts) => format!("after {} seconds", lasts.as_secs()),
            None => "with Ctrl-C".to_owned(),
        };
        self.line(
            &mut out,
            "ends",
            &format!("{ends}, with a reckoning of what was found"),
        )?;
        writeln!(out)
    }

    pub fn begin(&mut self, took: Duration) -> io::Result<()> {
        self.began = Instant::now();
        let mut out = io::stdout().lock();
        let text = format!(
            "Started in {:.1} s. Alerts, as the webhook receives them:",
            took.as_secs_f64()
        );
        writeln!(out, "{}\n", self.paint("1", &text))
    }

    pub fn read(&mut self, records: u64) {
        self.read = records;
    }

    /// Notes what came, and shows an alert.
    pub fn arrived(&mut self, arrival: Arrival, published: &Published) -> io::Result<()> {
        match arrival {
            Arrival::Mail { message_id, at } => {
                // The id is in the Message-ID as it is: `<ID@lanner.DOMAIN>`.
                let id = message_id.trim_start_matches('<');
                let id = id.split('@').next().unwrap_or(id);
                self.mails.add(id);
                let alert = self.alerts.iter().rev().find(|a| a.notification_id == id);
                let latency = alert.and_then(|alert| latency(alert, at, published));
                self.mails.time(latency);
                Ok(())
            }
            Arrival::Webhook { id, at, alert } => {
                self.webhooks.add(&id);
                let latency = latency(&alert, at, published);
                self.webhooks.time(latency);
                let shown = self.show(&alert, at, latency);
                self.alerts.push(*alert);
                shown
            }
        }
    }

    /// Two lines: how grave and what; where, by which detector, how fast.
    fn show(&self, alert: &Alert, at: Instant, latency: Option<Duration>) -> io::Result<()> {
        let codes = match alert.severity {
            Severity::Critical => "1;37;41",
            Severity::High => "1;31",
            Severity::Medium => "1;33",
            Severity::Low | Severity::Info => "1;36",
        };
        let badge = format!(" {:<8} ", alert.severity.as_str().to_uppercase());
        let since = at.duration_since(self.began).as_secs_f64();
        let latency = latency.map_or_else(String::new, |latency| {
            format!(" · {} ms after it was published", latency.as_millis())
        });
        let detail = format!("{} · {}{latency}", short(&alert.cluster), alert.detector.id);
        let mut out = io::stdout().lock();
        let mut lines = wrapped(&bounded(&alert.summary, 240), WIDTH - INDENT).into_iter();
        let first = lines.next().unwrap_or_default();
        writeln!(out, "{since:>6.1}s {} {first}", self.paint(codes, &badge))?;
        for line in lines {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
        let detail = self.paint("2", &bounded(&detail, 160));
        writeln!(out, "{:INDENT$}{detail}", "")?;
        out.flush()
    }

    /// Says now and then that all goes on.
    pub fn progress(&self, read: u64) -> io::Result<()> {
        let since = self.began.elapsed().as_secs_f64();
        let text = format!(
            "{since:>6.1}s {:11}{} records judged so far",
            "",
            grouped(read)
        );
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.paint("2", &text))?;
        out.flush()
    }

    /// The reckoning; whether all is as it should be.
    pub fn summary(&self, published: &Published, flowed: Duration) -> io::Result<bool> {
        let truth = published.truth();
        // Of a demo that was interrupted, only what was sent counts.
        let sent = |campaign: &Campaign| {
            let mut decisive = campaign.steps.iter().filter(|step| step.decisive);
            decisive.all(|step| published.at(&step.audit_id).is_some())
        };
        let rows = |id: &str| self.covers.get(id).map_or(&[][..], Vec::as_slice);
        let score = score(&truth, &self.alerts, rows, sent);
        let mut out = io::stdout().lock();
        let seconds = flowed.as_secs_f64();
        writeln!(out, "\n{}\n", self.paint("1", "Reckoning"))?;
        let records = published.records.load(Ordering::Relaxed);
        let megabytes = published.bytes.load(Ordering::Relaxed) as f64 / 1e6;
        self.line(
            &mut out,
            "traffic",
            &format!(
                "{} records in {seconds:.1} s: {:.0} a second, {:.1} MB/s",
                grouped(records),
                records as f64 / seconds,
                megabytes / seconds
            ),
        )?;
        let asked = self.lasts.map_or(seconds, |lasts| lasts.as_secs_f64());
        if seconds > 1.15 * asked {
            let text = "more than could be published in the time asked for; try a lower --rate";
            self.line(&mut out, "", &self.paint("1;33", text))?;
        }
        let unread = records.saturating_sub(self.read);
        if unread > 0 {
            self.line(
                &mut out,
                "",
                &self.paint(
                    "1;31",
                    &format!("{} of them were not read in time", grouped(unread)),
                ),
            )?;
        }
        self.alerts_by_detector(&mut out)?;
        self.attacks(&mut out, &truth, &score, sent)?;
        self.strays(&mut out, &score)?;
        let delivered = self.deliveries(&mut out)?;
        let passed = score.missed.is_empty() && score.stray.is_empty() && delivered && unread == 0;
        let (codes, verdict) = if passed {
            (
                "1;32",
                "Every attack was alerted, each once to each receiver, and nothing else was.",
            )
        } else {
            ("1;31", "Not all is as it should be: see above.")
        };
        writeln!(out, "\n{}", self.paint(codes, verdict))?;
        Ok(passed)
    }

    fn alerts_by_detector(&self, out: &mut impl Write) -> io::Result<()> {
        let mut by_detector: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for alert in &self.alerts {
            by_detector
                .entry(&alert.detector.id)
                .or_default()
                .insert(&alert.id);
        }
        let total: usize = by_detector.values().map(BTreeSet::len).sum();
        let text = format!("{total}, of {} detectors", by_detector.len());
        self.line(out, "alerts", &text)?;
        let mut counts: Vec<(&str, usize)> = by_detector
            .into_iter()
            .map(|(id, alerts)| (id, alerts.len()))
            .collect();
        counts.sort_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
        for (id, count) in counts {
            self.line(out, "", &format!("{count:>4}  {id}"))?;
        }
        Ok(())
    }

    fn attacks(
        &self,
        out: &mut impl Write,
        truth: &Truth,
        score: &Score,
        sent: impl Fn(&Campaign) -> bool,
    ) -> io::Result<()> {
        let planted = truth.campaigns.iter().filter(|campaign| sent(campaign));
        let mut planted: Vec<&Campaign> = planted.collect();
        planted.sort_by_key(|campaign| (campaign.family, campaign.begin()));
        let missed = score.missed.len();
        let text = format!(
            "{} planted, {} alerted",
            planted.len(),
            planted.len() - missed
        );
        self.line(out, "attacks", &text)?;
        for campaign in planted {
            let mark = if score.missed.contains(&campaign.id) {
                self.paint("1;31", "missed")
            } else {
                self.paint("1;32", "found ")
            };
            let name = short(&campaign.cluster);
            let text = format!(
                "{mark}  {:<27}{} ({name})",
                campaign.family.title(),
                campaign.name
            );
            self.line(out, "", &text)?;
        }
        Ok(())
    }

    fn strays(&self, out: &mut impl Write, score: &Score) -> io::Result<()> {
        if score.stray.is_empty() {
            return self.line(out, "false", "none: ordinary traffic raised nothing");
        }
        let text = format!("{} raised by ordinary traffic", score.stray.len());
        self.line(out, "false", &self.paint("1;31", &text))?;
        for index in &score.stray {
            let alert = &self.alerts[*index];
            let text = format!(
                "{} {}: {}",
                alert.severity, alert.detector.id, alert.summary
            );
            self.line(out, "", &bounded(&text, 200))?;
        }
        Ok(())
    }

    /// Whether each notification came to each receiver, once.
    fn deliveries(&self, out: &mut impl Write) -> io::Result<bool> {
        let (webhooks, mails) = (&self.webhooks, &self.mails);
        let missing = webhooks.ids.symmetric_difference(&mails.ids).count();
        let repeated = webhooks.repeated + mails.repeated;
        let fine = missing == 0 && repeated == 0;
        let state = if fine {
            "each once".to_owned()
        } else {
            let text = format!("{missing} reached one receiver only, {repeated} came again");
            self.paint("1;31", &text)
        };
        let counts = format!(
            "{} by webhook, {} by e-mail; {state}",
            webhooks.ids.len(),
            mails.ids.len()
        );
        self.line(out, "notified", &counts)?;
        for (label, name, receipts) in [("latency", "webhook", webhooks), ("", "e-mail", mails)] {
            let quantile = |quantile| receipts.latency.value_at_quantile(quantile);
            let text = format!(
                "publish to {name:<8} p50 {:>5} ms   p99 {:>5} ms",
                quantile(0.5),
                quantile(0.99)
            );
            self.line(out, label, &text)?;
        }
        Ok(fine)
    }
}

/// From when the last request that the alert rests on was published.
fn latency(alert: &Alert, at: Instant, published: &Published) -> Option<Duration> {
    alert
        .evidence
        .iter()
        .filter_map(|evidence| published.at(&evidence.audit_id))
        .max()
        .map(|published| at.saturating_duration_since(published))
}

/// The last part of an ARM id.
fn short(cluster: &str) -> &str {
    cluster.rsplit('/').next().unwrap_or(cluster)
}

/// Lines of at most `width` characters, broken between words where there are some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        let line = lines.last_mut().expect("there is a line at least");
        if used > 0 && used + 1 + length > width {
            lines.push(word.to_owned());
            used = length;
        } else {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
    }
    lines
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
