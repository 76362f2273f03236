//! A compiled rule: a tree of expressions over a profile.
//!
//! Scopes are numbered from the outside: 0 is the profile, and each part that is asked of the items of a list, or names a
//! value, opens the next.

use serde_json::Value;

use super::{
    AudienceId,
    pattern::Pattern,
    value::{Arithmetic, Comparison},
};
use crate::profile::path::AttributePath;

/// The member of a profile's scope that holds its identities, as exports show them.
pub(super) const IDENTITY_MAP: &str = "identityMap";

/// A part of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    /// This string, number or boolean.
    Literal(Value),
    /// `[a, b]`
    List(Vec<Expression>),
    /// What stands at these names in a scope; without names, what the scope is of.
    Path(usize, Vec<String>),
    /// What stands at these names in a value.
    Member(Box<Expression>, Vec<String>),
    /// True when all parts are; at least two.
    All(Vec<Expression>),
    /// True when one part is; at least two.
    Any(Vec<Expression>),
    /// True when the inner one is false.
    Not(Box<Expression>),
    /// `if (test, then, otherwise)`
    If(Box<[Expression; 3]>),
    /// Two values compared.
    Compare(Box<Expression>, Comparison, Box<Expression>),
    /// Two numbers reckoned with.
    Reckon(Box<Expression>, Arithmetic, Box<Expression>),
    /// Whether a value is in a list, or, if that is what is wished, is not.
    In(Box<Expression>, Box<Expression>, bool),
    /// What a text is asked.
    Text(TextTest, Box<Expression>, Box<Expression>, Case),
    /// `like "…%"` and `matches("…")`: whether the pattern is found.
    Matches(Box<Expression>, Pattern),
    /// `regexGroup("…", n)`: what the n-th group of the pattern matched.
    Group(Box<Expression>, Pattern, usize),
    /// Whether something stands there, or nothing.
    IsNull(Box<Expression>, bool),
    /// What two lists are asked together, or a list and a value.
    Sets(SetTest, Box<Expression>, Box<Expression>),
    /// What one value is made to.
    Made(Make, Box<Expression>),
    /// `get("key")`
    Get(Box<Expression>, Box<Expression>),
    /// What is made of a list by what is asked of each of its items. Opens a scope.
    Each(Each, Box<Expression>, Scope, Box<Expression>),
    /// `topN(e, n)` and `bottomN(e, n)`: the items where the expression is greatest or least, in that order. Opens a scope.
    Ends(End, Box<Expression>, Box<Expression>, usize),
    /// `let name = value in (…)`. Opens a scope.
    Let(Box<Expression>, String, Box<Expression>),
    /// Whether a list has anything in it: what a filter means where true or false is wanted.
    NotEmpty(Box<Expression>),
    /// Whether the profile is in another audience.
    InSegment(AudienceId),
}

/// A scope's name, where the rule gives it one; otherwise names in it are members of its item.
pub(super) type Scope = Option<String>;

/// What a text is asked of another. `Not…` is false, too, where one of them is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    StartsWith,
    NotStartsWith,
    EndsWith,
    NotEndsWith,
    Contains,
    NotContains,
    Equals,
    NotEquals,
}

/// Whether `a` and `A` differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Matters,
    Ignored,
}

/// What two lists are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetTest {
    Intersects,
    Intersection,
    SubsetOf,
    SupersetOf,
    Includes,
}

/// What one value is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    Distinct,
    Head,
    Count,
    Keys,
    Values,
}

/// What is made of a list by what is asked of each of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    /// Items of which it is true.
    Filter,
    /// What it is of each.
    Map,
    /// Items by what it is of them.
    GroupBy,
    /// The sum of what it is of each.
    Sum,
    /// Their mean.
    Average,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Whether it is true of one.
    Exists,
    /// Whether it is true of all.
    Forall,
}

/// Which end of an order comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Top,
    Bottom,
}

/// What can be known of a value before there is a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    List,
    Other,
    /// It depends on the profile.
    Any,
}

impl Expression {
    /// What its value will be.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Literal(Value::Bool(_)) => Kind::Boolean,
            Self::Literal(_) | Self::Reckon(..) | Self::Group(..) => Kind::Other,
            Self::All(_) | Self::Any(_) | Self::Not(_) | Self::Compare(..) | Self::In(..) => Kind::Boolean,
            Self::Text(..) | Self::Matches(..) | Self::IsNull(..) | Self::NotEmpty(_) | Self::InSegment(_) => {
                Kind::Boolean
            }
            Self::Sets(SetTest::Intersection, ..) | Self::List(_) | Self::Ends(..) => Kind::List,
            Self::Sets(..) => Kind::Boolean,
            Self::Made(Make::Distinct | Make::Keys | Make::Values, _) => Kind::List,
            Self::Made(Make::Count, _) => Kind::Other,
            Self::Made(Make::Head, _) | Self::Get(..) | Self::Path(..) | Self::Member(..) => Kind::Any,
            Self::Each(Each::Filter | Each::Map, ..) => Kind::List,
            Self::Each(Each::Exists | Each::Forall, ..) => Kind::Boolean,
            Self::Each(..) => Kind::Other,
            Self::Let(_, _, body) => body.kind(),
            // Each is asked once: one in another would double it.
            Self::If(parts) => {
                let (then, otherwise) = (parts[1].kind(), parts[2].kind());
                if then == otherwise { then } else { Kind::Any }
            }
        }
    }

    /// Calls `visit` with each part directly below.
    pub(super) fn for_each_part<'e>(&'e self, visit: &mut dyn FnMut(&'e Expression)) {
        match self {
            Self::Literal(_) | Self::Path(..) | Self::InSegment(_) => {}
            Self::List(parts) | Self::All(parts) | Self::Any(parts) => parts.iter().for_each(visit),
            Self::If(parts) => parts.iter().for_each(visit),
            Self::Member(part, _) | Self::Not(part) | Self::Matches(part, _) | Self::Group(part, ..) => visit(part),
            Self::IsNull(part, _) | Self::Made(_, part) | Self::NotEmpty(part) => visit(part),
            Self::Compare(left, _, right)
            | Self::Reckon(left, _, right)
            | Self::In(left, right, _)
            | Self::Text(_, left, right, _)
            | Self::Sets(_, left, right)
            | Self::Get(left, right)
            | Self::Each(_, left, _, right)
            | Self::Ends(_, left, right, _)
            | Self::Let(left, _, right) => {
                visit(left);
                visit(right);
            }
        }
    }

    /// How many parts stand one in another, itself included.
    pub(super) fn height(&self) -> usize {
        let mut below = 0;
        self.for_each_part(&mut |part| below = below.max(part.height()));
        below + 1
    }

    /// Calls `visit` with itself and each part at any depth.
    pub(super) fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expression)) {
        visit(self);
        self.for_each_part(&mut |part| part.walk(visit));
    }

    /// The path of the profile that it reads, if it is one.
    pub(super) fn reads(&self) -> Option<AttributePath> {
        match self {
            // Longer ones than a path may be are refused where they are read.
            Self::Path(0, names) if !names.is_empty() => names.join(".").parse().ok(),
            _ => None,
        }
    }
}
