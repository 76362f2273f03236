//! The configuration as it is written: TOML values that know their key, their file and their line.
//!
//! A reader asks a [`Section`] for the keys it knows and turns each [`Item`] into what it means. Whatever does not fit is
//! noted in [`Reading`] and reading goes on, so one run finds everything. When a section is closed, a key that nobody
//! asked for is unknown: what is known needs no second list. `None` from any of these means that a problem is noted.
//!
//! Files lie on each other in layers. A table is all its layers, a value the last one. A key that is not written reads its
//! default, a piece of TOML like any other. What was read is remembered, so it can be shown.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use toml::de::{DeString, DeTable, DeValue};

use super::{
    names::nearest,
    problem::Kind,
    reading::{Place, Reading},
    settings::Step,
};

/// A table that is being read.
#[must_use = "close() finds the unknown keys"]
pub(super) struct Section<'a> {
    /// At least one, but for a root without a file that reads.
    layers: Vec<(&'a DeTable<'a>, Place)>,
    key: String,
    path: Vec<Step>,
    reading: &'a Reading<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// All files.
    pub(super) fn root(files: &'a [(DeTable<'a>, Place)], reading: &'a Reading<'a>) -> Self {
        let layers = files.iter().map(|(table, place)| (table, *place)).collect();
        Self { layers, key: String::new(), path: Vec::new(), reading, known: Vec::new() }
    }

    /// Calls the section by this from now on, for example `destination "crm"`.
    pub(super) fn call(&mut self, key: String) {
        self.key = key;
    }

    /// What is written of a key, for a look that does not count as reading it.
    pub(super) fn written(&self, name: &'static str) -> Option<Item<'a>> {
        let layers = self.layers.iter().filter_map(|(table, place)| {
            let (_, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
            Some((value.get_ref(), place.to(value.span().start)))
        });
        let layers: Vec<_> = layers.collect();
        (!layers.is_empty()).then(|| self.item(name, layers))
    }

    /// The value of a key that may be missing.
    pub(super) fn optional(&mut self, name: &'static str) -> Option<Item<'a>> {
        let item = self.read(name);
        if item.is_none() {
            self.item(name, Vec::new()).remember();
        }
        item
    }

    /// The value of a key that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Option<Item<'a>> {
        let item = self.read(name);
        if item.is_none() {
            self.reading.note(self.place(), &self.key, Kind::MissingKey, format!("`{name}` is missing"));
        }
        item
    }

    /// What the key says, or the default, a piece of TOML, when it is missing.
    pub(super) fn or<T>(
        &mut self,
        name: &'static str,
        default: &str,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> Option<T> {
        let default = DeValue::parse(default).expect("defaults are TOML: loading an empty file reads each of them");
        self.or_value(name, Some(default.get_ref()), read)
    }

    /// What the key says, or this text when it is missing; `None` when the default follows from something refused.
    pub(super) fn or_text<T>(
        &mut self,
        name: &'static str,
        default: Option<&str>,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> Option<T> {
        let default = default.map(|text| DeValue::String(DeString::Borrowed(text)));
        self.or_value(name, default.as_ref(), read)
    }

    fn or_value<T>(
        &mut self,
        name: &'static str,
        default: Option<&DeValue<'_>>,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> Option<T> {
        if let Some(item) = self.read(name) {
            return read(item);
        }
        let item = self.item(name, vec![(default?, self.place().of_default())]);
        item.remember();
        read(item)
    }

    /// Reads each `[[name]]` of all files, all of them even when one is refused.
    pub(super) fn all<T>(
        &mut self,
        name: &'static str,
        count_max: usize,
        read: impl FnMut(Item<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.or(name, "[]", |item| item.all(count_max, read))
    }

    /// Notes why what a key says is refused, whether it is written or not.
    pub(super) fn refuse<T>(&self, name: &'static str, message: impl fmt::Display) -> Option<T> {
        let place = self.written(name).map_or(self.place(), |item| item.place());
        self.reading.note(place, &self.key_of(name), Kind::Refused, message.to_string());
        None
    }

    /// Ends reading: notes each key that was not asked for.
    pub(super) fn close(self) {
        for (table, place) in &self.layers {
            for (key, _) in *table {
                let name = key.get_ref().as_ref();
                if self.known.contains(&name) {
                    continue;
                }
                let shown: String = name.escape_debug().take(80).collect();
                let message = match nearest(name, self.known.iter().copied()) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => format!("unknown key; known here: {}", self.known.join(", ")),
                };
                self.reading.note(place.to(key.span().start), &self.key_of(&shown), Kind::UnknownKey, message);
            }
        }
    }

    fn read(&mut self, name: &'static str) -> Option<Item<'a>> {
        self.known.push(name);
        let item = self.written(name);
        item.iter().for_each(Item::remember);
        item
    }

    fn item<'b>(&self, name: &'static str, layers: Vec<(&'b DeValue<'b>, Place)>) -> Item<'b>
    where
        'a: 'b,
    {
        let path = self.path.iter().cloned().chain([Step::Key(name.into())]).collect();
        Item { layers, key: self.key_of(name), path, reading: self.reading }
    }

    fn key_of(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    fn place(&self) -> Place {
        self.layers.last().map_or(Place::start(0), |(_, place)| *place)
    }
}

/// A value, with its key and its place.
pub(super) struct Item<'a> {
    /// What the files say of it, in their order. None: it is not written and has no default.
    layers: Vec<(&'a DeValue<'a>, Place)>,
    key: String,
    path: Vec<Step>,
    reading: &'a Reading<'a>,
}

impl<'a> Item<'a> {
    /// Notes why the value is refused.
    pub(super) fn refuse<T>(&self, message: impl fmt::Display) -> Option<T> {
        self.refuse_as(Kind::Refused, self.place(), message)
    }

    fn refuse_as<T>(&self, kind: Kind, place: Place, message: impl fmt::Display) -> Option<T> {
        self.reading.note(place, &self.key, kind, message.to_string());
        None
    }

    /// Notes that something else is expected.
    pub(super) fn expected<T>(&self, what: &str) -> Option<T> {
        self.expected_at(self.last(), what)
    }

    /// The value itself is never shown: it may be a secret.
    fn expected_at<T>(&self, (value, place): (&DeValue<'_>, Place), what: &str) -> Option<T> {
        let found = match value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.refuse_as(Kind::Refused, place, format_args!("expected {what}, found {found}"))
    }

    /// Notes that the same stands at another place already.
    pub(super) fn refuse_twice(&self, first: Place) {
        let place = self.reading.place_from(first, self.place());
        self.refuse_as::<()>(Kind::Duplicate, self.place(), format_args!("the same stands {place} already"));
    }

    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.last().1
    }

    /// Its line, from 1.
    pub(super) fn line(&self) -> usize {
        self.reading.line(self.place())
    }

    /// The string, if it is one.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value().as_str()
    }

    /// A string; `what` says what it should be when it is none.
    pub(super) fn text(&self, what: &str) -> Option<&'a str> {
        self.as_text().or_else(|| self.expected(what))
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
        self.value().as_bool().or_else(|| self.expected("true or false"))
    }

    /// An integer within limits.
    pub(super) fn integer(&self, limits: RangeInclusive<usize>) -> Option<usize> {
        let what = format!("an integer from {} to {}", limits.start(), limits.end());
        let Some(digits) = self.value().as_integer() else { return self.expected(&what) };
        let number =
            usize::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| limits.contains(number));
        number.or_else(|| self.refuse(format_args!("expected {what}")))
    }

    /// A table: all its layers.
    pub(super) fn section(&self, what: &str) -> Option<Section<'a>> {
        let tables = self.layers.iter().map(|layer| match layer.0.as_table() {
            Some(table) => Some((table, layer.1)),
            None => self.expected_at(*layer, what),
        });
        // Not straight into an `Option`: that would stop at the first that is refused.
        let layers: Vec<_> = tables.collect();
        let layers = layers.into_iter().collect::<Option<Vec<_>>>()?;
        let (key, path) = (self.key.clone(), self.path.clone());
        Some(Section { layers, key, path, reading: self.reading, known: Vec::new() })
    }

    /// Reads each value of an array, all of them even when one is refused.
    pub(super) fn each<T>(
        &self,
        what: &str,
        count_max: usize,
        read: impl FnMut(Item<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.each_of(&[self.last()], what, count_max, read)
    }

    /// Reads each entry of the lists in all layers.
    fn all<T>(&self, count_max: usize, read: impl FnMut(Item<'a>) -> Option<T>) -> Option<Vec<T>> {
        self.each_of(&self.layers, "a list", count_max, read)
    }

    fn each_of<T>(
        &self,
        layers: &[(&'a DeValue<'a>, Place)],
        what: &str,
        count_max: usize,
        mut read: impl FnMut(Item<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let (mut entries, mut good, mut count) = (Vec::new(), true, 0);
        for (value, place) in layers {
            let Some(array) = value.as_array() else {
                self.expected_at::<()>((value, *place), what);
                good = false;
                continue;
            };
            let before = count;
            count += array.len();
            if count > count_max {
                let more = format!("has {} entries, at most {count_max} are allowed", array.len());
                let others = if before > 0 { format!("; other files have {before}") } else { String::new() };
                return self.refuse_as(Kind::TooMany, *place, more + &others);
            }
            for (index, value) in array.iter().enumerate() {
                let item = Item {
                    layers: vec![(value.get_ref(), place.to(value.span().start))],
                    // Counted in its file, where a person looks for it.
                    key: format!("{} #{}", self.key, index + 1),
                    path: self.path.iter().cloned().chain([Step::Entry(before + index)]).collect(),
                    reading: self.reading,
                };
                entries.push(read(item));
            }
        }
        entries.into_iter().collect::<Option<Vec<T>>>().filter(|_| good)
    }

    /// Reads each entry of a table whose keys are for the operator to choose, all of them even when one is refused.
    pub(super) fn entries<T>(
        &self,
        what: &str,
        count_max: usize,
        mut read: impl FnMut(&'a str, Item<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let (value, place) = self.last();
        let Some(table) = value.as_table() else { return self.expected(what) };
        if table.len() > count_max {
            let more = format!("has {} entries, at most {count_max} are allowed", table.len());
            return self.refuse_as(Kind::TooMany, place, more);
        }
        let entries = table.iter().map(|(name, value)| {
            let (name, step) = (name.get_ref().as_ref(), Step::Key(name.get_ref().to_string().into()));
            let item = Item {
                layers: vec![(value.get_ref(), place.to(value.span().start))],
                key: format!("{}.{}", self.key, name.escape_debug().take(80).collect::<String>()),
                path: self.path.iter().cloned().chain([step]).collect(),
                reading: self.reading,
            };
            item.remember();
            read(name, item)
        });
        // Not straight into an `Option`: that would stop at the first that is refused.
        let entries: Vec<_> = entries.collect();
        entries.into_iter().collect()
    }

    /// Shows this text instead of what is written.
    pub(super) fn show_as(&self, text: &str) {
        self.reading.replace(&self.path, text);
    }

    fn remember(&self) {
        self.reading.remember(&self.path, &self.key, self.layers.last().copied());
    }

    fn last(&self) -> (&'a DeValue<'a>, Place) {
        *self.layers.last().expect("an item that is handed out has a value")
    }

    fn value(&self) -> &'a DeValue<'a> {
        self.last().0
    }
}
