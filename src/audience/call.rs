//! The functions of PQL: which there are, and what they take.

use super::{
    AudienceId,
    expression::{Case, Each, End, Expression, Make, SetTest, TextTest},
    parse::{Grammar, is_one_of, refusal, unsupported},
    pattern::Language,
    token::{Refusal, Token},
};

/// Functions of PQL that are not supported.
const UNSUPPORTED: &[&str] = &[
    "CHAIN",
    "WHAT",
    "WHEN",
    "date",
    "currentMonth",
    "currentYear",
    "currentDayOfMonth",
    "getMonth",
    "getYear",
    "getDayOfMonth",
];

const TEXT_TESTS: &[(&str, TextTest)] = &[
    ("startsWith", TextTest::StartsWith),
    ("doesNotStartWith", TextTest::NotStartsWith),
    ("endsWith", TextTest::EndsWith),
    ("doesNotEndWith", TextTest::NotEndsWith),
    ("contains", TextTest::Contains),
    ("doesNotContain", TextTest::NotContains),
    ("equals", TextTest::Equals),
    ("notEqualTo", TextTest::NotEquals),
];

const SET_TESTS: &[(&str, SetTest)] = &[
    ("intersects", SetTest::Intersects),
    ("intersection", SetTest::Intersection),
    ("subsetOf", SetTest::SubsetOf),
    ("supersetOf", SetTest::SupersetOf),
    ("includes", SetTest::Includes),
];

const MADE: &[(&str, Make)] = &[
    ("distinct", Make::Distinct),
    ("head", Make::Head),
    ("count", Make::Count),
    ("keys", Make::Keys),
    ("values", Make::Values),
];

/// What is asked of each item, and whether it may be left out: then it is the item itself.
const OF_EACH: &[(&str, Each, bool)] = &[
    ("filter", Each::Filter, false),
    ("map", Each::Map, false),
    ("groupBy", Each::GroupBy, false),
    ("sum", Each::Sum, true),
    ("average", Each::Average, true),
    ("min", Each::Min, true),
    ("max", Each::Max, true),
];

const ENDS: &[(&str, End)] = &[("topN", End::Top), ("bottomN", End::Bottom)];

/// Functions that stand in no table.
const OTHERS: &[&str] = &["isNull", "isNotNull", "matches", "regexGroup", "get", "inSegment", "if"];

impl Grammar<'_> {
    /// A function of a value, from its opening parenthesis on.
    pub(super) fn call(&mut self, value: Expression, name: &str, at: usize) -> Result<Expression, Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let value = Box::new(value);
        self.want_symbol("(", "`(`")?;
        let called = if let Some((_, test)) = TEXT_TESTS.iter().find(|(known, _)| is(known)) {
            let other = Box::new(self.sum()?);
            Expression::Text(*test, value, other, self.case()?)
        } else if let Some((_, test)) = SET_TESTS.iter().find(|(known, _)| is(known)) {
            Expression::Sets(*test, value, Box::new(self.sum()?))
        } else if let Some((_, make)) = MADE.iter().find(|(known, _)| is(known)) {
            Expression::Made(*make, value)
        } else if let Some((_, each, may_be_left_out)) = OF_EACH.iter().find(|(known, ..)| is(known)) {
            let of_item = match self.is_symbol(")") && *may_be_left_out {
                true => self.within(None, |grammar| Ok(grammar.item()))?,
                false if *each == Each::Filter => self.within(None, Self::condition)?,
                false => self.within(None, Self::sum)?,
            };
            Expression::Each(*each, value, None, Box::new(of_item))
        } else if let Some((_, end)) = ENDS.iter().find(|(known, _)| is(known)) {
            let by = self.within(None, Self::sum)?;
            self.want_symbol(",", "`,` and how many")?;
            Expression::Ends(*end, value, Box::new(by), self.count()?)
        } else if is("isNull") || is("isNotNull") {
            Expression::IsNull(value, is("isNull"))
        } else if is("matches") {
            Expression::Matches(value, self.pattern(Language::Regex)?)
        } else if is("regexGroup") {
            let pattern = self.pattern(Language::Regex)?;
            self.want_symbol(",", "`,` and the number of a group")?;
            let at = self.at();
            let group = self.count()?;
            if group >= pattern.groups() {
                return Err(refusal(at, format!("the pattern has {} groups; 0 is the whole", pattern.groups() - 1)));
            }
            Expression::Group(value, pattern, group)
        } else if is("get") {
            Expression::Get(value, Box::new(self.sum()?))
        } else {
            return Err(unknown(name, at));
        };
        self.want_symbol(")", "`)`")?;
        Ok(called)
    }

    /// A function of nothing, from its opening parenthesis on.
    pub(super) fn free_call(&mut self, name: &str, at: usize) -> Result<Expression, Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if !is("if") && !is("inSegment") {
            return Err(unknown(name, at));
        }
        self.want_symbol("(", "`(`")?;
        let called = if is("if") {
            let test = self.condition()?;
            self.want_symbol(",", "`,`")?;
            let then = self.any()?;
            self.want_symbol(",", "`,`")?;
            Expression::If(Box::new([test, then, self.any()?]))
        } else {
            Expression::InSegment(self.audience()?)
        };
        self.want_symbol(")", "`)`")?;
        Ok(called)
    }

    /// `, true` or `, false`: whether case matters. It does, if nothing is said.
    fn case(&mut self) -> Result<Case, Refusal> {
        if !self.take_symbol(",") {
            return Ok(Case::Matters);
        }
        for (word, case) in [("true", Case::Matters), ("false", Case::Ignored)] {
            if self.take_word(word) {
                return Ok(case);
            }
        }
        Err(self.expected("true or false: whether case matters"))
    }

    fn audience(&mut self) -> Result<AudienceId, Refusal> {
        let at = self.at();
        let Token::Text(id) = self.peek() else { return Err(self.expected("an audience's id as a string")) };
        let id = id.parse().map_err(|error| refusal(at, format!("{error}")))?;
        self.skip();
        Ok(id)
    }
}

fn unknown(name: &str, at: usize) -> Refusal {
    if is_one_of(name, UNSUPPORTED) {
        return unsupported(at, name);
    }
    let tabled = TEXT_TESTS.iter().map(|row| row.0).chain(SET_TESTS.iter().map(|row| row.0));
    let tabled = tabled.chain(MADE.iter().map(|row| row.0)).chain(OF_EACH.iter().map(|row| row.0));
    let all = tabled.chain(ENDS.iter().map(|row| row.0)).chain(OTHERS.iter().copied());
    let nearest = all.min_by_key(|known| strsim::osa_distance(&known.to_lowercase(), &name.to_lowercase()));
    let nearest = nearest.unwrap_or_default();
    refusal(at, format!("there is no function `{name}`; the nearest is `{nearest}`"))
}
