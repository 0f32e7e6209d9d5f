//! Who is told: every table that makes a receiver, under the name that routes say.

use std::collections::BTreeMap;

use crate::deliver::email::EmailConfig;
use crate::deliver::eventhubs::EventHubsOutputConfig;
use crate::deliver::service::{AlertmanagerConfig, PagerDutyConfig, SlackConfig, TeamsConfig};
use crate::deliver::webhook::{OcsfConfig, WebhookConfig};
use crate::deliver::{ConfigError, Named, Table};

/// The receivers with a name; standard output has none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Receivers {
    pub webhook: BTreeMap<String, WebhookConfig>,
    pub email: BTreeMap<String, EmailConfig>,
    pub slack: BTreeMap<String, SlackConfig>,
    pub teams: BTreeMap<String, TeamsConfig>,
    pub pagerduty: BTreeMap<String, PagerDutyConfig>,
    pub alertmanager: BTreeMap<String, AlertmanagerConfig>,
    pub ocsf: BTreeMap<String, OcsfConfig>,
    pub eventhubs_output: BTreeMap<String, EventHubsOutputConfig>,
}

impl Receivers {
    /// The sections of the file that hold receivers by name.
    pub const KINDS: [&str; 8] = [
        "webhook",
        "email",
        "slack",
        "teams",
        "pagerduty",
        "alertmanager",
        "ocsf",
        "eventhubs-output",
    ];

    /// Each with its name, in the order of [`Receivers::KINDS`].
    pub fn tables(&self) -> Vec<(&str, &dyn Table)> {
        fn named<T: Table>(
            tables: &BTreeMap<String, T>,
        ) -> impl Iterator<Item = (&str, &dyn Table)> {
            let dynamic = |(name, table)| (String::as_str(name), table as &dyn Table);
            tables.iter().map(dynamic)
        }
        named(&self.webhook)
            .chain(named(&self.email))
            .chain(named(&self.slack))
            .chain(named(&self.teams))
            .chain(named(&self.pagerduty))
            .chain(named(&self.alertmanager))
            .chain(named(&self.ocsf))
            .chain(named(&self.eventhubs_output))
            .collect()
    }

    /// Makes them all; connects to nobody.
    pub fn make(&self) -> Result<Vec<Named>, ConfigError> {
        self.tables()
            .into_iter()
            .map(|(name, table)| {
                let full = format!("{}.{name}", table.kind());
                Ok((full, table.receiver(name)?))
            })
            .collect()
    }
}
