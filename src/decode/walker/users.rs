//! What a worker remembers of the users that it has read: a client sends the same one with each of its
//! requests, and of an event's head that is the longest part.
//!
//! What reading an object comes to depends on its text alone, so that one that was read is found by
//! comparing.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use ahash::RandomState;

use super::few::Few;
use super::spare::Spare;
use crate::event::User;

/// Sets of the table, each of [`WAYS`]: a power of two.
const SETS: usize = 1 << 8;

/// Users whose objects begin alike, as those of a service account's pods do.
const WAYS: usize = 4;

/// Bytes by which users are told apart; behind an honest user's name, where its pods differ.
const TOLD_APART: usize = 64;

/// Honest users are shorter.
const MAX_LENGTH: usize = 2048;

/// Of what is not known where there is no more room, one in so many is put in another's place.
const RARELY: usize = 8;

/// Belongs to one worker thread.
#[derive(Debug)]
pub struct Users {
    hasher: RandomState,
    sets: Vec<Few<Known, WAYS, RARELY>>,
}

impl Default for Users {
    fn default() -> Users {
        Users {
            hasher: RandomState::new(),
            sets: (0..SETS).map(|_| Few::default()).collect(),
        }
    }
}

/// Where a value stands in its object's text.
type Place = Range<usize>;

/// A user as read, and where in its text the values stand.
#[derive(Debug)]
struct Known {
    text: Box<str>,
    username: Place,
    uid: Place,
    groups: Box<[Place]>,
    extra: Box<[(Place, Box<[Place]>)]>,
}

impl Users {
    fn set(&self, rest: &[u8]) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&rest[..rest.len().min(TOLD_APART)]);
        hasher.finish() as usize % SETS
    }

    /// The user whose object begins at `at` of `text`, and the object's length.
    pub fn find<'a>(
        &self,
        text: &'a str,
        at: usize,
        spare: &mut Spare,
    ) -> Option<(User<'a>, usize)> {
        let rest = text.as_bytes().get(at..)?;
        let known =
            self.sets[self.set(rest)].find(|known| rest.starts_with(known.text.as_bytes()))?;
        // The object stands here as it stood there.
        let object = &text[at..at + known.text.len()];
        let value = |place: &Place| Cow::Borrowed(&object[place.clone()]);
        let mut groups = spare.list();
        groups.extend(known.groups.iter().map(value));
        let mut extra = spare.extra();
        for (key, values) in &known.extra {
            let mut list = spare.list();
            list.extend(values.iter().map(value));
            extra.push((value(key), list));
        }
        let user = User {
            username: value(&known.username),
            uid: value(&known.uid),
            groups,
            extra,
        };
        Some((user, known.text.len()))
    }

    /// Remembers `user`, whose object stands at `place` of `text`; one that does not stand there as it
    /// is, is not remembered.
    pub fn put(&mut self, text: &str, place: Range<usize>, user: &User<'_>) {
        if place.len() > MAX_LENGTH {
            return;
        }
        let set = self.set(&text.as_bytes()[place.start..]);
        self.sets[set].put(|| known(&text[place], user));
    }
}

fn known(object: &str, user: &User<'_>) -> Option<Known> {
    let place = |value: &Cow<'_, str>| place(object, value);
    let places = |values: &[Cow<'_, str>]| values.iter().map(place).collect::<Option<_>>();
    Some(Known {
        text: object.into(),
        username: place(&user.username)?,
        uid: place(&user.uid)?,
        groups: places(&user.groups)?,
        extra: user
            .extra
            .iter()
            .map(|(key, values)| Some((place(key)?, places(values)?)))
            .collect::<Option<_>>()?,
    })
}

/// Where `value` stands in `object`, if it was borrowed from there.
fn place(object: &str, value: &str) -> Option<Place> {
    if value.is_empty() {
        return Some(0..0);
    }
    let from = (value.as_ptr() as usize).checked_sub(object.as_ptr() as usize)?;
    let range = from..from.checked_add(value.len())?;
    (object.get(range.clone())? == value).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is read of `text`, which begins with its object.
    fn user_of(text: &str) -> User<'_> {
        let part = |value: &str| {
            let at = text.find(value).unwrap();
            Cow::Borrowed(&text[at..at + value.len()])
        };
        User {
            username: part("a"),
            uid: Cow::Borrowed(""),
            groups: vec![part("g"), part("h")],
            extra: vec![(part("k"), vec![part("v")])],
        }
    }

    #[test]
    fn a_user_is_found_by_its_text_alone() {
        let object = r#"{"username":"a","groups":["g","h"],"extra":{"k":["v"]}}"#;
        let user = user_of(object);
        let mut users = Users::default();
        let mut spare = Spare::default();
        assert!(users.find(object, 0, &mut spare).is_none());
        users.put(object, 0..object.len(), &user);
        let text = format!("é{object},\"x\":1}}");
        assert!(users.find(&text, 0, &mut spare).is_none());
        // Users are told apart by what follows a short object too.
        let in_text = user_of(&text[2..]);
        users.put(&text, 2..2 + object.len(), &in_text);
        let (found, length) = users.find(&text, 2, &mut spare).unwrap();
        let same = |a: &User<'_>, b: &User<'_>| format!("{a:?}") == format!("{b:?}");
        assert!(same(&found, &user) && length == object.len());
        let other = text.replace("\"g\"", "\"G\"");
        assert!(users.find(&other, 2, &mut spare).is_none());
        // A value that was unescaped elsewhere cannot be found in the text.
        let elsewhere = User {
            uid: Cow::Owned("a".to_owned()),
            ..user
        };
        assert!(known(object, &elsewhere).is_none());
    }
}
