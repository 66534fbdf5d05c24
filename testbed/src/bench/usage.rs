use std::collections::BTreeMap;
use std::fs;

use crate::failure::Failure;

/// What a tick of `/proc/PID/stat` lasts: `USER_HZ`, the same on every Linux we run on.
const MICROSECONDS_PER_TICK: u64 = 10_000;

/// What some processes and all below them have used so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Usage {
    /// User and system time, microseconds, in steps of a tick.
    pub(crate) cpu: u64,
    /// Resident memory, KiB.
    pub(crate) resident: u64,
}

impl Usage {
    /// Reads it from `/proc`. What ended below a root while we looked counts no longer; a root must be there.
    pub(crate) fn of(roots: &[u32]) -> Result<Self, Failure> {
        let all = processes()?;
        let mut sum = Self::default();
        for pid in tree(roots, &all) {
            let Some(process) = all.get(&pid) else { return Err(gone(pid)) };
            sum.cpu += process.ticks * MICROSECONDS_PER_TICK;
            sum.resident += resident(pid);
        }
        Ok(sum)
    }

    /// Their memory, KiB, in which each shared page counts once: for servers of several processes.
    pub(crate) fn proportional(roots: &[u32]) -> Result<u64, Failure> {
        let mut sum = 0;
        for pid in tree(roots, &processes()?) {
            match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                Ok(text) => sum += number_of(&text, "Pss:"),
                // A child that ends between the list and the reading, or that nobody has waited for yet, holds none.
                Err(_) if !roots.contains(&pid) => {}
                Err(_) => return Err(gone(pid)),
            }
        }
        Ok(sum)
    }
}

/// The roots, and all that `/proc` showed below them.
fn tree(roots: &[u32], all: &BTreeMap<u32, Stat>) -> Vec<u32> {
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, other)| other.parent == pid).map(|(pid, _)| pid));
        next += 1;
    }
    found
}

fn gone(pid: u32) -> Failure {
    Failure::world(format!("process {pid} is gone"))
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, Eq, PartialEq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

fn processes() -> Result<BTreeMap<u32, Stat>, Failure> {
    let root = std::path::Path::new("/proc");
    let entries = fs::read_dir(root).map_err(Failure::io("read", root))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        // One that ends while we look is none of ours.
        .filter_map(|pid: u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse(&line)?))
        })
        .collect())
}

/// The program's name stands in brackets and may hold anything, so we count from the last one.
fn parse(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // proc(5): state is field 3, ppid 4, utime 14, stime 15.
    let parent = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Stat { parent, ticks: user + system })
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    number_of(&status, "VmRSS:")
}

/// The number behind a name at the start of a line.
fn number_of(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194304 93 0 0 0 12 30 5 6 20 0 1 0 1 1 1";
        assert_eq!(parse(line), Some(Stat { parent: 3, ticks: 42 }));
        assert_eq!(parse("7 (a) S 3"), None);
    }

    #[test]
    fn our_own_usage_can_be_read() {
        assert!(Usage::of(&[std::process::id()]).unwrap().resident > 100);
        assert!(Usage::proportional(&[std::process::id()]).unwrap() > 100);
        assert!(Usage::of(&[u32::MAX]).is_err());
        assert!(Usage::proportional(&[u32::MAX]).is_err());
    }

    #[test]
    fn a_child_that_has_ended_is_no_failure() {
        let mut child = Command::new("true").spawn().unwrap();
        let child_id = child.id();
        let state = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // It stays in the list of processes until we wait for it, but has no memory that could be read.
        while !state(child_id).contains(") Z ") {
            std::thread::yield_now();
        }
        assert!(Usage::proportional(&[std::process::id()]).unwrap() > 100);
        assert!(Usage::of(&[std::process::id()]).unwrap().resident > 100);
        assert!(Usage::proportional(&[child_id]).is_err());
        child.wait().unwrap();
    }
}
