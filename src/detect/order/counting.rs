//! Matches that count: of a threshold, or of a spike, and there of what is new.

use super::{Judge, Learning, Outcome};
use crate::detect::detector::StateSpec;
use crate::detect::explain;
use crate::detect::matches::{Digest128, Novelty};
use crate::detect::occurrence::Occurrence;
use crate::detect::state::spike;
use crate::detect::state::window::Counting;

impl Judge {
    /// A match of a threshold or spike.
    pub(super) fn counted(
        &mut self,
        state: &StateSpec,
        key: Digest128,
        value: u64,
        novelty: Option<Novelty>,
        occurrence: &Occurrence,
    ) -> (Outcome, String) {
        let Some((_, distinct, counting)) = state.counting() else {
            unreachable!("only what counts has keys to count by");
        };
        let hit = counting.hit(key, occurrence.owner, value, occurrence.clock());
        let counted = |reached| explain::counted(reached, distinct, counting.window);
        if let StateSpec::Spike { count, learn, .. } = state {
            let learn = match self.learning {
                Learning::For(learn) => learn,
                Learning::Own | Learning::Archive => *learn,
            };
            let answer = self.spikes.ask(&spike::Ask {
                hit,
                least: *count,
                learn,
            });
            let new = novelty.map(|novelty| {
                let counting = Counting {
                    count: *count,
                    spike: false,
                    ..counting
                };
                self.new_values(novelty, counting, value, occurrence)
            });
            return match answer.is_spike() {
                true if new.is_some_and(|new| new < *count) => (
                    Outcome::Counted,
                    "many, but too few that were not seen before".to_owned(),
                ),
                true => (
                    Outcome::Alert,
                    explain::spike(&answer, counted(answer.reached), new),
                ),
                false => (
                    Outcome::Counted,
                    "no more than was to be expected".to_owned(),
                ),
            };
        }
        let reached = self.thresholds.ask(hit);
        if reached >= counting.count {
            let reason = format!("{}; the threshold is {}", counted(reached), counting.count);
            (Outcome::Alert, reason)
        } else {
            (Outcome::Counted, "the threshold is not reached".to_owned())
        }
    }

    /// How many of the values within the window were never seen before; of one that was, how many
    /// are around it. Remembers the value.
    fn new_values(
        &mut self,
        novelty: Novelty,
        counting: Counting,
        value: u64,
        occurrence: &Occurrence,
    ) -> u32 {
        let (owner, time) = (occurrence.owner, occurrence.clock());
        let hit = counting.hit(novelty.to, owner, value, time);
        match self.first_seen.meet(novelty, owner, time) {
            true => self.thresholds.ask(hit),
            false => self.thresholds.around(&hit),
        }
    }
}
