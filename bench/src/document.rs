//! Keeping a table of results in a document: rows that were measured again take the place of the old
//! ones, new ones come behind them, and all else in the document stays.

use std::path::Path;

use crate::control::text;
use crate::report::{Row, TABLE_HEAD};

/// The lines around the table.
const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// Writes rows into the table of the document at `path`.
pub(crate) fn update(path: &Path, rows: &[Row]) -> Result<(), String> {
    let document = std::fs::read_to_string(path).map_err(text)?;
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    let updated = merged(&document, &lines)
        .ok_or_else(|| format!("{}: no lines {BEGIN} and {END}", path.display()))?;
    std::fs::write(path, updated).map_err(text)
}

fn merged(document: &str, rows: &[String]) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (table, behind) = rest.split_once(END)?;
    let is_row = |line: &&str| line.starts_with('|') && !TABLE_HEAD.contains(line);
    let mut lines: Vec<&str> = table.lines().filter(is_row).collect();
    for row in rows {
        match lines.iter().position(|line| key(line) == key(row)) {
            Some(place) => {
                if let Some(line) = lines.get_mut(place) {
                    *line = row;
                }
            }
            None => lines.push(row),
        }
    }
    let body = lines.join("\n");
    Some(format!(
        "{before}{BEGIN}\n{TABLE_HEAD}{body}\n{END}{behind}"
    ))
}

/// What names a row: scenario and pinning.
fn key(line: &str) -> Vec<&str> {
    line.split('|').skip(1).take(2).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, TABLE_HEAD, merged};

    #[test]
    fn rows_measured_again_replace_the_old_ones_and_the_text_around_stays() {
        let table = format!("{BEGIN}\n{TABLE_HEAD}| a | free | 1 |\n| b | free | 1 |\n{END}");
        let document = format!("text\n{table}\n| another | table |\n");
        let rows = ["| b | free | 2 |".to_owned(), "| b | 1+1 | 3 |".to_owned()];
        let lines = "| a | free | 1 |\n| b | free | 2 |\n| b | 1+1 | 3 |\n";
        let expected = format!("text\n{BEGIN}\n{TABLE_HEAD}{lines}{END}\n| another | table |\n");
        assert_eq!(merged(&document, &rows), Some(expected));
        assert_eq!(merged("no table", &rows), None);
    }
}
