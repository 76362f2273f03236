//! The grammar of rules, as recursive descent over tokens. From the loosest to the tightest: `or`, `and`, `not`, comparisons,
//! `+ -`, `* / %`, then functions, filters and members. What is PQL but not understood here is refused by name, because a rule
//! that is ignored in part would export the wrong people.

use serde_json::Value;

use super::{
    expression::{Each, Expression, Kind, Scope},
    pattern::{Language, Pattern},
    token::{Placed, Refusal, Token, tokens},
    value::{Arithmetic, Comparison},
};

/// Most operators of one kind, or functions, in a row.
const ROW_MAX: usize = 64;

/// Most parts that stand one in another: a bound on the stack when it is evaluated.
const HEIGHT_MAX: usize = 192;

/// Most names in a path.
const NAMES_MAX: usize = 32;

/// Words that begin something of PQL that is not supported, wherever an attribute could stand.
const UNSUPPORTED_FIRST: &[&str] = &["xEvent", "now", "today", "yesterday", "tomorrow"];

/// Words that end an expression.
pub(super) const OPERATORS: &[&str] =
    &["and", "or", "not", "in", "notIn", "like", "occurs", "over", "from", "where", "before", "after"];

/// Words that make one of many, before `… over x from list`.
const AGGREGATES: &[(&str, Each)] =
    &[("sum", Each::Sum), ("average", Each::Average), ("min", Each::Min), ("max", Each::Max), ("count", Each::Map)];

const AFTER_VALUE: &str = "`=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `notIn`, `like` or a function such as `.isNull()`";

/// Reads an expression of any kind.
pub(super) fn expression(text: &str) -> Result<Expression, Refusal> {
    whole(text, Grammar::any)
}

/// Reads a rule, which is true or false.
pub(super) fn condition(text: &str) -> Result<Expression, Refusal> {
    whole(text, Grammar::condition)
}

fn whole<'i>(text: &'i str, read: fn(&mut Grammar<'i>) -> Result<Expression, Refusal>) -> Result<Expression, Refusal> {
    let mut grammar = Grammar { tokens: tokens(text)?, next: 0, depth: 0, scopes: vec![None], profile: None };
    grammar.parameter();
    let expression = read(&mut grammar)?;
    match grammar.peek() {
        Token::End if expression.height() > HEIGHT_MAX => {
            Err(refusal(0, format!("the rule's parts stand more than {HEIGHT_MAX} deep one in another")))
        }
        Token::End => Ok(expression),
        _ => Err(grammar.expected("`and`, `or` or the end")),
    }
}

pub(super) struct Grammar<'i> {
    pub(super) tokens: Vec<Placed<'i>>,
    /// Never past the last token, which is [`Token::End`].
    pub(super) next: usize,
    pub(super) depth: usize,
    /// The scopes that are open, from the profile inwards.
    pub(super) scopes: Vec<Scope>,
    /// What the rule calls the profile.
    profile: Option<&'i str>,
}

impl<'i> Grammar<'i> {
    /// `(Profile) =>`
    fn parameter(&mut self) {
        let tokens: Vec<&Token<'i>> = self.tokens.iter().map(|placed| &placed.token).take(4).collect();
        if let [Token::Symbol("("), Token::Word(name), Token::Symbol(")"), Token::Symbol("=>")] = tokens[..] {
            self.profile = Some(name);
            self.next = 4;
        }
    }

    /// What is true or false.
    pub(super) fn condition(&mut self) -> Result<Expression, Refusal> {
        let expression = self.any()?;
        self.truth(expression)
    }

    /// A value of any kind.
    pub(super) fn any(&mut self) -> Result<Expression, Refusal> {
        self.joined("or", Expression::Any, Self::all)
    }

    fn all(&mut self) -> Result<Expression, Refusal> {
        self.joined("and", Expression::All, Self::negated)
    }

