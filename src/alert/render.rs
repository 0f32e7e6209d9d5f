//! Temporary.
use super::Alert;
pub fn terminal(alert: &Alert, _colour: bool) -> String {
    format!(
        "{:<8} {}  {}",
        alert.severity,
        super::escape::visible(&alert.detector.id),
        super::escape::visible(&alert.summary)
    )
}
