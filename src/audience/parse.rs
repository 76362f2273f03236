//! The grammar of rules, as recursive descent over tokens: `not` binds tighter than a comparison's neighbours, then
//! `and`, then `or`. What is PQL but not understood here is refused by name, because a rule that is ignored in part
//! would export the wrong people.

use serde_json::Value;

use super::{
    condition::{Comparison, Condition, Operand},
    token::{Placed, Refusal, Token, tokens},
};
use crate::profile::path::AttributePath;

/// Deepest nesting of parentheses and `not`: a bound on the stack, far above what people write.
const DEPTH_MAX: usize = 64;

/// Words that begin something of PQL that is not supported, wherever an attribute could stand.
const UNSUPPORTED_FIRST: &[&str] =
    &["xEvent", "now", "today", "yesterday", "tomorrow", "exists", "forall", "select", "let", "if"];

/// Operators of PQL that are not supported.
const UNSUPPORTED_OPERATORS: &[&str] = &["like", "notIn", "occurs", "over", "from", "where", "before", "after"];

/// Signs of PQL that are not supported.
const UNSUPPORTED_SYMBOLS: &[&str] = &["+", "-", "*", "/", "%", "^", "$", "[", "=>", ":"];

/// Functions of PQL that are not supported.
const UNSUPPORTED_FUNCTIONS: &[&str] = &[
    "CHAIN",
    "WHAT",
    "WHEN",
    "inSegment",
    "date",
    "currentMonth",
    "currentYear",
    "currentDayOfMonth",
    "getMonth",
    "getYear",
    "getDayOfMonth",
    "startsWith",
    "doesNotStartWith",
    "endsWith",
    "doesNotEndWith",
    "contains",
    "doesNotContain",
    "equals",
    "notEqualTo",
    "matches",
    "regexGroup",
    "intersects",
    "intersection",
    "subsetOf",
    "supersetOf",
    "includes",
    "distinct",
    "groupBy",
    "filter",
    "map",
    "topN",
    "bottomN",
    "head",
    "count",
    "sum",
    "average",
    "min",
    "max",
    "get",
    "keys",
    "values",
];

const KEYWORDS: &[&str] = &["and", "or", "not", "in"];

/// Reads a whole rule.
pub(super) fn parse(text: &str) -> Result<Condition, Refusal> {
    let mut parser = Grammar { tokens: tokens(text)?, next: 0, depth: 0 };
    let condition = parser.any()?;
    match parser.peek() {
        Token::End => Ok(condition),
        _ => Err(parser.expected("`and`, `or` or the end")),
    }
}

struct Grammar<'i> {
    tokens: Vec<Placed<'i>>,
    /// Never past the last token, which is [`Token::End`].
    next: usize,
    depth: usize,
}

