//! What reading the files leaves behind: what is wrong with them, and what was read.

use std::cell::RefCell;

use toml::de::{DeTable, DeValue};

use super::{
    files::{Source, Unusable},
    problem::{Finding, Kind},
    settings::{Origin, Settings, Step},
};

/// What reading leaves behind: what is wrong, and what was read.
pub(super) struct Reading<'f> {
    sources: &'f [Source],
    /// Where the lines of each file begin.
    line_starts: Vec<Vec<usize>>,
    findings: RefCell<Vec<(usize, Finding)>>,
    settings: RefCell<Settings>,
}

/// A place in the files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    file: usize,
    at: usize,
    /// Nothing is written there: the value is a default, and the place is that of the section.
    default: bool,
}

impl Place {
    /// The start of a file.
    pub(super) fn start(file: usize) -> Self {
        Self { file, at: 0, default: false }
    }

    /// Another place in the same file.
    pub(super) fn to(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// Where a default stands, in a section that stands here.
    pub(super) fn of_default(self) -> Self {
        Self { default: true, ..self }
    }

    /// Which file it is, counted from the main one, 0.
    pub(super) fn file(self) -> usize {
        self.file
    }
}

impl<'f> Reading<'f> {
    pub(super) fn new(sources: &'f [Source]) -> Self {
        let line_starts =
            sources.iter().map(|source| line_starts(source.text.as_deref().unwrap_or_default())).collect();
        Self { sources, line_starts, findings: RefCell::default(), settings: RefCell::default() }
    }

    /// Parses each file that has a text; what has none, or is not TOML, is noted.
    pub(super) fn parse(&self) -> Vec<(DeTable<'f>, Place)> {
        let parsed = self.sources.iter().enumerate().filter_map(|(file, source)| {
            let start = Place::start(file);
            let table = source.text.as_deref().map_err(|unusable| unusable.finding(&source.path)).and_then(|text| {
                DeTable::parse(text).map_err(|error| self.not_toml(text, start, &error).finding(&source.path))
            });
            match table {
                Ok(table) => Some((table.into_inner(), start)),
                Err(finding) => {
                    self.findings.borrow_mut().push((file, finding));
                    None
                }
            }
        });
        parsed.collect()
    }

    /// What is wrong, by file and line, and what was read.
    pub(super) fn end(self) -> (Vec<Finding>, Settings) {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|(file, finding)| (*file, finding.line));
        (findings.into_iter().map(|(_, finding)| finding).collect(), self.settings.into_inner())
    }

    /// Notes what is wrong with a key.
    pub(super) fn note(&self, place: Place, key: &str, kind: Kind, message: String) {
        let file = self.sources[place.file].path.clone();
        let finding = Finding { kind, file, line: Some(self.line(place)), key: Some(key.to_owned()), message };
        self.findings.borrow_mut().push((place.file, finding));
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, place: Place) -> usize {
        self.line_starts[place.file].partition_point(|start| *start <= place.at)
    }

    /// The error's own Display would print the line, and a line may hold a secret.
    fn not_toml(&self, text: &str, start: Place, error: &toml::de::Error) -> Unusable {
        let span = error.span().unwrap_or_default();
        let line = self.line(start.to(span.start));
        let before = text.get(self.line_starts[start.file][line - 1]..span.start).unwrap_or_default();
        let column = before.chars().count() + 1;
        let message = match (error.message(), text.get(span)) {
            ("duplicate key", Some(key)) => format!("`{}` is written twice; keep one", key.escape_debug()),
            (message, _) => message.to_owned(),
        };
        Unusable::not_toml(line, format!("not TOML at column {column}: {message}"))
    }

    /// Remembers a key that was asked for, and what the last file says of it.
    pub(super) fn remember(&self, path: &[Step], key: &str, last: Option<(&DeValue<'_>, Place)>) {
        let (value, origin) = match last {
            Some((value, place)) => (Some(value), self.origin(place)),
            None => (None, Origin::NotSet),
        };
        self.settings.borrow_mut().add(path, key, value, origin);
    }

    /// Remembers this text instead of what is written.
    pub(super) fn replace(&self, path: &[Step], text: &str) {
        self.settings.borrow_mut().set(path, text);
    }

    fn origin(&self, place: Place) -> Origin {
        let Source { path, label, .. } = &self.sources[place.file];
        match place.default {
            true => Origin::Default,
            false => Origin::Written { file: path.clone(), label: label.clone(), line: self.line(place) },
        }
    }

    /// Where a place is, as seen from another one.
    pub(super) fn place_from(&self, place: Place, here: Place) -> String {
        match place.file == here.file {
            true => format!("on line {}", self.line(place)),
            false => format!("in {}:{}", self.sources[place.file].path.display(), self.line(place)),
        }
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}
