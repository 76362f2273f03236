//! The grammar's way through the tokens.

use super::{
    parse::{Grammar, is_one_of, refusal, unsupported},
    token::{Refusal, Token},
};

/// Deepest nesting of parentheses, `not` and the like: a bound on the stack, far above what people write.
const DEPTH_MAX: usize = 64;

/// Operators of PQL that are not supported.
const UNSUPPORTED_OPERATORS: &[&str] = &["occurs", "before", "after"];

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

    pub(super) fn is_word(&self, wanted: &str) -> bool {
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