impl<'i> Grammar<'i> {
    fn any(&mut self) -> Result<Condition, Refusal> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(single(&mut parts).unwrap_or(Condition::Any(parts)))
    }

    fn all(&mut self) -> Result<Condition, Refusal> {
        let mut parts = vec![self.negated()?];
        while self.take_word("and") {
            parts.push(self.negated()?);
        }
        Ok(single(&mut parts).unwrap_or(Condition::All(parts)))
    }

    fn negated(&mut self) -> Result<Condition, Refusal> {
        let at = self.at();
        if self.take_word("not") || self.take_symbol("!") {
            return self.deeper(at, |parser| Ok(Condition::Not(Box::new(parser.negated()?))));
        }
        if self.take_symbol("(") {
            return self.deeper(at, |parser| {
                let condition = parser.any()?;
                parser.want_symbol(")", "`)`, `and` or `or`")?;
                Ok(condition)
            });
        }
        self.comparison()
    }

    fn deeper(
        &mut self,
        at: usize,
        read: impl FnOnce(&mut Self) -> Result<Condition, Refusal>,
    ) -> Result<Condition, Refusal> {
        if self.depth == DEPTH_MAX {
            return Err(refusal(at, format!("parentheses and `not` are nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let condition = read(self);
        self.depth -= 1;
        condition
    }

    fn comparison(&mut self) -> Result<Condition, Refusal> {
        let left = match self.literal()? {
            Some(value) => Operand::Literal(value),
            None => {
                let names = self.names()?;
                if self.is_symbol("(") {
                    return self.null_test(&names);
                }
                Operand::Path(path(&names)?)
            }
        };
        if self.take_word("in") {
            return Ok(Condition::In(left, self.list()?));
        }
        let at = self.at();
        let Some(comparison) = self.comparison_sign() else {
            return Err(self.expected("`=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `.isNull()` or `.isNotNull()`"));
        };
        let right = self.right_operand()?;
        let is_boolean = |operand: &Operand| matches!(operand, Operand::Literal(Value::Bool(_)));
        if comparison.orders() && (is_boolean(&left) || is_boolean(&right)) {
            return Err(refusal(at, format!("`{comparison}` does not apply to true and false: expected `=` or `!=`")));
        }
        Ok(Condition::Compare(left, comparison, right))
    }

    fn comparison_sign(&mut self) -> Option<Comparison> {
        let Token::Symbol(sign) = self.peek() else { return None };
        let comparison = Comparison::parse(sign)?;
        self.next += 1;
        Some(comparison)
    }

    fn right_operand(&mut self) -> Result<Operand, Refusal> {
        if let Some(value) = self.literal()? {
            return Ok(Operand::Literal(value));
        }
        let names = self.names()?;
        match self.is_symbol("(") {
            true => Err(function(&names)),
            false => Ok(Operand::Path(path(&names)?)),
        }
    }

    /// `path.isNull()` or `path.isNotNull()`, from the opening parenthesis on.
    fn null_test(&mut self, names: &[(&str, usize)]) -> Result<Condition, Refusal> {
        let Some(((function_name, _), object @ [_, ..])) = names.split_last() else { return Err(function(names)) };
        let test: fn(AttributePath) -> Condition = match () {
            () if function_name.eq_ignore_ascii_case("isNull") => Condition::IsNull,
            () if function_name.eq_ignore_ascii_case("isNotNull") => Condition::IsNotNull,
            () => return Err(function(names)),
        };
        self.want_symbol("(", "`(`")?;
        self.want_symbol(")", "`)`")?;
        Ok(test(path(object)?))
    }

    fn list(&mut self) -> Result<Vec<Value>, Refusal> {
        let mut values = Vec::new();
        if !self.take_symbol("[") {
            return Err(self.expected("a list such as [\"a\", \"b\"]"));
        }
        if self.take_symbol("]") {
            return Ok(values);
        }
        loop {
            match self.literal()? {
                Some(value) => values.push(value),
                None => return Err(self.expected("a string, a number, true or false")),
            }
            if !self.take_symbol(",") {
                self.want_symbol("]", "`,` or `]`")?;
                return Ok(values);
            }
        }
    }

    fn literal(&mut self) -> Result<Option<Value>, Refusal> {
        let value = match self.peek() {
            Token::Text(text) => Value::from(text.as_str()),
            Token::Number(number) => Value::Number(number.clone()),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Value::Bool(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Value::Bool(false),
            Token::Word(_) | Token::Symbol(_) | Token::End => return Ok(None),
        };
        self.next += 1;
        match self.is_symbol(".") {
            true => Err(self.expected("an operator after a literal")),
            false => Ok(Some(value)),
        }
    }

    /// The names of a path with their places; at least one.
    fn names(&mut self) -> Result<Vec<(&'i str, usize)>, Refusal> {
        let mut names = Vec::new();
        loop {
            let at = self.at();
            match self.peek() {
                Token::Word(word) if !names.is_empty() || !is_one_of(word, KEYWORDS) => {
                    let word = *word;
                    if names.is_empty() && is_one_of(word, UNSUPPORTED_FIRST) {
                        return Err(unsupported(at, word));
                    }
                    names.push((word, at));
                    self.next += 1;
                }
                _ if names.is_empty() => {
                    return Err(self.expected("an attribute path, a string, a number, true or false"));
                }
                _ => return Err(self.expected("a name after `.`")),
            }
            if !self.take_symbol(".") {
                return Ok(names);
            }
        }
    }

    fn peek(&self) -> &Token<'i> {
        &self.tokens[self.next].token
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    fn is_symbol(&self, wanted: &str) -> bool {
        matches!(self.peek(), Token::Symbol(symbol) if *symbol == wanted)
    }

    fn take_symbol(&mut self, wanted: &str) -> bool {
        let taken = self.is_symbol(wanted);
        self.next += usize::from(taken);
        taken
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let taken = matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(taken);
        taken
    }

    fn want_symbol(&mut self, wanted: &str, expected: &str) -> Result<(), Refusal> {
        match self.take_symbol(wanted) {
            true => Ok(()),
            false => Err(self.expected(expected)),
        }
    }

    /// The refusal of the present token where something else is expected.
    fn expected(&self, what: &str) -> Refusal {
        let found = self.peek();
        match found {
            Token::Word(word) if is_one_of(word, UNSUPPORTED_OPERATORS) => unsupported(self.at(), word),
            Token::Symbol(symbol) if UNSUPPORTED_SYMBOLS.contains(symbol) => unsupported(self.at(), symbol),
            _ => refusal(self.at(), format!("expected {what}, found {found}")),
        }
    }
}

fn single(parts: &mut Vec<Condition>) -> Option<Condition> {
    if parts.len() == 1 { parts.pop() } else { None }
}

fn path(names: &[(&str, usize)]) -> Result<AttributePath, Refusal> {
    let at = names.first().map_or(0, |(_, at)| *at);
    let text: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    text.join(".").parse().map_err(|error| refusal(at, format!("{error}")))
}

/// The refusal of a call where `names` ends with the function.
fn function(names: &[(&str, usize)]) -> Refusal {
    let (name, at) = names.last().copied().unwrap_or_default();
    match is_one_of(name, UNSUPPORTED_FUNCTIONS) {
        true => unsupported(at, name),
        false => {
            refusal(at, format!("`{name}(` is not understood: expected a test `path.isNull()` or `path.isNotNull()`"))
        }
    }
}

fn unsupported(at: usize, word: &str) -> Refusal {
    refusal(at, format!("`{word}` is PQL, but not supported yet"))
}

fn refusal(at: usize, message: String) -> Refusal {
    Refusal { at, message }
}

fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(word))
}
