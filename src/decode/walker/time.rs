//! RFC 3339 as the API server and AKS write it: `2026-11-20T10:00:00.012123Z`.

use jiff::Timestamp;

/// Reads a time in UTC with up to nine fraction digits; `None` for any other spelling, which jiff may
/// still read.
pub fn parse(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8; 20] = b"0000-00-00T00:00:00Z";
    let bytes = text.as_bytes();
    let (stamp, fraction) = bytes.split_first_chunk::<19>()?;
    // Without a way out, so that all bytes are looked at together.
    let fits = stamp.iter().zip(SHAPE).fold(true, |fits, (byte, shape)| {
        fits & match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        }
    });
    if !fits {
        return None;
    }
    let nanoseconds = fraction_of(fraction)?;
    let two = |at: usize| i64::from(stamp[at] - b'0') * 10 + i64::from(stamp[at + 1] - b'0');
    let (year, month, day) = (two(0) * 100 + two(2), two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    if hour > 23 || minute > 59 || second > 59 || day < 1 || day > days_in(year, month)? {
        return None;
    }
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Timestamp::new(seconds, nanoseconds).ok()
}

/// Nanoseconds of what follows the seconds.
#[inline]
fn fraction_of(rest: &[u8]) -> Option<i32> {
    const TENS: [i64; 9] = [
        1,
        10,
        100,
        1_000,
        10_000,
        100_000,
        1_000_000,
        10_000_000,
        100_000_000,
    ];
    match rest {
        [b'Z'] => Some(0),
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            let (value, fits) = digits.iter().fold((0i64, true), |(value, fits), digit| {
                let digit = digit.wrapping_sub(b'0');
                (value * 10 + i64::from(digit), fits & (digit < 10))
            });
            let nanoseconds = value * TENS[9 - digits.len()];
            fits.then_some(nanoseconds)
                .and_then(|nanoseconds| i32::try_from(nanoseconds).ok())
        }
        _ => None,
    }
}

/// The minute of the time that was read last: the next is mostly of the same one.
#[derive(Debug, Clone, Copy)]
pub struct Minute {
    /// As written, to the colon before the seconds.
    text: [u8; 17],
    start: i64,
}

impl Default for Minute {
    /// One that is true, because no text of 17 bytes may be taken for a time that is none.
    fn default() -> Minute {
        Minute {
            text: *b"1970-01-01T00:00:",
            start: 0,
        }
    }
}

impl Minute {
    /// As [`parse`].
    #[inline]
    pub fn parse(&mut self, text: &str) -> Option<Timestamp> {
        let bytes = text.as_bytes();
        let (minute, rest) = bytes.split_first_chunk::<17>()?;
        if *minute == self.text
            && let [tens @ b'0'..=b'5', ones @ b'0'..=b'9', fraction @ ..] = rest
        {
            let second = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            return Timestamp::new(self.start + second, fraction_of(fraction)?).ok();
        }
        let time = parse(text)?;
        // The part of a second counts towards 1970.
        let second = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
        *self = Minute {
            text: *minute,
            start: second.div_euclid(60) * 60,
        };
        Some(time)
    }
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, from year 0 on. The year is taken to
/// begin in March, so that the leap day is its last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_TO_EPOCH: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - DAYS_TO_EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn before_the_first_time_no_text_is_a_known_minute() {
        let nothing = format!("{}00Z", "\0".repeat(17));
        assert_eq!(Minute::default().parse(&nothing), None);
        let epoch = "1970-01-01T00:00:59.5Z";
        assert_eq!(Minute::default().parse(epoch), parse(epoch));
    }

    proptest! {
        #[test]
        fn reads_what_jiff_reads(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|\\+01:00)") {
            if let Some(time) = parse(&text) {
                prop_assert_eq!(Ok(time), text.parse::<Timestamp>().map_err(|error| error.to_string()));
            }
        }

        #[test]
        fn a_known_minute_changes_nothing(
            times in proptest::collection::vec("(19[67]9|2026)-(12|03)-0[1-2]T2[23]:5[89]:[0-6][0-9a](\\.[0-9]{0,10})?(Z|z)?", 1..8)
        ) {
            let mut minute = Minute::default();
            for time in &times {
                prop_assert_eq!(minute.parse(time), parse(time), "{}", time);
            }
        }

        #[test]
        fn reads_every_time_in_utc(seconds in -62_167_219_200i64..253_402_207_200, nanoseconds in 0..1_000_000_000i32) {
            let time = Timestamp::new(seconds, nanoseconds).unwrap();
            prop_assert_eq!(parse(&time.to_string()), Some(time), "{}", time);
        }
    }
}
