//! A bounded list of what was read before, for [`super::stretch`] and [`super::users`].

/// At most `MAX`. Where there is no more room, one in `RARELY` of what comes is put in another's
/// place, so that what never comes again costs little.
#[derive(Debug)]
pub struct Few<T, const MAX: usize, const RARELY: usize> {
    kept: Vec<T>,
    misses: usize,
}

impl<T, const MAX: usize, const RARELY: usize> Default for Few<T, MAX, RARELY> {
    fn default() -> Few<T, MAX, RARELY> {
        Few {
            kept: Vec::new(),
            misses: 0,
        }
    }
}

impl<T, const MAX: usize, const RARELY: usize> Few<T, MAX, RARELY> {
    #[inline]
    pub fn find(&self, mut is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.kept.iter().find(|kept| is(kept))
    }

    /// Keeps what `new` makes, if it makes anything and its turn has come.
    pub fn put(&mut self, new: impl FnOnce() -> Option<T>) {
        if self.kept.len() < MAX {
            self.kept.extend(new());
            return;
        }
        self.misses = self.misses.wrapping_add(1);
        if self.misses.is_multiple_of(RARELY)
            && let Some(new) = new()
        {
            self.kept[self.misses / RARELY % MAX] = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_takes_one_in_so_many() {
        let mut few = Few::<_, 3, 4>::default();
        (0..7).for_each(|number| few.put(|| Some(number)));
        assert_eq!(few.kept, [0, 6, 2]);
        few.put(|| panic!("it is not its turn"));
        assert_eq!(few.find(|number| *number > 1), Some(&6));
    }
}
