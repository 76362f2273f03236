//! What is in effect: every key that was asked for, with its value and where that comes from.

use std::{borrow::Cow, fmt, path::PathBuf};

use serde::Deserialize;
use toml::{
    Value,
    de::{DeValue, ValueDeserializer},
};

/// Comments stand below each other up to this column; a longer line pushes its own comment on, not everybody's.
const COMMENT_COLUMN_MAX: usize = 72;

/// Every key with its value and origin. `Display` is TOML that means the same, with the origins as comments.
#[derive(Clone, Debug, Default)]
pub struct Settings(Table);

/// A key that is in effect.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key as findings name it, such as `destination "crm".timeout`.
    pub key: String,
    value: Option<Value>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Where a value comes from. `Display` is short: `conf.d/crm.toml:3`, `default`, `not set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file says it.
    Written {
        /// The file.
        file: PathBuf,
        /// The file as seen from the folder of the main file.
        label: String,
        /// The line, from 1.
        line: usize,
    },
    /// Nobody says it, so this holds.
    Default,
    /// Nobody says it, and nothing follows from that.
    NotSet,
}

/// A step on the way to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(Cow<'static, str>),
    Entry(usize),
}

/// In the order in which they were asked for.
type Table = Vec<(Cow<'static, str>, Node)>;

#[derive(Clone, Debug)]
enum Node {
    Leaf(Setting),
    Table(Table),
    List(Vec<Table>),
}

impl Settings {
    /// Remembers a key. Tables are made of their keys.
    pub(super) fn add(&mut self, path: &[Step], key: &str, value: Option<&DeValue<'_>>, origin: Origin) {
        if value.is_some_and(holds_tables) {
            return;
        }
        // What cannot be kept, such as an integer beyond all limits, is refused by its reader.
        let value = value.and_then(|value| {
            Value::deserialize(ValueDeserializer::from(toml::Spanned::new(0..0, value.clone()))).ok()
        });
        let Some((Step::Key(name), way)) = path.split_last() else { return };
        let table = self.table(way);
        // A second look at the same key.
        if !table.iter().any(|(known, _)| known == name) {
            table.push((name.clone(), Node::Leaf(Setting { key: key.to_owned(), value, origin })));
        }
    }

    /// Puts another text in the place of a remembered one.
    pub(super) fn set(&mut self, path: &[Step], value: &str) {
        let Some((Step::Key(name), way)) = path.split_last() else { return };
        if let Some((_, Node::Leaf(setting))) = self.table(way).iter_mut().find(|(known, _)| known == name) {
            setting.value = Some(Value::String(value.to_owned()));
        }
    }

    /// All of them, in the order of `Display`.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        let mut settings = Vec::new();
        collect(&self.0, &mut settings);
        settings.into_iter()
    }

    /// Where the value of a key comes from.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.iter().find(|setting| setting.key == key).map(|setting| &setting.origin)
    }

    /// The table at the end of this way, made where there is none.
    fn table(&mut self, way: &[Step]) -> &mut Table {
        let mut table = &mut self.0;
        let mut steps = way.iter().peekable();
        while let Some(step) = steps.next() {
            let Step::Key(name) = step else { unreachable!("an entry follows the name of its list") };
            let at = table.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                table.push((name.clone(), Node::Table(Table::new())));
                table.len() - 1
            });
            let node = &mut table[at].1;
            table = match steps.next_if(|step| matches!(step, Step::Entry(_))) {
                Some(Step::Entry(index)) => node.entry(*index),
                Some(Step::Key(_)) | None => node.as_table(),
            };
        }
        table
    }
}

impl Node {
    fn as_table(&mut self) -> &mut Table {
        if !matches!(self, Self::Table(_)) {
            *self = Self::Table(Table::new());
        }
        match self {
            Self::Table(table) => table,
            Self::Leaf(_) | Self::List(_) => unreachable!("it was made a table"),
        }
    }

    fn entry(&mut self, index: usize) -> &mut Table {
        if !matches!(self, Self::List(_)) {
            *self = Self::List(Vec::new());
        }
        match self {
            Self::List(entries) => {
                entries.resize_with(entries.len().max(index + 1), Table::new);
                &mut entries[index]
            }
            Self::Leaf(_) | Self::Table(_) => unreachable!("it was made a list"),
        }
    }
}

fn holds_tables(value: &DeValue<'_>) -> bool {
    let in_array = |array: &toml::de::DeArray<'_>| array.iter().any(|entry| entry.get_ref().is_table());
    value.is_table() || value.as_array().is_some_and(in_array)
}

/// Values first, as in TOML: what follows the heading of a table belongs to it.
fn collect<'t>(table: &'t Table, into: &mut Vec<&'t Setting>) {
    into.extend(leaves(table).map(|(_, setting)| setting));
    for (_, node) in table {
        match node {
            Node::Leaf(_) => {}
            Node::Table(table) => collect(table, into),
            Node::List(entries) => entries.iter().for_each(|table| collect(table, into)),
        }
    }
}

fn leaves(table: &Table) -> impl Iterator<Item = (Cow<'_, str>, &Setting)> {
    table.iter().filter_map(|(name, node)| match node {
        Node::Leaf(setting) => Some((as_key(name), setting)),
        Node::Table(_) | Node::List(_) => None,
    })
}

impl Setting {
    /// The key, its value (null when it is not set) and its origin, for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let Self { key, value, origin } = self;
        serde_json::json!({ "key": key, "value": value, "origin": origin.to_string() })
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.0, "")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written { label, line, .. } => write!(f, "{label}:{line}"),
            Self::Default => f.write_str("default"),
            Self::NotSet => f.write_str("not set"),
        }
    }
}

fn show(f: &mut fmt::Formatter<'_>, table: &Table, path: &str) -> fmt::Result {
    let lines: Vec<(String, &Origin)> = leaves(table)
        .map(|(name, setting)| match &setting.value {
            Some(value) => (format!("{name} = {value}"), &setting.origin),
            // A comment: TOML has no word for nothing.
            None => (format!("#{name}"), &setting.origin),
        })
        .collect();
    let widths = lines.iter().map(|(line, _)| width(line)).filter(|width| *width <= COMMENT_COLUMN_MAX);
    let column = widths.max().unwrap_or_default();
    for (line, origin) in &lines {
        let gap = column.saturating_sub(width(line));
        // A file's name may hold a line break, which would end the comment.
        writeln!(f, "{line}{:gap$}  # {}", "", origin.to_string().escape_debug())?;
    }
    for (name, node) in table {
        let name = as_key(name);
        let path = if path.is_empty() { name.into_owned() } else { format!("{path}.{name}") };
        match node {
            Node::Leaf(_) => {}
            Node::Table(table) => {
                // Without values of its own it needs no heading.
                if leaves(table).next().is_some() {
                    writeln!(f, "\n[{path}]")?;
                }
                show(f, table, &path)?;
            }
            Node::List(entries) => {
                for table in entries {
                    writeln!(f, "\n[[{path}]]")?;
                    show(f, table, &path)?;
                }
            }
        }
    }
    Ok(())
}

/// A key as TOML writes it: in quotes where it has more than letters, digits, `-` and `_`.
fn as_key(name: &str) -> Cow<'_, str> {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    match is_bare {
        true => name.into(),
        false => Value::from(name).to_string().into(),
    }
}

/// The width of the last line: a long string has several.
fn width(text: &str) -> usize {
    text.lines().last().unwrap_or_default().chars().count()
}
