//! The rule of an audience: an expression of AEP's Profile Query Language (PQL), compiled once.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::{
    AudienceId,
    evaluate::{self, Subject},
    expression::{Expression, IDENTITY_MAP},
    parse,
    token::Refusal,
};
use crate::profile::path::AttributePath;

/// Longest rule, in bytes. What AEP's builder writes is shorter than a tenth of it.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A compiled rule. Its `Display` is the text it was compiled from.
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    condition: Expression,
    reads: Vec<AttributePath>,
    segments: Vec<AudienceId>,
}

impl Rule {
    /// Compiles a rule; `docs/rules.md` lists what of PQL is understood.
    ///
    /// # Errors
    /// [`RuleError`] with the place of the first thing that is not.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let condition = read(text, parse::condition)?;
        let (mut reads, mut segments) = (BTreeSet::new(), BTreeSet::new());
        condition.walk(&mut |part| {
            reads.extend(part.reads());
            if let Expression::InSegment(audience) = part {
                segments.insert(audience.clone());
            }
        });
        let (reads, segments) = (reads.into_iter().collect(), segments.into_iter().collect());
        Ok(Self { text: text.to_owned(), condition, reads, segments })
    }

    /// True when who it is asked of is in the audience; `None` when it takes too much to tell.
    pub fn matches(&self, subject: &Subject<'_>) -> Option<bool> {
        evaluate::holds(&self.condition, subject)
    }

    /// The attributes that it reads, sorted, each once: only writing one of them can change what it says. `identityMap`
    /// stands for the identities.
    pub fn reads(&self) -> &[AttributePath] {
        &self.reads
    }

    /// Whether identities can change what it says.
    pub fn reads_identities(&self) -> bool {
        self.reads.iter().any(|path| path.names()[0] == IDENTITY_MAP)
    }

    /// The audiences that it asks for, sorted, each once.
    pub fn segments(&self) -> &[AudienceId] {
        &self.segments
    }
}

/// What an expression, which need not be a rule, comes to; `None` when it takes too much to tell.
///
/// # Errors
/// As [`Rule::parse`].
pub fn evaluate(text: &str, subject: &Subject<'_>) -> Result<Option<Value>, RuleError> {
    Ok(evaluate::value(&read(text, parse::expression)?, subject))
}

fn read(text: &str, read: fn(&str) -> Result<Expression, Refusal>) -> Result<Expression, RuleError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("a rule has at most {TEXT_BYTES_MAX} bytes, this one {}", text.len());
        return Err(RuleError::new(text, Refusal { at: 0, message }));
    }
    read(text).map_err(|refusal| RuleError::new(text, refusal))
}

/// Equal when their texts are: everything else follows from that.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a rule is refused, and where. `Display` has three lines: the reason, the rule's line, a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule line {line}, column {column}: {message}\n{excerpt}\n{:>caret$}", "^", caret = caret + 1)]
pub struct RuleError {
    line: usize,
    column: usize,
    message: String,
    excerpt: String,
    caret: usize,
}

impl RuleError {
    /// The line in the rule's text, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from 1; one past the line's end when the rule ends too early.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The reason alone, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn new(text: &str, Refusal { at, message }: Refusal) -> Self {
        /// Characters shown on each side of the place: a rule may be one line of many thousands.
        const AROUND: usize = 50;
        let (before, after) = text.split_at(at);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[line_start..].chars().count();
        let cut = column.saturating_sub(AROUND);
        let rest_of_line = after.split('\n').next().unwrap_or_default();
        let shown = before[line_start..].chars().skip(cut).chain(rest_of_line.chars().take(AROUND));
        Self {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            message,
            // A control character would move the caret, or worse, the terminal.
            excerpt: shown.map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned(),
            caret: column - cut,
        }
    }
}

#[cfg(test)]
#[path = "rule_property_tests.rs"]
mod property_tests;
#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
