//! What a rule says of a profile.
//!
//! What is missing is `null`, and makes every test false but those that ask for it. Nothing here fails: what cannot be
//! reckoned is `null`. Items that are looked at are counted, so that a rule of loops within loops ends.

use std::{borrow::Cow, cell::Cell, cmp::Ordering, collections::BTreeMap};

use serde_json::{Map, Value};

use super::{
    AudienceId,
    expression::{Case, Each, End, Expression, IDENTITY_MAP, Make, SetTest, TextTest},
    value::{Arithmetic, NULL, Set, at, equal, heft, items, order, rank, weight},
};
use crate::profile::path::Attributes;

/// Most items that a rule may look at, counting those that it copies: some hundred milliseconds' worth.
const EFFORT_MAX: usize = 1_000_000;

/// What a rule is asked of: what is known of a profile.
pub struct Subject<'a> {
    attributes: &'a Attributes,
    identities: &'a Value,
    is_in: &'a dyn Fn(&AudienceId) -> bool,
    effort: Cell<usize>,
}

impl<'a> Subject<'a> {
    /// A profile with these attributes and identities (as exports show them), of which `is_in` says in which other audiences it is.
    pub fn new(attributes: &'a Attributes, identities: &'a Value, is_in: &'a dyn Fn(&AudienceId) -> bool) -> Self {
        Self { attributes, identities, is_in, effort: Cell::new(0) }
    }

    fn at(&self, names: &[String]) -> Cow<'_, Value> {
        let Some((first, rest)) = names.split_first() else { return Cow::Borrowed(&NULL) };
        match first.as_str() {
            IDENTITY_MAP => self.within(self.identities, rest),
            name => self.attributes.get(name).map_or(Cow::Borrowed(&NULL), |value| self.within(value, rest)),
        }
    }

    /// What stands at these names in a value; going through lists is counted.
    fn within<'v>(&self, value: &'v Value, names: &[String]) -> Cow<'v, Value> {
        at(value, names, &|effort| self.spend(effort))
    }

    /// A value that was copied, or is to be; nothing where that is too much.
    fn counted<'v>(&self, value: Cow<'v, Value>) -> Cow<'v, Value> {
        if self.spend(heft(&value)) { value } else { Cow::Borrowed(&NULL) }
    }

    /// Whether a pattern may be looked for in this: that takes longer than comparing.
    fn spend_on_pattern(&self, text: &str) -> bool {
        self.spend(text.len() / 8)
    }

    /// Whether so much more may be looked at.
    fn spend(&self, effort: usize) -> bool {
        let spent = self.effort.get().saturating_add(effort);
        self.effort.set(spent);
        spent <= EFFORT_MAX
    }
}

/// Whether a rule holds; `None` when it takes too much to tell.
pub(super) fn holds(rule: &Expression, subject: &Subject<'_>) -> Option<bool> {
    subject.effort.set(0);
    let holds = rule.holds(&Scope { subject, inner: None });
    (subject.effort.get() <= EFFORT_MAX).then_some(holds)
}

/// What an expression comes to; `None` when it takes too much to tell.
pub(super) fn value(expression: &Expression, subject: &Subject<'_>) -> Option<Value> {
    subject.effort.set(0);
    let value = expression.value(&Scope { subject, inner: None }).into_owned();
    (subject.effort.get() <= EFFORT_MAX).then_some(value)
}

/// Where names are looked up: in the profile, and in what was opened since.
struct Scope<'s> {
    subject: &'s Subject<'s>,
    /// The innermost: its number, its item, and what is around it.
    inner: Option<(usize, &'s Value, &'s Scope<'s>)>,
}

impl<'s> Scope<'s> {
    fn open<'n>(&'n self, item: &'n Value) -> Scope<'n>
    where
        's: 'n,
    {
        let number = self.inner.map_or(1, |(number, ..)| number + 1);
        Scope { subject: self.subject, inner: Some((number, item, self)) }
    }

    fn at(&self, number: usize, names: &[String]) -> Cow<'s, Value> {
        match self.inner {
            None => self.subject.at(names),
            Some((own, item, _)) if own == number => self.subject.within(item, names),
            Some((.., around)) => around.at(number, names),
        }
    }
}

