//! The rule of an audience: an expression of AEP's Profile Query Language (PQL), compiled once.

use std::{collections::BTreeSet, fmt};

use super::{condition::Condition, parse::parse, token::Refusal};
use crate::profile::path::{AttributePath, Attributes};

/// Longest rule, in bytes. What AEP's builder writes is shorter than a tenth of it.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A compiled rule. Its `Display` is the text it was compiled from.
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    condition: Condition,
    reads: Vec<AttributePath>,
}

impl Rule {
    /// Compiles a rule; `docs/rules.md` lists what of PQL is understood.
    ///
    /// # Errors
    /// [`RuleError`] with the place of the first thing that is not.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("a rule has at most {TEXT_BYTES_MAX} bytes, this one {}", text.len());
            return Err(RuleError::new(text, Refusal { at: 0, message }));
        }
        let condition = parse(text).map_err(|refusal| RuleError::new(text, refusal))?;
        let mut reads = BTreeSet::new();
        condition.collect_reads(&mut reads);
        Ok(Self { text: text.to_owned(), condition, reads: reads.into_iter().collect() })
    }

    /// True when the profile with these attributes is in the audience.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        self.condition.holds(attributes)
    }

    /// The attributes that it reads, sorted, each once: only writing one of them can change what it says.
    pub fn reads(&self) -> &[AttributePath] {
        &self.reads
    }
}

/// Equal when their texts are: everything else follows from that.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a rule is refused, and where. `Display` has three lines: the reason, the rule's line, a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule line {line}, column {column}: {message}\n{excerpt}\n{:>caret$}", "^", caret = caret + 1)]
pub struct RuleError {
    line: usize,
    column: usize,
    message: String,
    excerpt: String,
    caret: usize,
}

