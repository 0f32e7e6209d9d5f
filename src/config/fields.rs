//! The keys of a section, asked from its struct: the struct is the only place that lists them.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};

/// The keys that `T`, a struct, deserialises.
pub(super) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The deserialiser always fails, after it has noted the fields.
    drop(T::deserialize(Ask(&mut fields)));
    fields
}

/// The secrets of `T`: every key `x` beside which there is an `x-file`.
pub(super) fn secrets_of<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let fields = fields_of::<T>();
    fields
        .iter()
        .filter_map(|field| field.strip_suffix("-file"))
        .filter(|field| fields.contains(field))
        .collect()
}

struct Ask<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("asked"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AlertConfig, PipelineConfig, Route, StdoutConfig, TelemetryConfig, load};
    use super::*;
    use crate::deliver::email::EmailConfig;
    use crate::deliver::eventhubs::EventHubsOutputConfig;
    use crate::deliver::service::{AlertmanagerConfig, PagerDutyConfig, SlackConfig, TeamsConfig};
    use crate::deliver::webhook::{OcsfConfig, WebhookConfig};
    use crate::event::Lists;
    use crate::source::eventhubs::EventHubConfig;
    use crate::store::StoreConfig;

    /// The keys below the headers of `section` in the reference, commented out or not.
    fn documented(section: &str) -> Vec<&'static str> {
        let mut inside = false;
        let mut keys = Vec::new();
        for line in load::DEFAULT.lines() {
            let line = line.trim_start_matches(['#', ' ']);
            if let Some(header) = line.strip_prefix('[') {
                let header = header.trim_start_matches('[');
                let name = header.split([']', '.']).next().unwrap_or_default();
                let nested = header.contains(".lists") || header.contains(".exception");
                inside = name == section && !nested;
                if name == section && nested {
                    keys.extend(header.split([']', '.']).nth(2));
                }
            } else if inside && let Some((key, _)) = line.split_once(" = ") {
                keys.push(key);
            }
        }
        keys
    }

    #[test]
    fn the_reference_names_every_key() {
        let mut sections = vec![
            ("eventhubs", fields_of::<EventHubConfig>()),
            ("webhook", fields_of::<WebhookConfig>()),
            ("email", fields_of::<EmailConfig>()),
            ("slack", fields_of::<SlackConfig>()),
            ("teams", fields_of::<TeamsConfig>()),
            ("pagerduty", fields_of::<PagerDutyConfig>()),
            ("alertmanager", fields_of::<AlertmanagerConfig>()),
            ("ocsf", fields_of::<OcsfConfig>()),
            ("eventhubs-output", fields_of::<EventHubsOutputConfig>()),
            ("stdout", fields_of::<StdoutConfig>()),
            ("store", fields_of::<StoreConfig>()),
            ("telemetry", fields_of::<TelemetryConfig>()),
            ("pipeline", fields_of::<PipelineConfig>()),
            ("alert", fields_of::<AlertConfig>()),
            ("lists", fields_of::<Lists>()),
            ("route", fields_of::<Route>()),
        ];
        sections.extend(load::raw_fields());
        for (section, fields) in sections {
            assert!(!fields.is_empty(), "{section} is a struct");
            let documented = documented(section);
            let missing: Vec<_> = fields.iter().filter(|f| !documented.contains(f)).collect();
            assert!(
                missing.is_empty(),
                "config/default.toml lacks {section}: {missing:?}"
            );
        }
    }

    #[test]
    fn the_reference_is_valid_and_needs_no_help() {
        let loaded = load::load_text("default.toml", load::DEFAULT, &[])
            .unwrap_or_else(|errors| panic!("{}", errors[0]));
        assert_eq!(loaded.warnings, []);
    }

    /// Detectors' own tests run with the lists in code, sites with those in the reference.
    #[test]
    fn the_reference_has_the_lists_that_detectors_are_tested_with() {
        let reference = load::load_text("", "", &[]).map(|loaded| loaded.config.lists);
        let reference = reference.unwrap_or_else(|errors| panic!("{}", errors[0]));
        assert_eq!(*reference, Lists::default());
    }

    /// Uncommented, the examples load too: what one copies must work.
    #[test]
    fn the_examples_of_the_reference_are_right() {
        let mut text = String::new();
        let mut example = false;
        for line in load::DEFAULT.lines() {
            match line.strip_prefix("# ") {
                Some(rest) if rest.starts_with('[') => example = true,
                Some(_) => {}
                None => example = false,
            }
            // Secrets, and files that a receiver reads.
            let left_out = [
                "connection-string = ",
                "url-file = ",
                "body-file = ",
                "routing-key = ",
                "ca-file = ",
                "signing-secret = ",
                "bearer-token = ",
                "password = ",
            ];
            if let Some(rest) = line.strip_prefix("# ").filter(|_| example)
                && !left_out.iter().any(|key| rest.starts_with(key))
            {
                text.push_str(rest);
                text.push('\n');
            }
        }
        let text = text.replace(
            "arm-id = \"/subscriptions/…/resourceGroups/…/",
            "arm-id = \"/subscriptions/0/resourceGroups/rg/",
        );
        let errors = load::load_text("examples.toml", &text, &[]).unwrap_err();
        let unexpected: Vec<String> = errors
            .iter()
            // The example shows all ways to log in at once, and its files do not exist.
            .filter(|e| !e.message.starts_with("the secret's file"))
            .filter(|e| !e.key.ends_with(".auth") && !e.key.ends_with(".client-id"))
            .map(ToString::to_string)
            .collect();
        assert!(unexpected.is_empty(), "{}\n{text}", unexpected.join("\n"));
    }
}
