//! Patterns: what `like`, `matches` and `regexGroup` look for, compiled once.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Largest compiled pattern, in bytes: a pattern of a line has a tenth of it. Looking for it takes its size times the text's at worst.
const COMPILED_BYTES_MAX: usize = 128 << 10;

/// A compiled pattern. Its `Display` is the text it was compiled from.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    language: Language,
    regex: Regex,
}

/// How a pattern is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// `%` stands for any text, `_` for one character; the whole text must fit.
    Like,
    /// A regular expression, found anywhere in the text.
    Regex,
}

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub(super) fn new(text: &str, language: Language) -> Result<Self, String> {
        let regex = match language {
            Language::Like => &like(text),
            Language::Regex => text,
        };
        let regex = RegexBuilder::new(regex).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| reason(&error))?;
        Ok(Self { text: text.to_owned(), language, regex })
    }

    /// How many groups it has, the whole included.
    pub(super) fn groups(&self) -> usize {
        self.regex.captures_len()
    }

    /// Whether it is found.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// What a group matched.
    pub(super) fn group<'t>(&self, text: &'t str, group: usize) -> Option<&'t str> {
        Some(self.regex.captures(text)?.get(group)?.as_str())
    }
}

/// Equal when they are written the same.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.language) == (&other.text, other.language)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn like(text: &str) -> String {
    let mut regex = String::from("(?s)\\A");
    let mut buffer = [0; 4];
    for c in text.chars() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut buffer))),
        }
    }
    regex.push_str("\\z");
    regex
}

/// The last line of what the library says: the ones before repeat the pattern.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
