//! A compiled rule: a small tree that a profile's attributes satisfy or not.
//!
//! A missing attribute (or null) makes every comparison false, `!=` too; only `isNull()` finds it. `docs/rules.md` has
//! the whole semantics.

use std::{cmp::Ordering, collections::BTreeSet, fmt};

use serde_json::{Number, Value};

use crate::profile::path::{AttributePath, Attributes};

/// What is asked of a profile. As deep as the grammar lets parentheses nest, so recursion over it is bounded.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// True when all parts are; at least two.
    All(Vec<Condition>),
    /// True when one part is; at least two.
    Any(Vec<Condition>),
    /// True when the inner one is false.
    Not(Box<Condition>),
    /// Two values compared.
    Compare(Operand, Comparison, Operand),
    /// True when the value equals one of the list.
    In(Operand, Vec<Value>),
    /// True when nothing stands at the path.
    IsNull(AttributePath),
    /// True when something stands at the path.
    IsNotNull(AttributePath),
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// What stands at this path.
    Path(AttributePath),
    /// This string, number or boolean.
    Literal(Value),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Condition {
    /// True when these attributes satisfy it.
    pub(super) fn holds(&self, attributes: &Attributes) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(attributes)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(attributes)),
            Self::Not(inner) => !inner.holds(attributes),
            Self::Compare(left, comparison, right) => match (left.value(attributes), right.value(attributes)) {
                (Some(left), Some(right)) => comparison.holds(left, right),
                _ => false,
            },
            Self::In(operand, list) => {
                operand.value(attributes).is_some_and(|value| list.iter().any(|entry| equal(value, entry)))
            }
            Self::IsNull(path) => present(path, attributes).is_none(),
            Self::IsNotNull(path) => present(path, attributes).is_some(),
        }
    }

    /// Adds the paths that it reads.
    pub(super) fn collect_reads(&self, reads: &mut BTreeSet<AttributePath>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect_reads(reads)),
            Self::Not(inner) => inner.collect_reads(reads),
            Self::Compare(left, _, right) => reads.extend([left, right].into_iter().filter_map(Operand::path).cloned()),
            Self::In(operand, _) => reads.extend(operand.path().cloned()),
            Self::IsNull(path) | Self::IsNotNull(path) => reads.extend([path.clone()]),
        }
    }

    fn joins(&self) -> bool {
        matches!(self, Self::All(_) | Self::Any(_))
    }
}

impl Operand {
    fn value<'a>(&'a self, attributes: &'a Attributes) -> Option<&'a Value> {
        match self {
            Self::Path(path) => present(path, attributes),
            Self::Literal(value) => Some(value),
        }
    }

    fn path(&self) -> Option<&AttributePath> {
        match self {
            Self::Path(path) => Some(path),
            Self::Literal(_) => None,
        }
    }
}

impl Comparison {
    /// Reads a comparison sign.
    pub(super) fn parse(sign: &str) -> Option<Self> {
        Some(match sign {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// True for the signs that ask for an order rather than for sameness.
    pub(super) fn orders(self) -> bool {
        match self {
            Self::Equal | Self::NotEqual => false,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => true,
        }
    }

    fn holds(self, left: &Value, right: &Value) -> bool {
        match self {
            Self::Equal => equal(left, right),
            Self::NotEqual => !equal(left, right),
            Self::Less => order(left, right).is_some_and(Ordering::is_lt),
            Self::LessOrEqual => order(left, right).is_some_and(Ordering::is_le),
            Self::Greater => order(left, right).is_some_and(Ordering::is_gt),
            Self::GreaterOrEqual => order(left, right).is_some_and(Ordering::is_ge),
        }
    }
}

/// What stands at the path; null counts as nothing.
fn present<'a>(path: &AttributePath, attributes: &'a Attributes) -> Option<&'a Value> {
    path.lookup(attributes).filter(|value| !value.is_null())
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number_order(left, right) == Some(Ordering::Equal),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| equal(left, right)))
        }
        (left, right) => left == right,
    }
}

/// The order of two numbers or two strings; nothing else has one.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number_order(left, right),
        // UTF-8 bytes sort as their code points do.
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn number_order(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i128(), right.as_i128()) {
        // A double would confuse neighbours above 2^53.
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// PQL that parses back to the same tree.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => write_joined(f, parts, " and "),
            Self::Any(parts) => write_joined(f, parts, " or "),
            Self::Not(inner) => {
                f.write_str("not ")?;
                write_part(f, inner)
            }
            Self::Compare(left, comparison, right) => write!(f, "{left} {comparison} {right}"),
            Self::In(operand, list) => {
                write!(f, "{operand} in [")?;
                for (index, value) in list.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    write_literal(f, value)?;
                }
                f.write_str("]")
            }
            Self::IsNull(path) => write!(f, "{path}.isNull()"),
            Self::IsNotNull(path) => write!(f, "{path}.isNotNull()"),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, parts: &[Condition], word: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { word })?;
        write_part(f, part)?;
    }
    Ok(())
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &Condition) -> fmt::Result {
    match part.joins() {
        true => write!(f, "({part})"),
        false => write!(f, "{part}"),
    }
}

fn write_literal(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        // Not as JSON: PQL knows two escapes only.
        Value::String(text) => write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        other => write!(f, "{other}"),
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{path}"),
            Self::Literal(value) => write_literal(f, value),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}
