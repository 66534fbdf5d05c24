use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One mistake in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// That line, as written.
    pub text: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        if self.line == 0 {
            return write!(f, "{file}: {}\n    fix: {}", self.what, self.remedy);
        }
        write!(
            f,
            "{file}:{}: {}\n    {}\n    fix: {}",
            self.line,
            self.what,
            self.text.trim(),
            self.remedy
        )
    }
}

/// Every mistake that was found, in the order of the lines.
#[derive(Clone, Debug, Default, Eq, PartialEq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let count = self.0.len();
        write!(
            f,
            "{count} {} in the configuration",
            if count == 1 { "mistake" } else { "mistakes" }
        )
    }
}

/// The text of a file, to turn a place in it into a line.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) file: PathBuf,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    pub(crate) fn problem(&self, span: Range<usize>, what: String, remedy: String) -> Problem {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let text = self.text.lines().nth(line - 1).unwrap_or_default().to_owned();
        Problem { file: self.file.clone(), line, text, what, remedy }
    }
}
