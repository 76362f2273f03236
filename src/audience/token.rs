//! The tokens of a rule: PQL text cut into words, literals and symbols, each with the place where it begins.

use std::fmt;

use serde_json::Number;
use winnow::{
    Parser,
    ascii::{digit1, multispace0},
    combinator::{alt, opt},
    error::ParserError,
    token::{any, one_of, take_while},
};

/// A token, and the byte of the text where it begins.
#[derive(Debug)]
pub(super) struct Placed<'i> {
    pub(super) token: Token<'i>,
    pub(super) at: usize,
}

/// A piece of a rule.
#[derive(Debug)]
pub(super) enum Token<'i> {
    /// A string literal, unescaped.
    Text(String),
    /// A number literal, without a sign.
    Number(Number),
    /// A keyword or a name in a path.
    Word(&'i str),
    /// Anything else: an operator, a bracket, or a sign that PQL does not know.
    Symbol(&'i str),
    /// The end of the text.
    End,
}

/// The token as a refusal names it.
impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("a string"),
            Self::Number(number) => write!(f, "`{number}`"),
            // A control character is shown escaped: a refusal is printed to terminals.
            Self::Symbol(text) if text.contains(char::is_control) => write!(f, "`{}`", text.escape_debug()),
            Self::Word(text) | Self::Symbol(text) => write!(f, "`{text}`"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Why and where a rule is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Cuts the text into tokens; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, Refusal> {
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        let at = text.len() - skip_space(&mut rest).len();
        if rest.is_empty() {
            tokens.push(Placed { token: Token::End, at });
            return Ok(tokens);
        }
        let token = token(&mut rest)
            .map_err(|Stuck { left, message }| Refusal { at: text.len() - left, message: message.into() })?;
        tokens.push(Placed { token, at });
    }
}

/// A lexing error: how much text was left, and what to say.
#[derive(Debug)]
struct Stuck {
    left: usize,
    message: &'static str,
}

impl Stuck {
    fn at(rest: &str, message: &'static str) -> Self {
        Self { left: rest.len(), message }
    }
}

impl ParserError<&str> for Stuck {
    type Inner = Self;

    fn from_input(rest: &&str) -> Self {
        Self::at(rest, "this is not PQL")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

fn skip_space<'i>(rest: &mut &'i str) -> &'i str {
    // Nothing to skip is no error, so the result says nothing.
    let _: Result<&str, Stuck> = multispace0.parse_next(rest);
    rest
}

fn token<'i>(rest: &mut &'i str) -> Result<Token<'i>, Stuck> {
    if rest.starts_with('"') {
        return string(rest);
    }
    let start = *rest;
    match opt(digits).parse_next(rest)? {
        None => alt((word.map(Token::Word), symbol.map(Token::Symbol))).parse_next(rest),
        Some(_) if rest.starts_with(continues_word) => {
            Err(Stuck::at(rest, "expected a space or an operator after a number"))
        }
        Some(digits) => number(digits)
            .map(Token::Number)
            .ok_or_else(|| Stuck::at(start, "this number is too large: expected a 64-bit integer or a double")),
    }
}

fn string<'i>(rest: &mut &'i str) -> Result<Token<'i>, Stuck> {
    let opening = *rest;
    any.parse_next(rest)?;
    let mut text = String::new();
    loop {
        text.push_str(take_while(0.., |c| c != '"' && c != '\\').parse_next(rest)?);
        match opt(any).parse_next(rest)? {
            Some('"') => return Ok(Token::Text(text)),
            Some(_) => {
                let escaped: Result<char, Stuck> = one_of(['"', '\\']).parse_next(rest);
                text.push(escaped.map_err(|_| Stuck::at(rest, "expected `\"` or `\\` after `\\` in a string"))?);
            }
            None => return Err(Stuck::at(opening, "this string is not closed: expected `\"`")),
        }
    }
}

fn word<'i>(rest: &mut &'i str) -> Result<&'i str, Stuck> {
    (one_of(begins_word), take_while(0.., continues_word)).take().parse_next(rest)
}

fn begins_word(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn continues_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text of a number.
fn digits<'i>(rest: &mut &'i str) -> Result<&'i str, Stuck> {
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1);
    (digit1, opt(('.', digit1)), opt(exponent)).take().parse_next(rest)
}

/// Integers stay exact, as the attributes that they are compared with do.
fn number(digits: &str) -> Option<Number> {
    match digits.contains(['.', 'e', 'E']) {
        true => digits.parse().ok().and_then(Number::from_f64),
        false => digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from)).ok(),
    }
}

fn symbol<'i>(rest: &mut &'i str) -> Result<&'i str, Stuck> {
    alt(("=>", "!=", "<=", ">=", any.take())).parse_next(rest)
}
