//! The grammar of what opens a scope: `exists`, `forall`, `select`, `… over … from`, `let`.

use super::{
    expression::{Each, Expression, Make, Scope},
    parse::{Grammar, OPERATORS, is_one_of},
    token::{Refusal, Token},
};

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
    pub(super) fn quantified(&mut self, each: Each) -> Result<Expression, Refusal> {
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
    pub(super) fn selected(&mut self) -> Result<Expression, Refusal> {
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
    pub(super) fn aggregated(&mut self, each: Each) -> Result<Expression, Refusal> {
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
    pub(super) fn named(&mut self) -> Result<Expression, Refusal> {
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
