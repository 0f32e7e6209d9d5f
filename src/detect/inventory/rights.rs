//! Rights as Kubernetes' RBAC authorizer understands them: which requests a rule allows, and what a
//! rule grants that others do not.
//!
//! After the authorizer's documented semantics: verbs, API groups, resources with their subresource
//! (`pods/exec`, `*/scale`), names, and non-resource URLs with a `*` at their end. Verb and resource
//! count only where they meet in one rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One rule of a Role or ClusterRole.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    pub verbs: Vec<Box<str>>,
    /// API groups; `""` is core.
    pub groups: Vec<Box<str>>,
    /// With the subresource behind a slash.
    pub resources: Vec<Box<str>>,
    /// Empty allows every name, and requests that name no object.
    pub names: Vec<Box<str>>,
    pub urls: Vec<Box<str>>,
}

/// What someone asks the API server to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        /// Empty for none.
        subresource: &'a str,
        /// Empty for a collection.
        name: &'a str,
    },
    Url {
        verb: &'a str,
        path: &'a str,
    },
}

/// The smallest part of a rule: one verb on one resource or URL, wildcards taken as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Atom<'r> {
    Resource {
        group: &'r str,
        resource: &'r str,
        name: Option<&'r str>,
        verb: &'r str,
    },
    Url {
        url: &'r str,
        verb: &'r str,
    },
}

/// Atoms and comparisons that one change may cost; beyond, its effect is not worked out.
#[derive(Debug)]
pub struct Budget(u64);

impl Budget {
    pub fn new(steps: u64) -> Budget {
        Budget(steps)
    }

    pub fn is_spent(&self) -> bool {
        self.0 == 0
    }

    fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(steps as u64);
    }
}

fn has(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|given| **given == *wanted)
}

/// Whether a list holds `wanted` or a wildcard.
fn admits(list: &[Box<str>], wanted: &str) -> bool {
    list.iter()
        .any(|given| **given == *"*" || **given == *wanted)
}

/// Whether a list of URLs admits every URL that `wanted` stands for.
fn admits_url(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|given| match given.strip_suffix('*') {
        Some(prefix) => wanted.starts_with(prefix),
        None => **given == *wanted,
    })
}

impl Rule {
    pub fn allows(&self, request: &Request<'_>) -> bool {
        match *request {
            Request::Resource {
                verb,
                group,
                resource,
                subresource,
                name,
            } => {
                admits(&self.verbs, verb)
                    && admits(&self.groups, group)
                    && self.admits_resource(resource, subresource)
                    && (self.names.is_empty() || has(&self.names, name))
            }
            Request::Url { verb, path } => {
                admits(&self.verbs, verb) && admits_url(&self.urls, path)
            }
        }
    }

    fn admits_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|given| {
            let given = &**given;
            given == "*"
                || match subresource {
                    "" => given == resource,
                    sub => match given.split_once('/') {
                        Some((parent, given_sub)) => {
                            given_sub == sub && (parent == "*" || parent == resource)
                        }
                        None => false,
                    },
                }
        })
    }

    /// Whether the rule allows everything that the atom stands for.
    fn covers(&self, atom: &Atom<'_>) -> bool {
        match *atom {
            Atom::Resource {
                group,
                resource,
                name,
                verb,
            } => {
                let resource_covered = has(&self.resources, "*")
                    || has(&self.resources, resource)
                    || resource.split_once('/').is_some_and(|(_, sub)| {
                        self.resources
                            .iter()
                            .any(|given| given.strip_prefix("*/") == Some(sub))
                    });
                admits(&self.verbs, verb)
                    && admits(&self.groups, group)
                    && resource_covered
                    && (self.names.is_empty() || name.is_some_and(|name| has(&self.names, name)))
            }
            Atom::Url { url, verb } => {
                admits(&self.verbs, verb)
                    && self.urls.iter().any(|given| match given.strip_suffix('*') {
                        Some(prefix) => url.trim_end_matches('*').starts_with(prefix),
                        None => **given == *url,
                    })
            }
        }
    }

    /// How many atoms the rule has.
    pub fn size(&self) -> usize {
        let names = self.names.len().max(1);
        let of_resources = self
            .groups
            .len()
            .saturating_mul(self.resources.len())
            .saturating_mul(names);
        of_resources
            .saturating_add(self.urls.len())
            .saturating_mul(self.verbs.len())
    }

    /// Bytes of its texts, about.
    pub fn weight(&self) -> usize {
        [
            &self.verbs,
            &self.groups,
            &self.resources,
            &self.names,
            &self.urls,
        ]
        .iter()
        .flat_map(|list| list.iter())
        .map(|text| text.len() + size_of::<Box<str>>())
        .sum::<usize>()
            + size_of::<Rule>()
    }

    fn atoms(&self) -> impl Iterator<Item = Atom<'_>> {
        let names: Vec<Option<&str>> = if self.names.is_empty() {
            vec![None]
        } else {
            self.names.iter().map(|name| Some(&**name)).collect()
        };
        let of_resources = self.verbs.iter().flat_map(move |verb| {
            let names = names.clone();
            self.groups.iter().flat_map(move |group| {
                let names = names.clone();
                self.resources.iter().flat_map(move |resource| {
                    names.clone().into_iter().map(move |name| Atom::Resource {
                        group,
                        resource,
                        name,
                        verb,
                    })
                })
            })
        });
        let of_urls = self
            .verbs
            .iter()
            .flat_map(|verb| self.urls.iter().map(move |url| Atom::Url { url, verb }));
        of_resources.chain(of_urls)
    }
}