impl RuleError {
    /// The line in the rule's text, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from 1; one past the line's end when the rule ends too early.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The reason alone, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn new(text: &str, Refusal { at, message }: Refusal) -> Self {
        /// Characters shown on each side of the place: a rule may be one line of many thousands.
        const AROUND: usize = 50;
        let (before, after) = text.split_at(at);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[line_start..].chars().count();
        let cut = column.saturating_sub(AROUND);
        let rest_of_line = after.split('\n').next().unwrap_or_default();
        let shown = before[line_start..].chars().skip(cut).chain(rest_of_line.chars().take(AROUND));
        Self {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            message,
            // A control character would move the caret, or worse, the terminal.
            excerpt: shown.map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned(),
            caret: column - cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::audience::condition::{Comparison, Operand};

    fn attributes() -> Attributes {
        let value = json!({
            "home": {"country": "US", "zip": null}, "work": {"country": "US"}, "city": "Österreich",
            "age": 21, "score": 1.5, "one": 1.0, "active": true, "big": 9_007_199_254_740_993_i64,
            "huge": u64::MAX, "negative": -3, "tags": ["a", 1], "tags2": ["a", 1.0], "in": {"and": "x"}, "quote": "a\"b\\c",
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rule_decides_by_the_documented_semantics() {
        for (rule, expected) in [
            (r#"home.country = "US""#, true),
            (r#""US" = home.country"#, true),
            (r#"home.country = "us""#, false),
            (r#"home.country = work.country"#, true),
            (r#"home.country != "CA""#, true),
            ("age > 20", true),
            ("age >= 21 AND age <= 21", true),
            ("age < 21.5", true),
            ("one = 1", true),
            ("score > 1", true),
            ("score = 15e-1", true),
            ("negative < -2", true),
            ("negative = -3.0", true),
            ("big = 9007199254740993", true),
            ("big = 9007199254740992", false),
            ("huge = 18446744073709551615", true),
            ("huge > big", true),
            ("active = true", true),
            ("active != FALSE", true),
            (r#"city > "Z""#, true),
            (r#"quote = "a\"b\\c""#, true),
            ("tags = tags2", true),
            ("1 = 1.0", true),
            // Types never mix.
            (r#"age = "21""#, false),
            (r#"age != "21""#, true),
            (r#"age < "3""#, false),
            (r#"not age < "3""#, true),
            ("home = work", false),
            ("home < work", false),
            // Missing and null.
            (r#"gone = "x""#, false),
            (r#"gone != "x""#, false),
            (r#"not gone = "x""#, true),
            ("gone = gone", false),
            ("gone.isNull()", true),
            ("gone.isNotNull()", false),
            ("home.zip.isNull()", true),
            ("home.isNotNull()", true),
            ("home.country.deeper.isNull()", true),
            (r#"gone in ["x"]"#, false),
            (r#"not (gone in ["x"])"#, true),
            // Lists.
            (r#"home.country in ["CA", "US"]"#, true),
            ("age in [20, 21.0, true]", true),
            ("age in []", false),
            (r#"home.country In [ "CA" ]"#, false),
            // Precedence and parentheses.
            ("active = true or active = true and active = false", true),
            ("(active = true or active = true) and active = false", false),
            ("not active = false and age = 21", true),
            ("! active = true or age = 21", true),
            ("not (active = true or age = 21)", false),
            ("NOT NOT active = true", true),
            // Keywords after a dot are names.
            ("home.in.isNull() and home.NOT.isNull()", true),
        ] {
            assert_eq!(Rule::parse(rule).map(|rule| rule.matches(&attributes())).unwrap(), expected, "{rule}");
        }
    }

    #[test]
    fn refusal_names_the_place_and_what_was_expected() {
        let deep = format!("{}a = 1{}", "(".repeat(65), ")".repeat(65));
        let nots = format!("{}a = 1", "not ".repeat(65));
        for (rule, line, column, part) in [
            ("", 1, 1, "expected an attribute path"),
            ("  ", 1, 3, "found the end"),
            ("active", 1, 7, "expected `=`"),
            ("true", 1, 5, "expected `=`"),
            ("a = ", 1, 5, "found the end"),
            ("a = 1 b", 1, 7, "expected `and`, `or` or the end, found `b`"),
            ("a = 1 = 2", 1, 7, "expected `and`, `or` or the end"),
            ("(a = 1", 1, 7, "expected `)`"),
            ("a = 1)", 1, 6, "expected `and`"),
            ("a. = 1", 1, 4, "expected a name after `.`"),
            ("and = 1", 1, 1, "expected an attribute path"),
            ("a = 1\nand\n  b like \"x\"", 3, 5, "`like` is PQL, but not supported yet"),
            ("a NOTIN [1]", 1, 3, "`NOTIN` is PQL"),
            ("a in b", 1, 6, "expected a list"),
            ("a in [b]", 1, 7, "expected a string, a number"),
            ("a in [1", 1, 8, "expected `,` or `]`"),
            ("a in [[1]]", 1, 7, "`[` is PQL"),
            ("a < true", 1, 3, "does not apply to true and false"),
            ("false >= a", 1, 7, "does not apply to true and false"),
            ("a + 1 = 2", 1, 3, "`+` is PQL"),
            ("a = 1 * 2", 1, 7, "`*` is PQL"),
            ("$1.a = 2", 1, 1, "`$` is PQL"),
            ("(P) => P.a = 2", 1, 3, "expected `=`"),
            ("xEvent[a = 1]", 1, 1, "`xEvent` is PQL"),
            ("a = now", 1, 5, "`now` is PQL"),
            ("inSegment(\"a\")", 1, 1, "`inSegment` is PQL"),
            ("a = 1 and CHAIN(xEvent)", 1, 11, "`CHAIN` is PQL"),
            ("a.b.startsWith(\"x\")", 1, 5, "`startsWith` is PQL"),
            ("a = b.isNull()", 1, 7, "is not understood"),
            ("isNull()", 1, 1, "is not understood"),
            ("a.isNull(1)", 1, 10, "expected `)`"),
            ("a.isNull", 1, 9, "expected `=`"),
            ("foo(a)", 1, 1, "`foo(` is not understood"),
            ("a = \"x", 1, 5, "not closed"),
            ("a = \"\\n\"", 1, 7, "after `\\`"),
            ("é = 18446744073709551616", 1, 5, "too large"),
            ("a = 1e999", 1, 5, "too large"),
            ("a = 1x", 1, 6, "after a number"),
            ("a == 1", 1, 4, "expected an attribute path"),
            ("a <> 1", 1, 4, "expected an attribute path"),
            ("a = 'x'", 1, 5, "found `'`"),
            (&deep, 1, 65, "nested deeper than 64"),
            (&nots, 1, 257, "nested deeper than 64"),
        ] {
            let error = Rule::parse(rule).unwrap_err();
            assert_eq!((error.line(), error.column()), (line, column), "{rule}: {error}");
            assert!(error.message().contains(part), "{rule}: {error}");
        }
    }

    #[test]
    fn refusal_shows_a_caret_below_the_place() {
        let error = Rule::parse("a = 1\n\tand city like \"%es%\"\nor b = 2").unwrap_err();

        let text = "rule line 2, column 11: `like` is PQL, but not supported yet\n and city like \"%es%\"\n          ^";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn overlong_rule_is_refused() {
        assert!(Rule::parse(&format!("a = \"{}\"", "x".repeat(TEXT_BYTES_MAX))).is_err());
        assert!(Rule::parse(&format!("a = \"{}\"", "x".repeat(TEXT_BYTES_MAX - 6))).is_ok());
    }

    #[test]
    fn nesting_up_to_the_limit_is_understood() {
        assert!(Rule::parse(&format!("{}a = 1{}", "(".repeat(64), ")".repeat(64))).is_ok());
    }

    #[test]
    fn rule_reads_each_path_once_sorted_and_keeps_its_text() {
        let text = "b.c = 1  and a in [1] or not b.c = a and d.isNull() or 1 = 1";
        let rule = Rule::parse(text).unwrap();

        assert_eq!(rule.reads().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b.c", "d"]);
        assert_eq!(rule.to_string(), text);
    }

    #[test]
    fn every_expression_of_the_corpus_is_understood_or_refused_inside_its_text() {
        let corpus: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/vectors/pql-expressions.json")).unwrap();
        let mut understood = Vec::new();
        for entry in &corpus {
            let text = entry["pql"].as_str().unwrap();
            match Rule::parse(text) {
                Ok(_) => understood.push(text),
                Err(error) => {
                    let line = text.lines().nth(error.line() - 1).unwrap();
                    assert!(error.column() <= line.chars().count() + 1, "{text}: {error}");
                }
            }
        }
        assert_eq!(
            understood,
            [
                "homeAddress.stateProvince = workAddress.stateProvince",
                "homeAddress.countryISO != \"CA\"",
                "person.birthMonth > 2",
                "person.birthMonth >= 3",
                "person.homeAddress.isNull()",
                "person.homeAddress.isNotNull()",
            ]
        );
    }

    fn path() -> impl Strategy<Value = AttributePath> {
        prop::collection::vec("[a-d_é][a-c0-9]{0,3}", 1..4).prop_map(|names| names.join(".").parse().unwrap())
    }

    fn literal() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
        ]
    }

    fn operand() -> impl Strategy<Value = Operand> {
        prop_oneof![path().prop_map(Operand::Path), literal().prop_map(Operand::Literal)]
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let comparison = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
        let leaf = prop_oneof![
            (operand(), comparison, operand()).prop_map(|(left, sign, right)| Condition::Compare(
                left,
                Comparison::parse(sign).unwrap(),
                right
            )),
            (operand(), prop::collection::vec(literal(), 0..4)).prop_map(|(left, list)| Condition::In(left, list)),
            path().prop_map(Condition::IsNull),
            path().prop_map(Condition::IsNotNull),
        ];
        leaf.prop_recursive(5, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..4).prop_map(Condition::All),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Condition::Any),
                inner.prop_map(|inner| Condition::Not(Box::new(inner))),
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = Rule::parse(&text).map_err(|error| error.to_string());
        }

        #[test]
        fn arbitrary_tokens_never_panic(
            words in prop::collection::vec(prop::sample::select(vec![
                "a", ".", "isNull", "(", ")", "[", "]", ",", "in", "and", "or", "not", "!", "=", "<", "1", "-", "\"x\"",
                "true", "\\", "\"", "é", "\n", "1e9",
            ]), 0..30),
        ) {
            let _ = Rule::parse(&words.concat()).map_err(|error| error.to_string());
            let _ = Rule::parse(&words.join(" ")).map_err(|error| error.to_string());
        }

        #[test]
        fn printed_condition_parses_back_to_the_same(condition in condition()) {
            let text = condition.to_string();
            prop_assert_eq!(Rule::parse(&text).map(|rule| rule.condition), Ok(condition));
        }
    }
}
