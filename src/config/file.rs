//! The configuration as it is written: TOML values that know their key and their line.
//!
//! A reader asks a [`Section`] for the keys it knows and turns each [`Item`] into what it means. Whatever does not fit is
//! noted in [`Findings`] and reading goes on, so one run finds everything. When a section is closed, a key that nobody
//! asked for is unknown: what is known needs no second list. `None` from any of these means that a problem is noted.

use std::{cell::RefCell, collections::BTreeMap, fmt, ops::RangeInclusive, path::PathBuf, str::FromStr};

use toml::de::{DeTable, DeValue};

use super::problem::{ConfigError, Problem};

/// What is wrong with one file, as far as it is read.
pub(super) struct Findings {
    file: PathBuf,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl Findings {
    pub(super) fn new(file: PathBuf, text: &str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, line_starts, problems: RefCell::default() }
    }

    /// The problems by line; those of one line in the order they were found.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    fn note(&self, at: usize, key: &str, message: String) {
        let problem = Problem { file: self.file.clone(), line: self.line(at), key: key.to_owned(), message };
        self.problems.borrow_mut().push(problem);
    }

    fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }
}

/// Parses the text of a file.
pub(super) fn parse(text: &str, file: PathBuf) -> Result<(DeTable<'_>, Findings), ConfigError> {
    let findings = Findings::new(file, text);
    match DeTable::parse(text) {
        Ok(table) => Ok((table.into_inner(), findings)),
        // The error's own Display would print the line, and a line may hold a secret.
        Err(error) => {
            let span = error.span().unwrap_or_default();
            let line = findings.line(span.start);
            let before = text.get(findings.line_starts[line - 1]..span.start).unwrap_or_default();
            let message = match (error.message(), text.get(span)) {
                ("duplicate key", Some(key)) => format!("`{}` is written twice; keep one", key.escape_debug()),
                (message, _) => message.to_owned(),
            };
            Err(ConfigError::NotToml { file: findings.file, line, column: before.chars().count() + 1, message })
        }
    }
}

/// A table that is being read.
#[must_use = "close() finds the unknown keys"]
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    key: String,
    at: usize,
    findings: &'a Findings,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(table: &'a DeTable<'a>, findings: &'a Findings) -> Self {
        Self { table, key: String::new(), at: 0, findings, known: Vec::new() }
    }

    /// Calls the section by this from now on, for example `destination "crm"`.
    pub(super) fn call(&mut self, key: String) {
        self.key = key;
    }

    /// The value of a key that may be missing.
    pub(super) fn optional(&mut self, name: &'static str) -> Option<Item<'a>> {
        self.known.push(name);
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
        Some(Item { value: value.get_ref(), key, at: value.span().start, findings: self.findings })
    }

    /// The value of a key that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Option<Item<'a>> {
        let item = self.optional(name);
        if item.is_none() {
            self.findings.note(self.at, &self.key, format!("`{name}` is missing"));
        }
        item
    }

    /// What the key says, or the default when it is missing.
    pub(super) fn or<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(Item<'a>) -> Option<T>,
    ) -> Option<T> {
        self.optional(name).map_or(Some(default), read)
    }

    /// Reads each `[[name]]`, all of them even when one is refused.
    pub(super) fn each<T>(
        &mut self,
        name: &'static str,
        count_max: usize,
        read: impl FnMut(Item<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.or(name, Vec::new(), |item| item.each("a list", count_max, read))
    }

    /// Ends reading: notes each key that was not asked for.
    pub(super) fn close(self) {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let shown: String = name.escape_debug().take(80).collect();
            let path = if self.key.is_empty() { shown } else { format!("{}.{shown}", self.key) };
            let message = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            self.findings.note(key.span().start, &path, message);
        }
    }
}

/// A value, with its key and its line.
pub(super) struct Item<'a> {
    value: &'a DeValue<'a>,
    key: String,
    at: usize,
    findings: &'a Findings,
}

impl<'a> Item<'a> {
    /// Notes why the value is refused.
    pub(super) fn refuse<T>(&self, message: impl fmt::Display) -> Option<T> {
        self.findings.note(self.at, &self.key, message.to_string());
        None
    }

    /// Notes that something else is expected. The value itself is never shown: it may be a secret.
    pub(super) fn expected<T>(&self, what: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.refuse(format_args!("expected {what}, found {found}"))
    }

    /// Its line, from 1.
    pub(super) fn line(&self) -> usize {
        self.findings.line(self.at)
    }

    /// True for a string.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// A string; `what` says what it should be when it is none.
    pub(super) fn text(&self, what: &str) -> Option<&'a str> {
        self.value.as_str().or_else(|| self.expected(what))
    }

    /// A string that reads as `T`.
    pub(super) fn parse<T: FromStr<Err: fmt::Display>>(&self) -> Option<T> {
        self.text("a string")?.parse().map_or_else(|error| self.refuse(error), Some)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text("a string")?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        chosen.or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.refuse(format_args!("expected {}", words.join(" or ")))
        })
    }

    /// A boolean.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.expected("true or false"))
    }

    /// An integer within limits.
    pub(super) fn integer(&self, limits: RangeInclusive<usize>) -> Option<usize> {
        let what = format!("an integer from {} to {}", limits.start(), limits.end());
        let Some(digits) = self.value.as_integer() else { return self.expected(&what) };
        let number =
            usize::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| limits.contains(number));
        number.or_else(|| self.refuse(format_args!("expected {what}")))
    }

    /// A table.
    pub(super) fn section(&self, what: &str) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else { return self.expected(what) };
        Some(Section { table, key: self.key.clone(), at: self.at, findings: self.findings, known: Vec::new() })
    }

    /// Reads each value of an array, all of them even when one is refused.
    pub(super) fn each<T>(
        &self,
        what: &str,
        count_max: usize,
        read: impl FnMut(Item<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(array) = self.value.as_array() else { return self.expected(what) };
        if array.len() > count_max {
            return self.refuse(format_args!("has {} entries, at most {count_max} are allowed", array.len()));
        }
        let items = array.iter().enumerate().map(|(index, value)| Item {
            value: value.get_ref(),
            key: format!("{} #{}", self.key, index + 1),
            at: value.span().start,
            findings: self.findings,
        });
        // Not straight into an `Option`: that would stop at the first that is refused.
        let read: Vec<Option<T>> = items.map(read).collect();
        read.into_iter().collect()
    }
}

/// Names that must be unique, each with the place where it stands first.
#[derive(Default)]
pub(super) struct Names(BTreeMap<String, usize>);

impl Names {
    /// Adds the string that the item holds; refuses it when it is there already.
    pub(super) fn add(&mut self, item: &Item<'_>) -> bool {
        // Not a string: that is noted where it is read.
        let Some(name) = item.value.as_str() else { return false };
        let first = *self.0.entry(name.to_owned()).or_insert(item.at);
        if first != item.at {
            item.refuse::<()>(format_args!("the same stands on line {} already", item.findings.line(first)));
        }
        first == item.at
    }

    /// True when the name is there.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The name that was probably meant.
    pub(super) fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.0.keys().map(String::as_str))
    }
}

/// The word that was probably meant.
fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    /// Longer texts are no slips of ours, and comparing costs their length.
    const BYTES_MAX: usize = 128;
    if text.len() > BYTES_MAX {
        return None;
    }
    let near = words.map(|word| (strsim::osa_distance(text, word), word)).min()?;
    Some(near).filter(|(distance, word)| *distance <= (word.len() / 3).max(1)).map(|(_, word)| word)
}
