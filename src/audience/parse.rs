//! The grammar of rules, as recursive descent over tokens. From the loosest to the tightest: `or`, `and`, `not`, comparisons,
//! `+ -`, `* / %`, then functions, filters and members. What is PQL but not understood here is refused by name, because a rule
//! that is ignored in part would export the wrong people.

use serde_json::Value;

use super::{
    expression::{Each, Expression, Kind, Make, Scope},
    pattern::{Language, Pattern},
    token::{Placed, Refusal, Token, tokens},
    value::{Arithmetic, Comparison},
};

/// Deepest nesting of parentheses, `not` and the like: a bound on the stack, far above what people write.
const DEPTH_MAX: usize = 64;

/// Most operators of one kind, or functions, in a row.
const ROW_MAX: usize = 64;

/// Most parts that stand one in another: a bound on the stack when it is evaluated.
const HEIGHT_MAX: usize = 192;

/// Most names in a path.
const NAMES_MAX: usize = 32;

/// Words that begin something of PQL that is not supported, wherever an attribute could stand.
const UNSUPPORTED_FIRST: &[&str] = &["xEvent", "now", "today", "yesterday", "tomorrow"];

/// Operators of PQL that are not supported.
const UNSUPPORTED_OPERATORS: &[&str] = &["occurs", "before", "after"];

