use std::io::{self, Write};

use serde_json::{Value, json};

use crate::bench::path::{Path, Sample};
use crate::bench::subject::Kind;

/// All runs of one server on one path.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) path: Path,
    /// On whom.
    pub(crate) kind: Kind,
    /// In the order of the runs.
    pub(crate) samples: Vec<Sample>,
    /// Why there are fewer samples than runs.
    pub(crate) failure: Option<String>,
}

impl Row {
    pub(crate) fn least_cpu(&self) -> Option<f64> {
        sorted(self.samples.iter().map(|sample| sample.cpu)).first().copied()
    }

    fn median_cpu(&self) -> Option<f64> {
        median(self.samples.iter().map(|sample| sample.cpu))
    }

    fn median_per_second(&self) -> Option<f64> {
        median(self.samples.iter().map(|sample| sample.per_second))
    }

    /// Of the fastest run.
    pub(crate) fn most_per_second(&self) -> Option<f64> {
        sorted(self.samples.iter().map(|sample| sample.per_second)).last().copied()
    }

    fn resident(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.resident).max()
    }

    /// Of the first run: later ones find the memory that it left behind.
    fn each(&self) -> Option<f64> {
        self.samples.first().and_then(|sample| sample.each)
    }

    /// Likewise.
    fn later(&self) -> Option<f64> {
        self.samples.first().and_then(|sample| sample.later)
    }

    fn to_json(&self, rows: &[Self]) -> Value {
        json!({
            "path": self.path.to_string(),
            "server": self.kind.to_string(),
            "unit": self.path.unit(),
            "runs": self.samples.len(),
            "cpu_us_min": self.least_cpu(),
            "cpu_us_median": self.median_cpu(),
            "per_second_median": self.median_per_second(),
            "resident_kib": self.resident(),
            "kib_each": self.each(),
            "kib_later": self.later(),
            "times_ours": self.times_ours(rows),
            "failure": self.failure,
        })
    }

    /// The CPU time as a multiple of ours: in one process, or of our edge where that is measured.
    fn times_ours(&self, rows: &[Self]) -> Option<f64> {
        let measure = if self.path.is_sip() { Kind::OursTwo } else { Kind::Ours };
        let is_ours = |row: &&Self| row.path == self.path && row.kind == measure;
        let ours = rows.iter().find(is_ours)?.least_cpu()?;
        (ours > 0.0).then_some(self.least_cpu()? / ours)
    }
}

/// For programs.
pub(crate) fn json(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let rows: Vec<_> = rows.iter().map(|row| row.to_json(rows)).collect();
    writeln!(out, "{:#}", Value::from(rows))
}

/// For people.
pub(crate) fn text(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    writeln!(
        out,
        "{:<9} {:<9} {:<9} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9} {:>9}",
        "path",
        "server",
        "each",
        "CPU µs",
        "median",
        "x ours",
        "per s",
        "RSS MiB",
        "KiB each",
        "KiB later"
    )?;
    for row in rows {
        let (path, kind, unit) = (row.path, row.kind, row.path.unit());
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let mib = row.resident().map_or_else(|| "-".to_owned(), |kib| (kib / 1024).to_string());
        writeln!(
            out,
            "{path:<9} {kind:<9} {unit:<9} {:>8} {:>8} {:>8} {:>9} {mib:>8} {:>9} {:>9}",
            number(row.least_cpu(), 1),
            number(row.median_cpu(), 1),
            number(row.times_ours(rows), 2),
            number(row.median_per_second(), 0),
            number(row.each(), 1),
            number(row.later(), 1),
        )?;
        if let Some(failure) = &row.failure {
            writeln!(out, "    FAILED: {failure}")?;
        }
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values = sorted(values);
    values.get(values.len() / 2).copied()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, cpu: &[f64]) -> Row {
        let sample = |cpu: &f64| Sample {
            cpu: *cpu,
            per_second: 1000.0,
            resident: 2048,
            each: None,
            later: None,
        };
        let samples = cpu.iter().map(sample).collect();
        Row { path: Path::C2s, kind, samples, failure: None }
    }

    #[test]
    fn the_least_counts_and_ours_is_the_measure() {
        let rows = [row(Kind::Ours, &[12.0, 10.0, 11.0]), row(Kind::Prosody, &[60.0, 66.0])];
        let mut out = Vec::new();
        text(&mut out, &rows).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        path      server    each        CPU µs   median   x ours     per s  RSS MiB  KiB each KiB later
        c2s       ours      message       10.0     11.0     1.00      1000        2         -         -
        c2s       prosody   message       60.0     66.0     6.00      1000        2         -         -
        ");
    }

    #[test]
    fn what_failed_is_told_in_both_forms() {
        let mut failed = row(Kind::Ejabberd, &[]);
        failed.failure = Some("it broke".to_owned());
        let rows = [failed];
        let (mut people, mut programs) = (Vec::new(), Vec::new());
        text(&mut people, &rows).unwrap();
        json(&mut programs, &rows).unwrap();
        assert!(String::from_utf8(people).unwrap().contains("FAILED: it broke"));
        assert!(String::from_utf8(programs).unwrap().contains("\"failure\": \"it broke\""));
    }
}
