//! What people see on the terminal.

use std::io::{self, Write as _};

use crate::commands::Failure;

/// Writes to standard output; a closed pipe is nobody's mistake.
pub(crate) fn say(text: impl AsRef<str>) {
    let _ = writeln!(io::stdout().lock(), "{}", text.as_ref());
}

/// Tells why the command failed.
pub(crate) fn failure(failure: &Failure) {
    let _ = writeln!(io::stderr().lock(), "gatehouse: {}", failure.text());
}

/// Tells on standard error what a person waits for.
pub(crate) fn hint(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "gatehouse: {}", text.as_ref());
}

/// Clears the terminal for the next view.
pub(crate) fn clear_screen() {
    let _ = write!(io::stdout().lock(), "\x1b[2J\x1b[H");
}

/// Columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(widths) {
            row.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "bcd".to_owned()], ["xyz".to_owned(), "é".to_owned()]];
        assert_eq!(table(["ONE", "T"], rows.into_iter()), "ONE  T\na    bcd\nxyz  é");
    }
}
