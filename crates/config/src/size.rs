//! How sizes are written for people.

const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];

/// A size as the reference's log shows it: two decimals of the greatest unit, 1024-based.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!(
        "{value:.2} {}",
        UNITS.get(unit).copied().unwrap_or_default()
    )
}
