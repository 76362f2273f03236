//! Values of rules: JSON values, compared and reckoned with. What is missing is `null`.

use std::{borrow::Cow, cmp::Ordering, collections::HashSet};

use serde_json::{Number, Value};

/// What is missing.
pub(super) static NULL: Value = Value::Null;

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

/// How two numbers are reckoned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    By,
    /// `%`
    Modulo,
}

impl Comparison {
    /// All of them, by their signs.
    const SIGNS: [(&'static str, Self); 6] = [
        ("=", Self::Equal),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        ("<=", Self::LessOrEqual),
        (">", Self::Greater),
        (">=", Self::GreaterOrEqual),
    ];

    /// Reads a comparison sign.
    pub(super) fn parse(sign: &str) -> Option<Self> {
        Self::SIGNS.iter().find(|(known, _)| *known == sign).map(|(_, comparison)| *comparison)
    }

    /// As it is written.
    pub(super) fn sign(self) -> &'static str {
        Self::SIGNS.iter().find(|(_, known)| *known == self).map_or("=", |(sign, _)| sign)
    }

    /// True for the signs that ask for an order rather than for sameness.
    pub(super) fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }

    /// False where one of them is missing.
    pub(super) fn holds(self, left: &Value, right: &Value) -> bool {
        if left.is_null() || right.is_null() {
            return false;
        }
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

impl Arithmetic {
    /// Exact where both are integers and the result is one that fits; `null` where one is no number, or there is no result.
    pub(super) fn reckon(self, left: &Value, right: &Value) -> Value {
        let (Value::Number(left), Value::Number(right)) = (left, right) else { return Value::Null };
        let exact = match (left.as_i128(), right.as_i128()) {
            (Some(left), Some(right)) => self.of_integers(left, right),
            _ => None,
        };
        let rounded = || Some(self.of_doubles(left.as_f64()?, right.as_f64()?));
        exact.or_else(|| rounded().and_then(Number::from_f64)).map_or(Value::Null, Value::Number)
    }

    fn of_integers(self, left: i128, right: i128) -> Option<Number> {
        // 64-bit integers in, so nothing but a division by zero can fail.
        let result = match self {
            Self::Plus => left.checked_add(right),
            Self::Minus => left.checked_sub(right),
            Self::Times => left.checked_mul(right),
            Self::By => left.checked_div(right).filter(|quotient| quotient * right == left),
            Self::Modulo => left.checked_rem(right),
        };
        result.and_then(Number::from_i128)
    }

    fn of_doubles(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Plus => left + right,
            Self::Minus => left - right,
            Self::Times => left * right,
            Self::By => left / right,
            Self::Modulo => left % right,
        }
    }
}

/// Whether two values are the same: numbers by value, all else by its parts.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
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
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number_order(left, right),
        // UTF-8 bytes sort as their code points do.
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// An order of all numbers and texts: numbers first. Unlike [`order`] it is one by which lists can be sorted.
pub(super) fn rank(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let double = |number: &Number| number.as_f64().unwrap_or_default();
            double(left).total_cmp(&double(right)).then(left.as_i128().cmp(&right.as_i128()))
        }
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (left, right) => left.is_string().cmp(&right.is_string()),
    }
}

fn number_order(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i128(), right.as_i128()) {
        // A double would confuse neighbours above 2^53.
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// The items of a list, or of what is missing none; anything else is its own only item.
pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// What stands at these names: of a list, what stands there in each of its items, as a list; `null` where nothing does.
/// `spend` says whether so much may be looked at, too; where it may not, nothing stands there.
pub(super) fn at<'v>(value: &'v Value, names: &[String], spend: &dyn Fn(usize) -> bool) -> Cow<'v, Value> {
    let Some((name, rest)) = names.split_first() else { return Cow::Borrowed(value) };
    match value {
        Value::Object(members) => members.get(name).map_or(Cow::Borrowed(&NULL), |member| at(member, rest, spend)),
        Value::Array(list) => {
            let mut found = Vec::new();
            for item in list {
                let one = at(item, names, spend);
                if !spend(weight(&one)) {
                    return Cow::Borrowed(&NULL);
                }
                match one.into_owned() {
                    Value::Null => {}
                    Value::Array(inner) => found.extend(inner),
                    one => found.push(one),
                }
            }
            if found.is_empty() { Cow::Borrowed(&NULL) } else { Cow::Owned(Value::Array(found)) }
        }
        _ => Cow::Borrowed(&NULL),
    }
}

/// How many values it is made of: what copying it costs.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(weight).sum::<usize>(),
        Value::String(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

/// As [`weight`], of what is looked at in its place: a number, or a text of a line, costs nothing beside the item that it is of.
pub(super) fn heft(value: &Value) -> usize {
    weight(value) - 1
}

/// A set of values: what is equal has one text. Numbers are written so that `1` and `1.0` are the same.
#[derive(Default)]
pub(super) struct Set(HashSet<String>);

impl Set {
    /// Of these.
    pub(super) fn of(values: &[Value]) -> Self {
        Self(values.iter().map(text).collect())
    }

    /// True when it was not there before.
    pub(super) fn insert(&mut self, value: &Value) -> bool {
        self.0.insert(text(value))
    }

    /// Whether it is there.
    pub(super) fn contains(&self, value: &Value) -> bool {
        self.0.contains(&text(value))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_i128() {
            Some(integer) => integer.to_string(),
            None => number.as_f64().map_or_else(String::new, |double| {
                // Exact below 2^63, beyond which no integer of ours is.
                let is_whole = double.fract() == 0.0 && double.abs() < 9_223_372_036_854_775_808.0;
                if is_whole { (double as i64).to_string() } else { double.to_string() }
            }),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let mut texts: Vec<String> =
                members.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), text(value))).collect();
            texts.sort_unstable();
            format!("{{{}}}", texts.join(","))
        }
        other => other.to_string(),
    }
}
