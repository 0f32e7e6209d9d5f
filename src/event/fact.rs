//! Facts: named truths of one event, each true, false or unknown.
//!
//! The table below is the whole vocabulary that a detector's `facts` and `not` may use;
//! `lanner detectors facts` prints it. A fact is unknown where what it is read from is missing, cut
//! off or was not logged: `facts` needs known-true, `not` needs known-false. Facts of one group are
//! computed together, once an event, when a candidate detector first asks ([`crate::event::View`]).

/// What is known of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
}

/// Name and meaning of a fact.
#[derive(Debug)]
pub struct FactInfo {
    pub fact: Fact,
    pub name: &'static str,
    pub group: Group,
    pub doc: &'static str,
}

macro_rules! facts {
    ($( $group:ident { $( $variant:ident = $name:literal, $doc:literal; )* } )*) => {
        /// A named truth; its index is its bit in a [`FactSet`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Fact { $($( $variant, )*)* }

        /// Facts that are computed together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Group { $( $group, )* }

        /// Every fact, in the order of [`Fact`].
        pub const FACTS: &[FactInfo] = &[
            $($( FactInfo { fact: Fact::$variant, name: $name, group: Group::$group, doc: $doc }, )*)*
        ];

        impl Group {
            /// The facts of this group, as a set of bits.
            pub const fn mask(self) -> Bits {
                match self {
                    $( Group::$group => Bits::EMPTY $( .with(Fact::$variant) )*, )*
                }
            }
        }

        /// Every group.
        pub const GROUPS: &[Group] = &[$( Group::$group, )*];
    };
}

facts! {
    Request {
        Succeeded = "succeeded", "the API server answered with a code from 100 to 399, or had started to answer without saying a code";
        Failed = "failed", "the API server answered with a code of 400 or more";
        Forbidden = "forbidden", "the answer was 403: refused by authorization, by admission or by the escalation check";
        Unauthorized = "unauthorized", "the answer was 401: no valid credential";
        DecisionForbid = "decision_forbid", "the authorizer said no (annotation authorization.k8s.io/decision is forbid)";
        EscalationDenied = "escalation_denied", "refused because the actor tried to grant or bind rights that it does not hold";
        DryRun = "dry_run", "a dry run: nothing was stored";
        Write = "write", "the verb changes something: create, update, patch, delete or deletecollection";
    }
}

impl Fact {
    pub const COUNT: usize = FACTS.len();

    pub fn info(self) -> &'static FactInfo {
        &FACTS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn parse(name: &str) -> Option<Fact> {
        FACTS
            .iter()
            .find(|info| info.name == name)
            .map(|info| info.fact)
    }
}

const WORDS: usize = 4;
const _: () = assert!(Fact::COUNT <= WORDS * 64, "widen WORDS");

/// A set of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Bits([u64; WORDS]);

impl Bits {
    pub const EMPTY: Bits = Bits([0; WORDS]);

    pub const fn with(mut self, fact: Fact) -> Bits {
        self.0[fact as usize / 64] |= 1 << (fact as usize % 64);
        self
    }

    pub fn contains(&self, fact: Fact) -> bool {
        self.0[fact as usize / 64] & (1 << (fact as usize % 64)) != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub fn intersects(&self, other: &Bits) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }

    pub fn union(&self, other: &Bits) -> Bits {
        Bits(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The facts in `self` that are not in `other`.
    pub fn without(&self, other: &Bits) -> Bits {
        Bits(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    pub fn iter(&self) -> impl Iterator<Item = Fact> {
        FACTS
            .iter()
            .map(|info| info.fact)
            .filter(|fact| self.contains(*fact))
    }
}

impl FromIterator<Fact> for Bits {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Bits {
        facts.into_iter().fold(Bits::EMPTY, Bits::with)
    }
}

/// What is known of every fact: a bit for "known" and one for "true"; a fact never set is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FactSet {
    known: Bits,
    truths: Bits,
}

impl FactSet {
    pub fn set(&mut self, fact: Fact, truth: impl Into<Truth>) {
        let (word, bit) = (fact as usize / 64, 1 << (fact as usize % 64));
        let truth = truth.into();
        if truth == Truth::Unknown {
            self.known.0[word] &= !bit;
            self.truths.0[word] &= !bit;
        } else {
            self.known.0[word] |= bit;
            if truth == Truth::True {
                self.truths.0[word] |= bit;
            } else {
                self.truths.0[word] &= !bit;
            }
        }
    }

    pub fn get(&self, fact: Fact) -> Truth {
        if !self.known.contains(fact) {
            Truth::Unknown
        } else {
            self.truths.contains(fact).into()
        }
    }

    /// Whether all of `facts` are known to be true and all of `not` known to be false: `True`;
    /// whether one is known to be otherwise: `False`; else only unknowns stand in the way.
    pub fn test(&self, facts: &Bits, not: &Bits) -> Truth {
        let known_false = self.known.without(&self.truths);
        if facts.intersects(&known_false) || not.intersects(&self.truths) {
            Truth::False
        } else if facts.without(&self.truths).is_empty() && not.without(&known_false).is_empty() {
            Truth::True
        } else {
            Truth::Unknown
        }
    }

    pub fn merge(&mut self, other: &FactSet) {
        self.known = self.known.union(&other.known);
        self.truths = self.truths.union(&other.truths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_index_the_table() {
        for (i, info) in FACTS.iter().enumerate() {
            assert_eq!(info.fact as usize, i);
            assert_eq!(Fact::parse(info.name), Some(info.fact));
        }
    }

    #[test]
    fn unknown_is_neither_true_nor_false() {
        let mut set = FactSet::default();
        let succeeded = Bits::EMPTY.with(Fact::Succeeded);
        assert_eq!(set.test(&succeeded, &Bits::EMPTY), Truth::Unknown);
        assert_eq!(set.test(&Bits::EMPTY, &succeeded), Truth::Unknown);
        set.set(Fact::Succeeded, true);
        assert_eq!(set.test(&succeeded, &Bits::EMPTY), Truth::True);
        assert_eq!(set.test(&Bits::EMPTY, &succeeded), Truth::False);
        set.set(Fact::Succeeded, Truth::Unknown);
        assert_eq!(set.get(Fact::Succeeded), Truth::Unknown);
    }
}
