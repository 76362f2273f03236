//! Whatever is written for a rule: it is refused, or comes to something.

use proptest::prelude::*;
use serde_json::Value;

use super::{tests::asked, *};

/// Texts of the shape of PQL, most of which are understood.
fn text() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "age",
        "score",
        "gone",
        "home.country",
        "city",
        "colors",
        "orders",
        "orders.price",
        "orders.items",
        "limits",
        "price",
        "^.age",
        "1",
        "0",
        "2.5",
        "\"red\"",
        "true",
        "[1, \"red\"]",
        "identityMap",
        "X",
        "S",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operators = vec!["+", "-", "*", "/", "%", "=", "!=", "<", ">=", "in", "notIn", "and", "or"];
        let of_two = vec![
            "intersection",
            "subsetOf",
            "includes",
            "equals",
            "contains",
            "get",
            "filter",
            "map",
            "groupBy",
            "sum",
            "max",
        ];
        let of_one = vec!["count", "distinct", "head", "keys", "values", "isNull", "isNotNull", "average", "min"];
        prop_oneof![
            (two.clone(), prop::sample::select(operators)).prop_map(|((a, b), sign)| format!("({a} {sign} {b})")),
            (two.clone(), prop::sample::select(of_two)).prop_map(|((a, b), name)| format!("{a}.{name}({b})")),
            (inner.clone(), prop::sample::select(of_one)).prop_map(|(a, name)| format!("{a}.{name}()")),
            two.clone().prop_map(|(a, b)| format!("{a}[{b}]")),
            two.clone().prop_map(|(a, b)| format!("(exists X from {a} where {b})")),
            two.clone().prop_map(|(a, b)| format!("(sum {b} over X from {a})")),
            two.clone().prop_map(|(a, b)| format!("(let S = {a} in ({b}))")),
            (two, inner.clone()).prop_map(|((a, b), c)| format!("if ({a}, {b}, {c})")),
            inner.prop_map(|a| format!("(not {a})")),
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
            "true", "\\", "\"", "é", "\n", "1e9", "exists", "X", "from", "where", "sum", "over", "let", "^", "$", "=>", "if", "count",
        ]), 0..30),
    ) {
        let _ = Rule::parse(&words.concat()).map_err(|error| error.to_string());
        let _ = Rule::parse(&words.join(" ")).map_err(|error| error.to_string());
    }

    #[test]
    fn whatever_is_understood_comes_to_something_and_the_same_again(text in text()) {
        if let Ok(value) = asked(|subject| evaluate(&text, subject)) {
            prop_assert_eq!(asked(|subject| evaluate(&text, subject)), Ok(value));
        }
        if let Ok(rule) = Rule::parse(&text) {
            let said = asked(|subject| rule.matches(subject));
            let comes_to = asked(|subject| evaluate(&text, subject)).unwrap();
            if comes_to.as_ref().is_some_and(Value::is_boolean) {
                prop_assert_eq!(said.map(Value::from), comes_to);
            }
        }
    }
}