/// What `new` grants beyond `old`, in as few rules as its own form gives; `None` where the budget
/// does not allow to tell.
pub fn beyond(new: &[&Rule], old: &[&Rule], budget: &mut Budget) -> Option<Vec<Rule>> {
    let mut gained: BTreeMap<Atom<'_>, ()> = BTreeMap::new();
    for rule in new {
        budget.spend(rule.size().max(1) + old.len());
        if budget.is_spent() {
            return None;
        }
        if old.contains(rule) {
            continue;
        }
        for atom in rule.atoms() {
            budget.spend(old.len());
            if budget.is_spent() {
                return None;
            }
            if !old.iter().any(|old| old.covers(&atom)) {
                gained.insert(atom, ());
            }
        }
    }
    Some(gathered(gained.into_keys()))
}

/// Atoms as rules again: those that agree in verbs, group and name together.
fn gathered<'a>(atoms: impl Iterator<Item = Atom<'a>>) -> Vec<Rule> {
    type Texts = Vec<Box<str>>;
    /// Group, resource, name.
    type Object<'a> = (&'a str, &'a str, Option<&'a str>);
    let mut verbs: BTreeMap<Object<'_>, Texts> = BTreeMap::new();
    let mut url_verbs: BTreeMap<&str, Texts> = BTreeMap::new();
    for atom in atoms {
        match atom {
            Atom::Resource {
                group,
                resource,
                name,
                verb,
            } => verbs
                .entry((group, resource, name))
                .or_default()
                .push(verb.into()),
            Atom::Url { url, verb } => url_verbs.entry(url).or_default().push(verb.into()),
        }
    }
    /// Verbs, group, name.
    type Granted<'a> = (Texts, &'a str, Option<&'a str>);
    let mut resources: BTreeMap<Granted<'_>, Texts> = BTreeMap::new();
    for ((group, resource, name), verbs) in verbs {
        let same = resources.entry((verbs, group, name)).or_default();
        same.push(resource.into());
    }
    let mut urls: BTreeMap<Texts, Texts> = BTreeMap::new();
    for (url, verbs) in url_verbs {
        urls.entry(verbs).or_default().push(url.into());
    }
    let of_resources = resources
        .into_iter()
        .map(|((verbs, group, name), resources)| Rule {
            verbs,
            groups: vec![group.into()],
            resources,
            names: name.map(Box::from).into_iter().collect(),
            urls: Vec::new(),
        });
    let of_urls = urls.into_iter().map(|(verbs, urls)| Rule {
        verbs,
        urls,
        ..Rule::default()
    });
    of_resources.chain(of_urls).collect()
}

/// Every verb on every resource, for people.
pub const EVERYTHING: &str = "do everything";

/// The rule for people: `get, list secrets`, `create pods/exec`, [`EVERYTHING`].
pub fn words(rule: &Rule) -> String {
    let any = |list: &[Box<str>]| has(list, "*");
    if any(&rule.verbs) && any(&rule.groups) && any(&rule.resources) && rule.names.is_empty() {
        return EVERYTHING.to_owned();
    }
    let verbs = match any(&rule.verbs) {
        true => "do anything with".to_owned(),
        false => listed(&rule.verbs, ", ", 8),
    };
    let what = if !rule.urls.is_empty() {
        format!("URL {}", listed(&rule.urls, ", ", 4))
    } else if any(&rule.resources) {
        match rule.groups.first().map(|group| &**group) {
            Some("*") => "every resource".to_owned(),
            Some("") | None => "every resource of the core group".to_owned(),
            Some(group) => format!("every resource of {group}"),
        }
    } else {
        listed(&rule.resources, ", ", 6)
    };
    match rule.names.first() {
        Some(name) => format!("{verbs} {what} {name}"),
        None => format!("{verbs} {what}"),
    }
}

/// The first `most` of a list, and how many more there are.
pub fn listed<S: AsRef<str>>(items: &[S], between: &str, most: usize) -> String {
    let shown: Vec<&str> = items.iter().take(most).map(AsRef::as_ref).collect();
    let mut text = shown.join(between);
    if items.len() > most {
        text.push_str(&format!("{between}{} more", items.len() - most));
    }
    text
}
