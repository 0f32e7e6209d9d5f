//! What the inventory knows of a cluster as a whole: since when it is watched, and which
//! resourceVersions there were when, by which an object that a request left alone is told from one
//! that it changed. [`super::state`] writes it, lesson by lesson.

use std::collections::VecDeque;

use super::lesson::{Lesson, What};

/// How long resourceVersions are remembered to tell old objects from changed ones.
const MARKS_MINUTES: i64 = 60;

/// What is known of a cluster as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Meta {
    pub name: Box<str>,
    /// Milliseconds: the first lesson, and the last record.
    pub since: Option<i64>,
    pub latest: i64,
    /// When something was last imported.
    pub imported: Option<i64>,
    /// The greatest resourceVersion that was seen, by minute.
    marks: VecDeque<(i64, u64)>,
}

impl Meta {
    /// A cluster of which nothing was seen yet.
    pub(super) fn of(name: &str) -> Meta {
        Meta {
            name: name.into(),
            latest: i64::MIN,
            ..Meta::default()
        }
    }

    /// Remembers the lesson's resourceVersion; says whether that was news.
    pub(super) fn mark(&mut self, lesson: &Lesson) -> bool {
        if lesson.version == 0 || matches!(lesson.what, What::Left { shown: true, .. }) {
            return false;
        }
        let minute = lesson.at.div_euclid(60_000);
        if matches!(lesson.what, What::Made(_)) {
            // What is new has a new version, unless the cluster's past was restored.
            let older = |(of, version): &(i64, u64)| *of < minute - 5 && *version > lesson.version;
            if self.marks.iter().any(older) {
                self.marks.clear();
            }
        }
        let at = self.marks.partition_point(|(of, _)| *of < minute);
        match self.marks.get_mut(at) {
            Some((of, version)) if *of == minute && *version >= lesson.version => return false,
            Some((of, version)) if *of == minute => *version = lesson.version,
            _ => self.marks.insert(at, (minute, lesson.version)),
        }
        let horizon = self.marks.back().map_or(0, |(of, _)| of - MARKS_MINUTES);
        while self.marks.front().is_some_and(|(of, _)| *of < horizon) {
            self.marks.pop_front();
        }
        true
    }

    /// Whether the version was there before the request came: then the request has not made it.
    pub(super) fn is_older(&self, version: u64, received: i64) -> bool {
        let minute = received.div_euclid(60_000);
        version > 0
            && !self.name.is_empty()
            && self
                .marks
                .iter()
                .any(|(of, seen)| *of < minute && *seen >= version)
    }
}