impl Expression {
    fn holds(&self, scope: &Scope<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(scope)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(scope)),
            Self::Not(inner) => !inner.holds(scope),
            Self::Compare(left, comparison, right) => {
                let (left, right) = (left.value(scope), right.value(scope));
                scope.subject.spend(heft(&left) + heft(&right)) && comparison.holds(&left, &right)
            }
            Self::In(item, list, wanted) => {
                let (item, list) = (item.value(scope), list.value(scope));
                // `notIn` is not the negation of `in`: nothing is said of what is missing.
                !item.is_null() && !list.is_null() && {
                    let items = items(&list);
                    scope.subject.spend(weight(&list) + heft(&item))
                        && items.iter().any(|one| equal(&item, one)) == *wanted
                }
            }
            Self::Text(test, text, other, case) => {
                let (text, other) = (text.value(scope), other.value(scope));
                scope.subject.spend(heft(&text) + heft(&other)) && test.holds(&text, &other, *case)
            }
            Self::Matches(text, pattern) => {
                let text = text.value(scope);
                text.as_str().is_some_and(|text| scope.subject.spend_on_pattern(text) && pattern.is_in(text))
            }
            Self::IsNull(inner, wanted) => inner.value(scope).is_null() == *wanted,
            Self::Sets(test, left, right) => {
                sets(*test, &left.value(scope), &right.value(scope), scope) == Some(Value::Bool(true))
            }
            Self::Each(Each::Exists, list, _, test) => {
                let list = list.value(scope);
                items(&list).iter().any(|item| scope.subject.spend(1) && test.holds(&scope.open(item)))
            }
            Self::Each(Each::Forall, list, _, test) => {
                let list = list.value(scope);
                items(&list).iter().all(|item| scope.subject.spend(1) && test.holds(&scope.open(item)))
            }
            Self::If(parts) => parts[if parts[0].holds(scope) { 1 } else { 2 }].holds(scope),
            Self::Let(value, _, body) => {
                let value = value.value(scope);
                body.holds(&scope.open(&value))
            }
            Self::NotEmpty(list) => !items(&list.value(scope)).is_empty(),
            Self::InSegment(audience) => (scope.subject.is_in)(audience),
            other => *other.value(scope) == Value::Bool(true),
        }
    }

    fn value<'v>(&'v self, scope: &Scope<'v>) -> Cow<'v, Value> {
        match self {
            Self::Literal(value) => Cow::Borrowed(value),
            // Counted one by one: lists of lists by way of `let` double.
            Self::List(parts) => {
                let part = |part: &'v Expression| scope.subject.counted(part.value(scope)).into_owned();
                owned(Value::Array(parts.iter().map(part).collect()))
            }
            Self::Path(number, names) => scope.at(*number, names),
            Self::Member(inner, names) => match inner.value(scope) {
                Cow::Borrowed(value) => scope.subject.within(value, names),
                Cow::Owned(value) => owned(scope.subject.counted(scope.subject.within(&value, names)).into_owned()),
            },
            Self::If(parts) => parts[if parts[0].holds(scope) { 1 } else { 2 }].value(scope),
            Self::Reckon(left, arithmetic, right) => owned(arithmetic.reckon(&left.value(scope), &right.value(scope))),
            Self::Group(text, pattern, group) => {
                let text = text.value(scope);
                let text = text.as_str().filter(|text| scope.subject.spend_on_pattern(text));
                let matched = text.and_then(|text| pattern.group(text, *group));
                owned(matched.map_or(Value::Null, Value::from))
            }
            Self::Sets(test @ SetTest::Intersection, left, right) => {
                owned(sets(*test, &left.value(scope), &right.value(scope), scope).unwrap_or_default())
            }
            Self::Made(make, inner) => owned(make.of(&inner.value(scope), scope.subject)),
            Self::Get(map, key) => match key.value(scope).as_str() {
                Some(key) => {
                    let map = map.value(scope);
                    let found = map.get(key).map(Cow::Borrowed).unwrap_or_default();
                    owned(scope.subject.counted(found).into_owned())
                }
                None => Cow::Borrowed(&NULL),
            },
            Self::Each(each, list, _, of_item) if !matches!(each, Each::Exists | Each::Forall) => {
                owned(each.of(items(&list.value(scope)), of_item, scope))
            }
            Self::Ends(end, list, by, count) => owned(ends(*end, items(&list.value(scope)), by, *count, scope)),
            Self::Let(value, _, body) => {
                let value = value.value(scope);
                let scope = scope.open(&value);
                owned(scope.subject.counted(body.value(&scope)).into_owned())
            }
            test => owned(Value::Bool(test.holds(scope))),
        }
    }
}

fn owned<'v>(value: Value) -> Cow<'v, Value> {
    Cow::Owned(value)
}

impl TextTest {
    fn holds(self, text: &Value, other: &Value, case: Case) -> bool {
        if text.is_null() || other.is_null() {
            return false;
        }
        let (Value::String(text), Value::String(other)) = (text, other) else {
            // What is no text is equal or not, and nothing else.
            return match self {
                Self::Equals => equal(text, other),
                Self::NotEquals => !equal(text, other),
                _ => false,
            };
        };
        let (text, other) = match case {
            Case::Matters => (Cow::Borrowed(text.as_str()), Cow::Borrowed(other.as_str())),
            Case::Ignored => (text.to_lowercase().into(), other.to_lowercase().into()),
        };
        match self {
            Self::StartsWith => text.starts_with(&*other),
            Self::NotStartsWith => !text.starts_with(&*other),
            Self::EndsWith => text.ends_with(&*other),
            Self::NotEndsWith => !text.ends_with(&*other),
            Self::Contains => text.contains(&*other),
            Self::NotContains => !text.contains(&*other),
            Self::Equals => text == other,
            Self::NotEquals => text != other,
        }
    }
}

