//! RFC 3339 as the API server and AKS write it: `2026-11-20T10:00:00.012123Z`.

use jiff::Timestamp;

/// Reads a time in UTC with up to nine fraction digits; `None` for any other spelling, which jiff may
/// still read.
pub fn parse(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8; 20] = b"0000-00-00T00:00:00Z";
    let bytes = text.as_bytes();
    let (stamp, fraction) = bytes.split_first_chunk::<19>()?;
    let fits = stamp.iter().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    });
    if !fits {
        return None;
    }
    let nanoseconds = match fraction {
        [b'Z'] => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            let mut value = 0;
            for index in 0..9 {
                let digit = digits.get(index).copied().unwrap_or(b'0');
                if !digit.is_ascii_digit() {
                    return None;
                }
                value = value * 10 + i32::from(digit - b'0');
            }
            value
        }
        _ => return None,
    };
    let two = |at: usize| i64::from(stamp[at] - b'0') * 10 + i64::from(stamp[at + 1] - b'0');
    let (year, month, day) = (two(0) * 100 + two(2), two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    if hour > 23 || minute > 59 || second > 59 || day < 1 || day > days_in(year, month)? {
        return None;
    }
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Timestamp::new(seconds, nanoseconds).ok()
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

    proptest! {
        #[test]
        fn reads_what_jiff_reads(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|\\+01:00)") {
            if let Some(time) = parse(&text) {
                prop_assert_eq!(Ok(time), text.parse::<Timestamp>().map_err(|error| error.to_string()));
            }
        }

        #[test]
        fn reads_every_time_in_utc(seconds in -62_167_219_200i64..253_402_207_200, nanoseconds in 0..1_000_000_000i32) {
            let time = Timestamp::new(seconds, nanoseconds).unwrap();
            prop_assert_eq!(parse(&time.to_string()), Some(time), "{}", time);
        }
    }
}
