use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::duration;
use crate::problem::{Problem, Source};

/// One table of the file, read key by key. What is wrong is noted and reading goes on, so that all
/// mistakes are told in one run; keys that nobody asked for are noted by [`finish`](Self::finish).
pub(crate) struct Section<'a> {
    source: &'a Source<'a>,
    problems: &'a RefCell<Vec<Problem>>,
    /// `listen.` or empty.
    prefix: String,
    table: Option<&'a DeTable<'a>>,
    asked: BTreeSet<&'static str>,
}

/// A value and where it stands.
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// An item of a list that takes texts and tables.
pub(crate) enum Row<'a, T> {
    Text(Found<T>),
    Table(Section<'a>, Range<usize>),
}

/// What a value must look like: `kind` completes "`x` must be ...", `example` stands after `=`.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) kind: &'static str,
    pub(crate) example: &'static str,
}

impl<'a> Section<'a> {
    pub(crate) fn root(
        source: &'a Source<'a>,
        problems: &'a RefCell<Vec<Problem>>,
        table: &'a DeTable<'a>,
    ) -> Self {
        Self { source, problems, prefix: String::new(), table: Some(table), asked: BTreeSet::new() }
    }

    /// The table under `key`; an absent one reads as empty.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let form = Form { kind: "a table", example: "" };
        let table = self.raw(key).and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                let remedy = format!("write a line `[{key}]` and its keys below it");
                self.note(value.span(), self.must_be(key, form), remedy);
                None
            }
        });
        self.below(key, table)
    }

    /// The tables of `key = [{...}, {...}]` or `[[key]]`.
    pub(crate) fn sections(
        &mut self,
        key: &'static str,
        form: Form,
    ) -> Option<Vec<(Self, Range<usize>)>> {
        let value = self.raw(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value.span(), form);
            return None;
        };
        let mut found = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => found.push((self.below(key, Some(table)), item.span())),
                None => self.wrong(key, item.span(), form),
            }
        }
        Some(found)
    }

    /// A text under `key`, as `parse` reads it.
    pub(crate) fn text<T>(
        &mut self,
        key: &'static str,
        form: Form,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Found<T>> {
        let value = self.raw(key)?;
        match value.get_ref().as_str().and_then(parse) {
            Some(parsed) => Some(Found { value: parsed, span: value.span() }),
            None => {
                self.wrong(key, value.span(), form);
                None
            }
        }
    }

    /// A list of texts under `key`, each as `parse` reads it.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        form: Form,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<Found<T>>> {
        let value = self.raw(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value.span(), form);
            return None;
        };
        let mut found = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str().and_then(&parse) {
                Some(parsed) => found.push(Found { value: parsed, span: item.span() }),
                None => self.wrong(key, item.span(), form),
            }
        }
        Some(found)
    }

    /// A list of texts, each as `parse` reads it, and tables under `key`, in their order.
    pub(crate) fn rows<T>(
        &mut self,
        key: &'static str,
        form: Form,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<Row<'a, T>>> {
        let value = self.raw(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value.span(), form);
            return None;
        };
        let mut found = Vec::new();
        for item in array.iter() {
            let text = item.get_ref().as_str().and_then(&parse);
            match (text, item.get_ref().as_table()) {
                (Some(parsed), _) => {
                    found.push(Row::Text(Found { value: parsed, span: item.span() }));
                }
                (None, Some(table)) => {
                    found.push(Row::Table(self.below(key, Some(table)), item.span()));
                }
                (None, None) => self.wrong(key, item.span(), form),
            }
        }
        Some(found)
    }

    /// A duration under `key`, within bounds.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        least: Duration,
        most: Duration,
        example: &'static str,
    ) -> Option<Duration> {
        let form = Form { kind: "a duration with a unit: ms, s, m, h or d", example };
        let found = self.text(key, form, duration::parse)?;
        if (least..=most).contains(&found.value) {
            return Some(found.value);
        }
        let what = format!("`{}{key}` must lie between {least:?} and {most:?}", self.prefix);
        self.note(found.span, what, format!("{key} = {example}"));
        None
    }

    /// A whole number under `key`, within bounds.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        least: u64,
        most: u64,
        example: &'static str,
    ) -> Option<u64> {
        let value = self.raw(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                let what = format!(
                    "`{}{key}` must be a whole number between {least} and {most}",
                    self.prefix
                );
                self.note(value.span(), what, format!("{key} = {example}"));
                None
            }
        }
    }

    /// `true` or `false` under `key`.
    pub(crate) fn switch(&mut self, key: &'static str) -> Option<bool> {
        let value = self.raw(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(
                key,
                value.span(),
                Form { kind: "true or false, without quotes", example: "true" },
            );
        }
        found
    }

    /// Notes a mistake at `span`.
    pub(crate) fn note(&self, span: Range<usize>, what: String, remedy: String) {
        self.problems.borrow_mut().push(self.source.problem(span, what, remedy));
    }

    /// Where `key` stands, if it does.
    pub(crate) fn place(&self, key: &str) -> Option<Range<usize>> {
        self.table?.get_key_value(key).map(|(key, _)| key.span())
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(self) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(name) {
                continue;
            }
            let remedy = match closest(name, &self.asked) {
                Some(known) => format!("write `{known}`, or remove it"),
                None => format!("remove it; known here: {}", join(&self.asked)),
            };
            self.note(key.span(), format!("there is no setting `{}{name}`", self.prefix), remedy);
        }
    }

    fn raw(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.insert(key);
        self.table?.get(key)
    }

    fn below(&self, key: &str, table: Option<&'a DeTable<'a>>) -> Self {
        Self {
            source: self.source,
            problems: self.problems,
            prefix: format!("{}{key}.", self.prefix),
            table,
            asked: BTreeSet::new(),
        }
    }

    fn wrong(&self, key: &str, span: Range<usize>, form: Form) {
        self.note(span, self.must_be(key, form), format!("{key} = {}", form.example));
    }

    fn must_be(&self, key: &str, form: Form) -> String {
        format!("`{}{key}` must be {}", self.prefix, form.kind)
    }
}

fn join(known: &BTreeSet<&'static str>) -> String {
    known.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The known key that was probably meant: at most two letters away.
fn closest(name: &str, known: &BTreeSet<&'static str>) -> Option<&'static str> {
    let normal = name.replace('_', "-").to_lowercase();
    known
        .iter()
        .map(|candidate| (distance(&normal, candidate), *candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, over bytes: keys are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let substituted = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = substituted.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in
            [("", "", 0), ("abc", "abc", 0), ("domain", "domains", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn a_typing_error_finds_what_was_meant() {
        let known = BTreeSet::from(["c2s", "s2s", "c2s-direct-tls"]);
        assert_eq!(closest("c2s_direct_tls", &known), Some("c2s-direct-tls"));
        assert_eq!(closest("c2s-direct-tsl", &known), Some("c2s-direct-tls"));
        assert_eq!(closest("bananas", &known), None);
    }
}