/// `None` where one of them is missing.
fn sets(test: SetTest, left: &Value, right: &Value, scope: &Scope<'_>) -> Option<Value> {
    if left.is_null() || right.is_null() || !scope.subject.spend(weight(left) + weight(right)) {
        return None;
    }
    let all_in = |of: &Value, within: &Value| {
        let within = Set::of(items(within));
        items(of).iter().all(|item| within.contains(item))
    };
    Some(match test {
        SetTest::Intersects => {
            let right = Set::of(items(right));
            items(left).iter().any(|item| right.contains(item)).into()
        }
        SetTest::Intersection => {
            let right = Set::of(items(right));
            items(left).iter().filter(|item| right.contains(item)).cloned().collect()
        }
        SetTest::SubsetOf => all_in(left, right).into(),
        SetTest::SupersetOf => all_in(right, left).into(),
        SetTest::Includes => items(left).iter().any(|item| equal(item, right)).into(),
    })
}

impl Make {
    fn of(self, value: &Value, subject: &Subject<'_>) -> Value {
        match (self, value) {
            (Self::Count, Value::Object(members)) => members.len().into(),
            (Self::Count, value) => items(value).len().into(),
            (_, Value::Null) => Value::Null,
            (Self::Distinct, value) if subject.spend(weight(value)) => {
                let mut seen = Set::default();
                items(value).iter().filter(|item| seen.insert(item)).cloned().collect()
            }
            (Self::Head, value) => {
                let first = items(value).first().map(Cow::Borrowed).unwrap_or_default();
                subject.counted(first).into_owned()
            }
            (Self::Keys, Value::Object(members)) if subject.spend(members.len()) => {
                members.keys().map(String::as_str).collect()
            }
            (Self::Values, Value::Object(members)) if subject.spend(weight(value)) => {
                members.values().cloned().collect()
            }
            _ => Value::Null,
        }
    }
}

impl Each {
    fn of(self, list: &[Value], of_item: &Expression, scope: &Scope<'_>) -> Value {
        let subject = scope.subject;
        if self == Self::Filter {
            let kept = |item: &&Value| subject.spend(weight(item)) && of_item.holds(&scope.open(item));
            return list.iter().filter(kept).cloned().collect();
        }
        let mut found = Vec::with_capacity(list.len());
        for item in list {
            let inner = scope.open(item);
            let value = of_item.value(&inner);
            if !subject.spend(weight(&value)) {
                return Value::Null;
            }
            found.push(value.into_owned());
        }
        match self {
            Self::Map => Value::Array(found),
            Self::GroupBy => grouped(list, &found, subject),
            Self::Sum => sum(&found),
            Self::Average => match found.iter().filter(|value| value.is_number()).count() {
                0 => Value::Null,
                count => Arithmetic::By.reckon(&sum(&found), &count.into()),
            },
            Self::Min => extreme(found, Ordering::Less),
            Self::Max => extreme(found, Ordering::Greater),
            Self::Filter | Self::Exists | Self::Forall => Value::Null,
        }
    }
}

/// Items by what they were found to be; what was not found is left out.
fn grouped(list: &[Value], found: &[Value], subject: &Subject<'_>) -> Value {
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (item, key) in list.iter().zip(found).filter(|(_, key)| !key.is_null()) {
        if !subject.spend(weight(item)) {
            return Value::Null;
        }
        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        groups.entry(key).or_default().push(item.clone());
    }
    Value::Object(groups.into_iter().map(|(key, items)| (key, items.into())).collect::<Map<_, _>>())
}

/// What is no number is left out.
fn sum(values: &[Value]) -> Value {
    let numbers = values.iter().filter(|value| value.is_number());
    numbers.fold(Value::from(0), |sum, value| Arithmetic::Plus.reckon(&sum, value))
}

/// The one that stands `wanted` to all others; what has no order with it is left out.
fn extreme(values: Vec<Value>, wanted: Ordering) -> Value {
    let is_ordered = |value: &Value| value.is_number() || value.is_string();
    let better = |best: Value, value: Value| if order(&value, &best) == Some(wanted) { value } else { best };
    values.into_iter().filter(is_ordered).reduce(better).unwrap_or_default()
}

/// The items at one end of an order; those without a number or a text to order by are left out.
fn ends(end: End, list: &[Value], by: &Expression, count: usize, scope: &Scope<'_>) -> Value {
    let mut ordered = Vec::new();
    for item in list {
        let inner = scope.open(item);
        let key = by.value(&inner).into_owned();
        if !scope.subject.spend(weight(item) + weight(&key)) {
            return Value::Null;
        }
        if key.is_number() || key.is_string() {
            ordered.push((key, item));
        }
    }
    ordered.sort_by(|(left, _), (right, _)| match end {
        End::Top => rank(right, left),
        End::Bottom => rank(left, right),
    });
    ordered.into_iter().take(count).map(|(_, item)| item.clone()).collect()
}
