//! What the address of a link names: a node of the namespace, a hub, or a partition.

use percent_encoding::percent_decode_str;

/// The addresses that clients attach links to, whole URLs or paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Cbs,
    Management,
    /// `HUB[/Partitions/ID]`: where producers send to.
    Hub {
        hub: String,
        partition: Option<String>,
    },
    /// `HUB/ConsumerGroups/GROUP/Partitions/ID`: where consumers receive from.
    Consumer {
        hub: String,
        group: String,
        partition: String,
    },
}

impl Address {
    /// Reads a link's source or target; `None` for what the service has no such entity for.
    pub(super) fn parse(address: &str) -> Option<Address> {
        let path = match address.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?.1,
            None => address,
        };
        let decoded = percent_decode_str(path).decode_utf8().ok()?;
        let segments: Vec<&str> = decoded.split('/').filter(|s| !s.is_empty()).collect();
        let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
        match *segments.as_slice() {
            ["$cbs"] => Some(Address::Cbs),
            [.., "$management"] => Some(Address::Management),
            [hub] => Some(Address::Hub {
                hub: hub.to_owned(),
                partition: None,
            }),
            [hub, partitions, id] if is(partitions, "partitions") => Some(Address::Hub {
                hub: hub.to_owned(),
                partition: Some(id.to_owned()),
            }),
            [hub, groups, group, partitions, id]
                if is(groups, "consumergroups") && is(partitions, "partitions") =>
            {
                Some(Address::Consumer {
                    hub: hub.to_owned(),
                    group: group.to_owned(),
                    partition: id.to_owned(),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_name_the_same() {
        let consumer = Address::Consumer {
            hub: "audit".into(),
            group: "$Default".into(),
            partition: "3".into(),
        };
        for text in [
            "amqps://ns.servicebus.windows.net/audit/ConsumerGroups/$Default/Partitions/3",
            "amqps://127.0.0.1:5672/audit/consumergroups/%24Default/partitions/3",
            "audit/ConsumerGroups/$Default/Partitions/3",
        ] {
            assert_eq!(Address::parse(text), Some(consumer.clone()), "{text}");
        }
        assert_eq!(
            Address::parse("amqps://ns/audit/Partitions/0"),
            Some(Address::Hub {
                hub: "audit".into(),
                partition: Some("0".into())
            })
        );
        assert_eq!(Address::parse("$cbs"), Some(Address::Cbs));
        assert_eq!(Address::parse("$management"), Some(Address::Management));
        assert_eq!(Address::parse("audit/x/y/z"), None);
        assert_eq!(Address::parse(""), None);
    }
}