    fn joined(
        &mut self,
        word: &str,
        join: fn(Vec<Expression>) -> Expression,
        read: fn(&mut Self) -> Result<Expression, Refusal>,
    ) -> Result<Expression, Refusal> {
        let first = read(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![self.truth(first)?];
        while self.take_word(word) {
            let part = read(self)?;
            parts.push(self.truth(part)?);
        }
        Ok(join(parts))
    }

    pub(super) fn negated(&mut self) -> Result<Expression, Refusal> {
        if !(self.take_word("not") || self.take_symbol("!")) {
            return self.comparison();
        }
        self.deeper(|grammar| {
            let inner = grammar.negated()?;
            Ok(Expression::Not(Box::new(grammar.truth(inner)?)))
        })
    }

    /// An expression where true or false is wanted; a list is true when there is something in it.
    fn truth(&self, expression: Expression) -> Result<Expression, Refusal> {
        match (&expression, expression.kind()) {
            (Expression::Literal(_) | Expression::List(_), _) => Err(self.expected(AFTER_VALUE)),
            (_, Kind::Boolean) => Ok(expression),
            (_, Kind::List) => Ok(Expression::NotEmpty(Box::new(expression))),
            (_, Kind::Other | Kind::Any) => Err(self.expected(AFTER_VALUE)),
        }
    }

    fn comparison(&mut self) -> Result<Expression, Refusal> {
        let left = self.sum()?;
        let at = self.at();
        if let Some(comparison) = self.comparison_sign() {
            let right = self.sum()?;
            let is_boolean = |operand: &Expression| operand.kind() == Kind::Boolean;
            if comparison.orders() && (is_boolean(&left) || is_boolean(&right)) {
                let sign = comparison.sign();
                return Err(refusal(at, format!("`{sign}` does not apply to true and false: expected `=` or `!=`")));
            }
            return Ok(Expression::Compare(Box::new(left), comparison, Box::new(right)));
        }
        for (word, wanted) in [("in", true), ("notIn", false)] {
            if self.take_word(word) {
                return Ok(Expression::In(Box::new(left), Box::new(self.sum()?), wanted));
            }
        }
        if self.take_word("like") {
            return Ok(Expression::Matches(Box::new(left), self.pattern(Language::Like)?));
        }
        Ok(left)
    }

    fn comparison_sign(&mut self) -> Option<Comparison> {
        let Token::Symbol(sign) = self.peek() else { return None };
        let comparison = Comparison::parse(sign)?;
        self.next += 1;
        Some(comparison)
    }

    /// A pattern, compiled.
    pub(super) fn pattern(&mut self, language: Language) -> Result<Pattern, Refusal> {
        let at = self.at();
        let Token::Text(text) = self.peek() else { return Err(self.expected("a pattern as a string")) };
        let pattern =
            Pattern::new(text, language).map_err(|reason| refusal(at, format!("this pattern is refused: {reason}")))?;
        self.next += 1;
        Ok(pattern)
    }

    pub(super) fn sum(&mut self) -> Result<Expression, Refusal> {
        self.reckoned(&[("+", Arithmetic::Plus), ("-", Arithmetic::Minus)], |grammar| {
            grammar
                .reckoned(&[("*", Arithmetic::Times), ("/", Arithmetic::By), ("%", Arithmetic::Modulo)], Self::signed)
        })
    }

    fn reckoned(
        &mut self,
        signs: &[(&str, Arithmetic)],
        read: fn(&mut Self) -> Result<Expression, Refusal>,
    ) -> Result<Expression, Refusal> {
        let mut left = read(self)?;
        for row in 0.. {
            let at = self.at();
            let Some((sign, arithmetic)) = signs.iter().find(|(sign, _)| self.take_symbol(sign)) else { break };
            if row == ROW_MAX {
                return Err(refusal(at, format!("at most {ROW_MAX} operators of a kind stand in a row")));
            }
            let right = read(self)?;
            if [&left, &right].into_iter().any(|side| !is_number(side)) {
                return Err(refusal(at, format!("`{sign}` applies to numbers")));
            }
            left = Expression::Reckon(Box::new(left), *arithmetic, Box::new(right));
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Expression, Refusal> {
        let at = self.at();
        if !self.take_symbol("-") {
            return self.with_members();
        }
        self.deeper(|grammar| match grammar.signed()? {
            Expression::Literal(Value::Number(number)) => {
                let zero = Value::from(0);
                Ok(Expression::Literal(Arithmetic::Minus.reckon(&zero, &Value::Number(number))))
            }
            inner if is_number(&inner) => {
                let zero = Box::new(Expression::Literal(Value::from(0)));
                Ok(Expression::Reckon(zero, Arithmetic::Minus, Box::new(inner)))
            }
            _ => Err(refusal(at, "`-` applies to numbers".to_owned())),
        })
    }

    /// A value, and what is asked of it.
    pub(super) fn with_members(&mut self) -> Result<Expression, Refusal> {
        let mut value = self.first()?;
        for _ in 0..=ROW_MAX {
            if self.take_symbol("[") {
                value = self.filter(value)?;
            } else if self.is_symbol(".") && matches!(value, Expression::Literal(Value::Number(_) | Value::Bool(_))) {
                return Err(self.expected("an operator after a literal"));
            } else if self.take_symbol(".") {
                value = self.member(value)?;
            } else {
                return Ok(value);
            }
        }
        Err(refusal(self.at(), format!("at most {ROW_MAX} names, functions and filters stand in a row")))
    }

    fn member(&mut self, value: Expression) -> Result<Expression, Refusal> {
        let (name, at) = self.name()?;
        if self.is_symbol("(") {
            return self.deeper(|grammar| grammar.call(value, name, at));
        }
        Ok(match value {
            Expression::Path(_, names) | Expression::Member(_, names) if names.len() == NAMES_MAX => {
                return Err(refusal(at, format!("a path has at most {NAMES_MAX} names")));
            }
            Expression::Path(scope, mut names) => {
                names.push(name.to_owned());
                Expression::Path(scope, names)
            }
            Expression::Member(inner, mut names) => {
                names.push(name.to_owned());
                Expression::Member(inner, names)
            }
            Expression::Literal(_) => return Err(self.expected("`(` after a function of a string")),
            other => Expression::Member(Box::new(other), vec![name.to_owned()]),
        })
    }

    /// `list[condition]`, from behind the bracket on.
    fn filter(&mut self, list: Expression) -> Result<Expression, Refusal> {
        self.deeper(|grammar| {
            let condition = grammar.within(None, Self::condition)?;
            grammar.want_symbol("]", "`]`, `and` or `or`")?;
            Ok(Expression::Each(Each::Filter, Box::new(list), None, Box::new(condition)))
        })
    }

    /// A name behind a dot, and its place.
    fn name(&mut self) -> Result<(&'i str, usize), Refusal> {
        let at = self.at();
        let Token::Word(word) = self.peek() else { return Err(self.expected("a name after `.`")) };
        let word = *word;
        self.next += 1;
        Ok((word, at))
    }

    /// What an expression can begin with.
    fn first(&mut self) -> Result<Expression, Refusal> {
        let at = self.at();
        let literal = match self.peek() {
            Token::Text(text) => Value::from(text.as_str()),
            Token::Number(number) => Value::Number(number.clone()),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Value::Bool(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Value::Bool(false),
            Token::Word(word) if !is_one_of(word, OPERATORS) => {
                let word = *word;
                self.next += 1;
                return self.worded(word, at);
            }
            Token::Symbol("(") => {
                self.next += 1;
                return self.deeper(|grammar| {
                    let inner = grammar.any()?;
                    grammar.want_symbol(")", "`)`, `and` or `or`")?;
                    Ok(inner)
                });
            }
            Token::Symbol("[") => {
                self.next += 1;
                return self.deeper(Self::list);
            }
            Token::Symbol("^") => return self.upwards(),
            Token::Symbol("$") => return self.numbered(),
            _ => return Err(self.expected("an attribute path, a string, a number, true or false")),
        };
        self.next += 1;
        Ok(Expression::Literal(literal))
    }

    fn list(&mut self) -> Result<Expression, Refusal> {
        let mut parts = Vec::new();
        if self.take_symbol("]") {
            return Ok(Expression::List(parts));
        }
        loop {
            parts.push(self.sum()?);
            if !self.take_symbol(",") {
                self.want_symbol("]", "`,` or `]`")?;
                let literal = |part: &Expression| match part {
                    Expression::Literal(value) => Some(value.clone()),
                    _ => None,
                };
                // A list that is always the same is made once.
                return Ok(match parts.iter().map(literal).collect() {
                    Some(values) => Expression::Literal(Value::Array(values)),
                    None => Expression::List(parts),
                });
            }
        }
    }

    /// `^`, once for each filter to leave, and a name.
    fn upwards(&mut self) -> Result<Expression, Refusal> {
        let at = self.at();
        let mut up = 0;
        while self.take_symbol("^") {
            up += 1;
        }
        let Some((scope, _)) = self.scopes.iter().enumerate().rev().filter(|(_, name)| name.is_none()).nth(up) else {
            return Err(refusal(at, "`^` leads out of a filter, and there are not so many here".to_owned()));
        };
        // AEP writes `^^.name`.
        self.take_symbol(".");
        let (name, _) = self.name()?;
        Ok(Expression::Path(scope, vec![name.to_owned()]))
    }

    /// `$1`, the profile.
    fn numbered(&mut self) -> Result<Expression, Refusal> {
        let at = self.at();
        self.next += 1;
        match self.peek() {
            Token::Number(number) if number.as_u64() == Some(1) => self.next += 1,
            _ => return Err(refusal(at, "a rule has one parameter, `$1`: the profile".to_owned())),
        }
        self.want_symbol(".", "`.` and a name")?;
        let (name, _) = self.name()?;
        Ok(Expression::Path(0, vec![name.to_owned()]))
    }

    /// What a word begins: a form, a variable, or a path.
    fn worded(&mut self, word: &'i str, at: usize) -> Result<Expression, Refusal> {
        let is = |form: &str| word.eq_ignore_ascii_case(form);
        if let Some(scope) = self.scopes.iter().rposition(|name| name.as_deref() == Some(word)) {
            return Ok(Expression::Path(scope, Vec::new()));
        }
        if self.profile == Some(word) {
            return Ok(Expression::Path(0, Vec::new()));
        }
        if self.is_symbol("(") {
            return self.deeper(|grammar| grammar.free_call(word, at));
        }
        if is("exists") || is("forall") {
            let each = if is("exists") { Each::Exists } else { Each::Forall };
            return self.deeper(|grammar| grammar.quantified(each));
        }
        if is("select") {
            return self.deeper(|grammar| grammar.selected());
        }
        if is("let") {
            return self.deeper(|grammar| grammar.named());
        }
        if let Some((_, each)) = AGGREGATES.iter().find(|(name, _)| is(name))
            && matches!(self.peek(), Token::Word(next) if !is_one_of(next, OPERATORS))
        {
            let each = *each;
            return self.deeper(|grammar| grammar.aggregated(each));
        }
        if is_one_of(word, UNSUPPORTED_FIRST) {
            return Err(unsupported(at, word));
        }
        if is("null") {
            return Err(refusal(
                at,
                "`null` is nothing to compare with: write `.isNull()` or `.isNotNull()`".to_owned(),
            ));
        }
        let scope = self.scopes.iter().rposition(Option::is_none).unwrap_or_default();
        if scope == 0 && is("segmentMembership") {
            return Err(refusal(at, "memberships are asked for with `inSegment(\"id\")`".to_owned()));
        }
        Ok(Expression::Path(scope, vec![word.to_owned()]))
    }
}

/// Whether it may be a number.
fn is_number(expression: &Expression) -> bool {
    match expression {
        Expression::Literal(literal) => literal.is_number(),
        other => matches!(other.kind(), Kind::Other | Kind::Any),
    }
}

pub(super) fn unsupported(at: usize, word: &str) -> Refusal {
    refusal(at, format!("`{word}` is PQL, but not supported yet"))
}

pub(super) fn refusal(at: usize, message: String) -> Refusal {
    Refusal { at, message }
}

pub(super) fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(word))
}
