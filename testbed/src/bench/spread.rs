//! Paths that are far slower or dearer than others in the same run, on whatever machine.
//!
//! A limit where none should be, such as a wait for each message, is seen by no test that only asks whether
//! all arrived. Against the clock it cannot be told from a slow machine; against another path of the same
//! minute it can.

use crate::bench::subject::Kind;
use crate::bench::table::Row;

/// What stands out among our own rows whose unit is a message, by more than `times_max`.
pub(crate) fn outliers(rows: &[Row], times_max: f64) -> Vec<String> {
    let ours: Vec<_> = rows
        .iter()
        .filter(|row| matches!(row.kind, Kind::Ours | Kind::OursTwo) && row.path.is_each_message())
        .collect();
    let mut told = Vec::new();
    let fastest = ours.iter().filter_map(|row| row.most_per_second()).fold(0.0, f64::max);
    let cheapest = ours.iter().filter_map(|row| row.least_cpu()).fold(f64::INFINITY, f64::min);
    for row in ours {
        let (path, kind) = (row.path, row.kind);
        if let Some(rate) = row.most_per_second()
            && rate * times_max < fastest
        {
            told.push(format!(
                "{path} of {kind} passes {rate:.0} messages a second at most, where another path passes {fastest:.0}"
            ));
        }
        if let Some(cpu) = row.least_cpu()
            && cpu > cheapest.max(1.0) * times_max
        {
            told.push(format!(
                "{path} of {kind} costs {cpu:.1} µs a message at least, where another path costs {cheapest:.1}"
            ));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::path::{Path, Sample};

    fn row(path: Path, kind: Kind, runs: &[(f64, f64)]) -> Row {
        let sample = |(cpu, per_second): &(f64, f64)| Sample {
            cpu: *cpu,
            per_second: *per_second,
            resident: 2048,
            each: None,
            later: None,
        };
        Row { path, kind, samples: runs.iter().map(sample).collect(), failure: None }
    }

    #[test]
    fn what_is_far_slower_or_dearer_stands_out() {
        let rows = [
            row(Path::C2s, Kind::Ours, &[(4.0, 100_000.0), (3.0, 200_000.0)]),
            row(Path::S2sIn, Kind::Ours, &[(6.0, 2_000.0), (5.0, 1_900.0)]),
            row(Path::S2sOut, Kind::OursTwo, &[(90.0, 30_000.0), (70.0, 20_000.0)]),
        ];
        assert_eq!(
            outliers(&rows, 20.0),
            [
                "s2s-in of ours passes 2000 messages a second at most, where another path passes 200000",
                "s2s-out of ours-two costs 70.0 µs a message at least, where another path costs 3.0",
            ]
        );
        assert!(outliers(&rows, 100.0).is_empty());
    }

    #[test]
    fn peers_and_other_units_do_not_count() {
        let rows = [
            row(Path::C2s, Kind::Ours, &[(3.0, 200_000.0)]),
            row(Path::C2s, Kind::Prosody, &[(300.0, 100.0)]),
            row(Path::Streams, Kind::Ours, &[(600.0, 500.0)]),
        ];
        assert!(outliers(&rows, 20.0).is_empty());
    }

    #[test]
    fn a_tick_too_few_is_no_reason() {
        let rows = [
            row(Path::C2s, Kind::Ours, &[(0.0, 200_000.0)]),
            row(Path::S2sIn, Kind::Ours, &[(5.0, 200_000.0)]),
        ];
        assert!(outliers(&rows, 20.0).is_empty());
    }
}
