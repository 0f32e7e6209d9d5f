//! Temporary.
use jiff::SignedDuration;
pub fn parse(text: &str) -> Result<SignedDuration, String> {
    let bad = || format!("`{text}` is no duration");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?);
    let n: i64 = number.parse().map_err(|_| bad())?;
    let secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(bad()),
    };
    Ok(SignedDuration::from_secs(n * secs))
}
