//! Lists that events have been done with, for the next ones: so that a record costs no allocation.

use std::borrow::Cow;

use crate::event::{AuditEvent, User};

type List<'a> = Vec<Cow<'a, str>>;

/// Lists that are empty and have room.
#[derive(Debug, Default)]
pub struct Spare {
    lists: Vec<List<'static>>,
    annotations: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    extra: Vec<(Cow<'static, str>, List<'static>)>,
}

/// More than one event needs; one with more has its lists freed.
const MAX_LISTS: usize = 32;

/// A longer list is freed, so that one strange event does not hold memory for ever.
const MAX_LENGTH: usize = 256;

impl Spare {
    pub fn list<'a>(&mut self) -> List<'a> {
        self.lists.pop().map(emptied).unwrap_or_default()
    }

    pub fn annotations<'a>(&mut self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        emptied(std::mem::take(&mut self.annotations))
    }

    pub fn extra<'a>(&mut self) -> Vec<(Cow<'a, str>, List<'a>)> {
        emptied(std::mem::take(&mut self.extra))
    }

    pub fn keep_list(&mut self, list: List<'_>) {
        if (1..=MAX_LENGTH).contains(&list.capacity()) && self.lists.len() < MAX_LISTS {
            self.lists.push(emptied(list));
        }
    }

    pub fn keep_user(&mut self, mut user: User<'_>) {
        self.keep_list(user.groups);
        for (_, list) in user.extra.drain(..) {
            self.keep_list(list);
        }
        if (1..=MAX_LENGTH).contains(&user.extra.capacity()) {
            self.extra = emptied(user.extra);
        }
    }

    pub fn keep(&mut self, event: AuditEvent<'_>) {
        self.keep_list(event.source_ips);
        self.keep_user(event.user);
        if (1..=MAX_LENGTH).contains(&event.annotations.capacity()) {
            self.annotations = emptied(event.annotations);
        }
    }
}

/// The list without its elements, for others of the same layout: the allocation is kept.
fn emptied<T, U>(mut list: Vec<T>) -> Vec<U> {
    list.clear();
    list.into_iter()
        .map(|_| unreachable!("the list is empty"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_list_keeps_its_room() {
        let list: List = vec![Cow::Borrowed("a"); 7];
        let room = list.capacity();
        let list: List<'static> = emptied(list);
        assert_eq!((list.len(), list.capacity()), (0, room));
    }
}
