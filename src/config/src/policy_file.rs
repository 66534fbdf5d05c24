use std::fs;
use std::ops::Range;
use std::path::Path;

use gatehouse_policy::{Policy, Table};

use crate::problem::{Problem, Problems, Source};

/// The headers that start an entry.
const HEADERS: [(&str, Table); 2] = [("[[rule]]", Table::Rule), ("[[sip]]", Table::Sip)];

/// Rules whose mistakes are told in one run.
const MISTAKES_MAX: usize = 100;

/// Reads and checks a policy file.
pub fn read_policy(file: &Path) -> Result<Policy, Problems> {
    let text = fs::read_to_string(file).map_err(|error| {
        Problems(vec![Problem {
            file: file.to_owned(),
            line: 0,
            text: String::new(),
            what: format!("the policy cannot be read: {error}"),
            remedy: "name an existing file in `policy.file`".into(),
        }])
    })?;
    parse_policy(file, &text)
}

/// Reads and checks the text of a policy file; tells at least one mistake of every rule that has
/// one.
pub fn parse_policy(file: &Path, text: &str) -> Result<Policy, Problems> {
    let source = Source { file: file.to_owned(), text };
    let mut problems = Vec::new();
    let mut rest = text.to_owned();
    let policy = loop {
        let error = match toml::from_str::<Policy>(&rest) {
            Ok(policy) => break policy,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let remedy = "write it like the commented examples in policies/".to_owned();
        problems.push(source.problem(span.clone(), error.message().replace('\n', "; "), remedy));
        // Reading stops at the first mistake: take that rule away and read the others.
        let mut ranges = entries(&rest).into_iter().map(|(_, range)| range);
        let broken = ranges.find(|range| range.contains(&span.start));
        match broken {
            Some(rule) if problems.len() < MISTAKES_MAX => blank(&mut rest, rule),
            _ => break Policy::default(),
        }
    };
    let places = entries(&rest);
    for mistake in policy.check() {
        let mut same = places.iter().filter(|(table, _)| *table == mistake.table);
        let rule = same.nth(mistake.rule_index).map_or(0..0, |(_, range)| range.clone());
        let within = rest.get(rule.clone()).unwrap_or_default();
        let start = rule.start + key(within, mistake.field).unwrap_or(0);
        let (what, remedy) = split(&mistake.message);
        let what = format!("`{}`: {what}", mistake.field);
        problems.push(source.problem(start..start, what, remedy));
    }
    if problems.is_empty() {
        return Ok(policy);
    }
    problems.sort_by_key(|problem| problem.line);
    Err(Problems(problems))
}

/// Where each entry stands: from its header to the next one.
fn entries(text: &str) -> Vec<(Table, Range<usize>)> {
    let mut entries: Vec<(Table, Range<usize>)> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let header = HEADERS.iter().find(|(header, _)| line.trim_start().starts_with(header));
        if let Some((_, table)) = header {
            if let Some((_, last)) = entries.last_mut() {
                last.end = at;
            }
            entries.push((*table, at..text.len()));
        }
        at += line.len();
    }
    entries
}

/// Replaces what stands at `range` by spaces; line ends stay, so that lines keep their numbers.
fn blank(text: &mut String, range: Range<usize>) {
    let inside = text.get(range.clone()).unwrap_or_default();
    let spaces: String =
        inside.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(range, &spaces);
}

/// Where `key = ` stands.
fn key(text: &str, key: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let after = line.trim_start().strip_prefix(key);
        if after.is_some_and(|after| after.trim_start().starts_with('=')) {
            return Some(at + line.len() - line.trim_start().len());
        }
        at += line.len();
    }
    None
}

/// "What is wrong: what to write instead."
fn split(message: &str) -> (String, String) {
    match message.split_once(": ") {
        Some((what, remedy)) => (what.to_owned(), remedy.to_owned()),
        None => (message.to_owned(), message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(usize, String)> {
        let problems = parse_policy(Path::new("policy.toml"), text).unwrap_err();
        problems.0.into_iter().map(|problem| (problem.line, problem.what)).collect()
    }

    #[test]
    fn a_mistake_in_each_rule_is_told_with_its_line() {
        let text = "# ours\n[[rule]]\nname = \"a\"\nremote = [\"a.example\"]\naction = \"deny\"\n\n\
                    [[rule]]\nname = \"b\"\nremote = [\"b.example\"]\ntls = \"optional\"\n\n\
                    [[rule]]\nname = \"c\"\nremotes = [\"c.example\"]\n";
        let told = told(text);
        let lines: Vec<usize> = told.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [5, 10, 14], "{told:#?}");
    }

    #[test]
    fn a_mistake_in_each_sip_row_is_told_with_its_line_too() {
        let text = "[[sip]]\nname = \"a\"\nremote = [\"a.example\"]\nmode = \"closed\"\n\n\
                    [[rule]]\nname = \"b\"\nremote = [\"b.example\"]\n\n\
                    [[sip]]\nname = \"c\"\nremote = [\"b.example\"]\n\n\
                    [[sip]]\nname = \"d\"\nremote = [\"d.example\"]\nmode = \"direct\"\n";
        let told = told(text);
        let lines: Vec<usize> = told.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [4, 12, 17], "{told:#?}");
    }

    #[test]
    fn text_that_is_not_toml_is_told_once() {
        assert_eq!(told("rule = [\n").len(), 1);
    }

    #[test]
    fn a_good_policy_is_read() {
        let text = "[[rule]]\nname = \"a\"\nremote = [\"a.example\"]\n";
        assert_eq!(parse_policy(Path::new("policy.toml"), text).unwrap().rules.len(), 1);
    }
}