/// Words that end an expression.
const OPERATORS: &[&str] =
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
    tokens: Vec<Placed<'i>>,
    /// Never past the last token, which is [`Token::End`].
    next: usize,
    depth: usize,
    /// The scopes that are open, from the profile inwards.
    scopes: Vec<Scope>,
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

    fn negated(&mut self) -> Result<Expression, Refusal> {
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

/// Scopes: what `exists`, `select`, `let` and their like open.
impl<'i> Grammar<'i> {
    /// What the innermost scope is of.
    pub(super) fn item(&self) -> Expression {
        Expression::Path(self.scopes.len() - 1, Vec::new())
    }

    /// Reads what stands in a scope of its own.
    pub(super) fn within<T>(
        &mut self,
        name: Scope,
        read: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.scopes.push(name);
        let result = read(self);
        self.scopes.pop();
        result
    }

    /// `x from list where condition`, and more of them with commas between.
    fn quantified(&mut self, each: Each) -> Result<Expression, Refusal> {
        let (variable, list) = self.from()?;
        if !(self.take_word("where") || self.take_symbol(":")) {
            return Err(self.expected("`where`"));
        }
        let condition = self.within(Some(variable.clone()), |grammar| {
            let condition = grammar.condition()?;
            if !grammar.take_symbol(",") {
                return Ok(condition);
            }
            grammar.deeper(|grammar| Ok(Expression::All(vec![condition, grammar.quantified(each)?])))
        })?;
        Ok(Expression::Each(each, Box::new(list), Some(variable), Box::new(condition)))
    }

    /// `x from list where condition`
    fn selected(&mut self) -> Result<Expression, Refusal> {
        let (variable, list) = self.from()?;
        self.kept(&variable, list)
    }

    /// The items of a list of which what follows `where` is true.
    fn kept(&mut self, variable: &str, list: Expression) -> Result<Expression, Refusal> {
        if !(self.take_word("where") || self.take_symbol(":")) {
            return Ok(list);
        }
        let name = Some(variable.to_owned());
        let condition = self.within(name.clone(), Self::condition)?;
        Ok(Expression::Each(Each::Filter, Box::new(list), name, Box::new(condition)))
    }

    fn from(&mut self) -> Result<(String, Expression), Refusal> {
        let variable = self.variable()?;
        if !self.take_word("from") {
            return Err(self.expected("`from`"));
        }
        Ok((variable, self.with_members()?))
    }

    fn variable(&mut self) -> Result<String, Refusal> {
        match self.peek() {
            Token::Word(word) if !is_one_of(word, OPERATORS) => {
                let variable = (*word).to_owned();
                self.next += 1;
                Ok(variable)
            }
            _ => Err(self.expected("a name for the items")),
        }
    }

    /// `expression over x from list where condition`: what is last is read first.
    fn aggregated(&mut self, each: Each) -> Result<Expression, Refusal> {
        let begin = self.next;
        let Some(over) = self.over() else { return Err(self.expected("`… over x from list`")) };
        self.next = over + 1;
        let (variable, list) = self.from()?;
        let list = self.kept(&variable, list)?;
        let end = std::mem::replace(&mut self.next, begin);
        let of_item = self.within(Some(variable.clone()), Self::sum)?;
        if self.next != over {
            return Err(self.expected("`over`"));
        }
        self.next = end;
        let made = Expression::Each(each, Box::new(list), Some(variable), Box::new(of_item));
        Ok(match each {
            // `count`: of all that it is of each.
            Each::Map => Expression::Made(Make::Count, Box::new(made)),
            _ => made,
        })
    }

    /// Where the `over` of what begins here stands.
    fn over(&self) -> Option<usize> {
        let mut open = 0_usize;
        for (index, placed) in self.tokens.iter().enumerate().skip(self.next) {
            match placed.token {
                Token::Word(word) if open == 0 && word.eq_ignore_ascii_case("over") => return Some(index),
                Token::Symbol("(" | "[") => open += 1,
                Token::Symbol(")" | "]") => open = open.checked_sub(1)?,
                _ => {}
            }
        }
        None
    }

    /// `name = value in condition`
    fn named(&mut self) -> Result<Expression, Refusal> {
        let name = self.variable()?;
        self.want_symbol("=", "`=`")?;
        let value = self.sum()?;
        if !self.take_word("in") {
            return Err(self.expected("`in`"));
        }
        let body = self.within(Some(name.clone()), Self::negated)?;
        Ok(Expression::Let(Box::new(value), name, Box::new(body)))
    }
}

/// Tokens.
impl<'i> Grammar<'i> {
    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.depth == DEPTH_MAX {
            let at = self.tokens[self.next.saturating_sub(1)].at;
            return Err(refusal(at, format!("parentheses, `not` and the like are nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    pub(super) fn peek(&self) -> &Token<'i> {
        &self.tokens[self.next].token
    }

    pub(super) fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    pub(super) fn is_symbol(&self, wanted: &str) -> bool {
        matches!(self.peek(), Token::Symbol(symbol) if *symbol == wanted)
    }

    pub(super) fn take_symbol(&mut self, wanted: &str) -> bool {
        let taken = self.is_symbol(wanted);
        self.next += usize::from(taken);
        taken
    }

    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    fn is_word(&self, wanted: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(wanted))
    }

    pub(super) fn take_word(&mut self, wanted: &str) -> bool {
        let taken = self.is_word(wanted);
        self.next += usize::from(taken);
        taken
    }

    /// A literal integer that is not negative.
    pub(super) fn count(&mut self) -> Result<usize, Refusal> {
        let count = match self.peek() {
            Token::Number(number) => number.as_u64().and_then(|count| usize::try_from(count).ok()),
            _ => None,
        };
        let count = count.ok_or_else(|| self.expected("a number such as 5"))?;
        self.next += 1;
        Ok(count)
    }

    pub(super) fn want_symbol(&mut self, wanted: &str, expected: &str) -> Result<(), Refusal> {
        match self.take_symbol(wanted) {
            true => Ok(()),
            false => Err(self.expected(expected)),
        }
    }

    /// The refusal of the present token where something else is expected.
    pub(super) fn expected(&self, what: &str) -> Refusal {
        let found = self.peek();
        match found {
            Token::Word(word) if is_one_of(word, UNSUPPORTED_OPERATORS) => unsupported(self.at(), word),
            _ => refusal(self.at(), format!("expected {what}, found {found}")),
        }
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
