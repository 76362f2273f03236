//! What rules mean, and what is refused.

use serde_json::{Value, json};

use super::*;
use crate::profile::path::Attributes;

fn profile() -> Attributes {
    let value = json!({
        "home": {"country": "US", "zip": null}, "work": {"country": "US"}, "city": "Österreich",
        "age": 21, "score": 1.5, "one": 1.0, "active": true, "big": 9_007_199_254_740_993_i64,
        "huge": u64::MAX, "negative": -3, "tags": ["a", 1], "tags2": ["a", 1.0], "in": {"and": "x"}, "quote": "a\"b\\c",
        "colors": ["red", "green", "red"], "none": [],
        "orders": [
            {"id": "o1", "price": 10, "store": {"id": "s1"}, "items": [{"sku": "PS", "n": 2}, {"sku": "XB", "n": 1}]},
            {"id": "o2", "price": 99.5, "store": {"id": "s2"}, "items": [{"sku": "XB", "n": 5}]},
            {"id": "o3", "price": 10, "store": {"id": "s1"}},
        ],
        "limits": {"n": 4, "by store": {"s1": 1}},
    });
    serde_json::from_value(value).unwrap()
}

fn identities() -> Value {
    json!({"Email": [{"id": "ada@example.com"}], "ECID": [{"id": "1"}, {"id": "2"}]})
}

pub(super) fn asked<T>(ask: impl FnOnce(&Subject<'_>) -> T) -> T {
    let is_in = |id: &AudienceId| id.as_str() == "gold";
    ask(&Subject::new(&profile(), &identities(), &is_in))
}

fn holds(rule: &str) -> bool {
    let rule = Rule::parse(rule).unwrap_or_else(|error| panic!("{error}"));
    asked(|subject| rule.matches(subject)).expect("it takes little")
}

fn value(text: &str) -> Value {
    asked(|subject| evaluate(text, subject)).unwrap_or_else(|error| panic!("{error}")).expect("it takes little")
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
        ("negative > -9223372036854775808", true),
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
        (r#""red" in colors"#, true),
        (r#""blue" notIn colors"#, true),
        (r#""red" notIn colors"#, false),
        (r#"gone notIn ["x"]"#, false),
        (r#""x" notIn gone"#, false),
        (r#"age in [home.country, 20 + 1]"#, true),
        // Precedence and parentheses.
        ("active = true or active = true and active = false", true),
        ("(active = true or active = true) and active = false", false),
        ("not active = false and age = 21", true),
        ("! active = true or age = 21", true),
        ("not (active = true or age = 21)", false),
        ("NOT NOT active = true", true),
        ("1 + 2 * 3 = 7", true),
        ("(1 + 2) * 3 = 9", true),
        ("10 - 4 - 3 = 3", true),
        ("age-1 = 20", true),
        ("2 - -age = 23", true),
        // Keywords after a dot are names.
        ("home.in.isNull() and home.NOT.isNull()", true),
        // The profile by name.
        (r#"(P) => P.home.country = "US" and age = 21"#, true),
        (r#"$1.home.country = "US""#, true),
        // Other audiences.
        (r#"inSegment("gold")"#, true),
        (r#"inSegment("gold") and not inSegment("silver")"#, true),
    ] {
        assert_eq!(holds(rule), expected, "{rule}");
    }
}

#[test]
fn texts_are_tested_as_documented() {
    for (rule, expected) in [
        (r#"home.country like "U%""#, true),
        (r#"home.country like "U_""#, true),
        (r#"home.country like "U""#, false),
        (r#"home.country like "%S""#, true),
        (r#"home.country like "u%""#, false),
        (r#"quote like "a\"b\\%""#, true),
        (r#"gone like "%""#, false),
        (r#"city.startsWith("Ö")"#, true),
        (r#"city.startsWith("ö")"#, false),
        (r#"city.startsWith("ö", false)"#, true),
        (r#"city.doesNotStartWith("ö")"#, true),
        (r#"city.doesNotStartWith("ö", false)"#, false),
        (r#"gone.startsWith("x")"#, false),
        (r#"gone.doesNotStartWith("x")"#, false),
        (r#"not gone.startsWith("x")"#, true),
        (r#"city.endsWith("reich")"#, true),
        (r#"city.doesNotEndWith("reich", true)"#, false),
        (r#"city.contains("STERR")"#, false),
        (r#"city.contains("STERR", false)"#, true),
        (r#"city.doesNotContain("x")"#, true),
        (r#"home.country.equals("us", false)"#, true),
        (r#"home.country.equals("us")"#, false),
        ("age.equals(21)", true),
        ("age.notEqualTo(21)", false),
        (r#"home.country.notEqualTo("CA")"#, true),
        (r#"gone.notEqualTo("CA")"#, false),
        (r#"city.matches("(?i)^ÖST")"#, true),
        (r#"city.matches("reich$")"#, true),
        (r#"city.matches("^reich")"#, false),
        ("age.startsWith(\"2\")", false),
        (r#"quote.contains("\\")"#, true),
    ] {
        assert_eq!(holds(rule), expected, "{rule}");
    }
    assert_eq!(value(r#"city.regexGroup("^(.)st(er)", 2)"#), json!("er"));
    assert_eq!(value(r#"city.regexGroup("x(y)?", 1)"#), Value::Null);
}

#[test]
fn lists_objects_and_numbers_are_worked_with_as_documented() {
    let [first, second] = [0, 1].map(|at| profile()["orders"][at].clone());
    let third = profile()["orders"][2].clone();
    for (text, expected) in [
        // Lists as sets.
        (r#"colors.intersects(["blue", "red"])"#, json!(true)),
        (r#"colors.intersects(["blue"])"#, json!(false)),
        (r#"colors.intersection(["red", "blue"])"#, json!(["red", "red"])),
        (r#"colors.subsetOf(["red", "green", "blue"])"#, json!(true)),
        (r#"colors.supersetOf(["red"])"#, json!(true)),
        (r#"colors.supersetOf(["red", "blue"])"#, json!(false)),
        ("gone.subsetOf([1])", json!(false)),
        (r#"colors.includes("green")"#, json!(true)),
        ("tags.includes(1.0)", json!(true)),
        ("tags.intersects([1.0])", json!(true)),
        ("colors.distinct()", json!(["red", "green"])),
        ("colors.distinct().count()", json!(2)),
        ("colors.head()", json!("red")),
        ("none.head()", Value::Null),
        // Paths through lists.
        ("orders.store.id", json!(["s1", "s2", "s1"])),
        ("orders.items.sku.distinct()", json!(["PS", "XB"])),
        ("orders.gone", Value::Null),
        // Each item.
        ("orders.filter(price > 50)", json!([second])),
        ("orders[price > 50].id", json!(["o2"])),
        (r#"orders[items[sku = "PS"]].id"#, json!(["o1"])),
        ("orders[items[n > ^^.limits.n]].id", json!(["o2"])),
        ("orders[items[n * 5 = ^.price]].id", json!(["o1"])),
        ("orders.map(price * 2)", json!([20, 199.0, 20])),
        ("orders.groupBy(store.id)", json!({"s1": [first, third], "s2": [second]})),
        ("orders.topN(price, 1).id", json!(["o2"])),
        ("orders.topN(price, 2).id", json!(["o2", "o1"])),
        ("orders.bottomN(price, 2).id", json!(["o1", "o3"])),
        ("orders.topN(gone, 5)", json!([])),
        ("orders.count()", json!(3)),
        ("gone.count()", json!(0)),
        ("orders.sum(price)", json!(119.5)),
        ("orders[price = 10].sum(price)", json!(20)),
        ("orders.average(price) > 39", json!(true)),
        ("orders.min(price)", json!(10)),
        ("orders.max(id)", json!("o3")),
        ("orders.items.n.sum()", json!(8)),
        ("none.sum()", json!(0)),
        ("none.average()", Value::Null),
        ("none.min()", Value::Null),
        ("sum O.price over O from orders where O.store.id = \"s1\"", json!(20)),
        ("count O.price over O from orders", json!(3)),
        ("max O.price over O from orders", json!(99.5)),
        ("select O from orders where O.price > 50", json!([second])),
        // Quantifiers.
        ("exists O from orders where O.price > 50", json!(true)),
        ("exists O from orders where O.price > limits.n * 25", json!(false)),
        ("exists C from colors : C = \"green\"", json!(true)),
        (r#"exists O from orders where (O.price > 50), I from O.items where I.sku = "PS""#, json!(false)),
        (r#"exists O from orders where (O.price > 50), I from O.items where I.sku = "XB""#, json!(true)),
        ("forall O from orders where O.price >= 10", json!(true)),
        ("forall O from orders where O.price > 10", json!(false)),
        ("forall O from gone where O.price > 10", json!(true)),
        ("exists O from gone where O.price > 10", json!(false)),
        // Names.
        ("let S = (sum O.price over O from orders) in (S > 100 and S < 1000)", json!(true)),
        ("let S = orders.count() in (S > 3)", json!(false)),
        // Maps and objects.
        ("identityMap.keys()", json!(["ECID", "Email"])),
        ("identityMap.ECID.id", json!(["1", "2"])),
        (r#"identityMap.get("Email").id"#, json!(["ada@example.com"])),
        ("identityMap.Email.count()", json!(1)),
        ("home.values()", json!(["US", null])),
        (r#"limits.get("by store").get("s1")"#, json!(1)),
        (r#"limits.get(gone)"#, Value::Null),
        // Arithmetic.
        ("age / 2", json!(10.5)),
        ("age / 7", json!(3)),
        ("age % 4", json!(1)),
        ("-age % 4", json!(-1)),
        ("age / 0", Value::Null),
        ("age + gone", Value::Null),
        ("age * home.country", Value::Null),
        ("huge + huge", json!(36893488147419103230.0)),
        (r#"if (age > 18, "adult", "minor")"#, json!("adult")),
        ("if (gone > 18, 1, 2 + 3)", json!(5)),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
    assert!(holds(r#"if (age > 18, home.country = "US", false = true)"#));
    assert!(holds(r#"orders[items[sku = "PS"]]"#));
    assert!(holds("select O from orders where O.price > 50"));
    assert!(!holds("orders[price > 500] or none.distinct()"));
}

#[test]
fn refusal_names_the_place_and_what_was_expected() {
    let deep = format!("{}a = 1{}", "(".repeat(65), ")".repeat(65));
    let nots = format!("{}a = 1", "not ".repeat(65));
    let row = format!("a = 1{}", " + 1".repeat(65));
    let names = format!("a{} = 1", ".b".repeat(32));
    for (rule, line, column, part) in [
        ("", 1, 1, "expected an attribute path"),
        ("  ", 1, 3, "found the end"),
        ("active", 1, 7, "expected `=`"),
        ("true", 1, 5, "expected `=`"),
        ("age + 1", 1, 8, "expected `=`"),
        ("colors.head()", 1, 14, "expected `=`"),
        ("a = ", 1, 5, "found the end"),
        ("a = 1 b", 1, 7, "expected `and`, `or` or the end, found `b`"),
        ("a = 1 = 2", 1, 7, "expected `and`, `or` or the end"),
        ("(a = 1", 1, 7, "expected `)`"),
        ("a = 1)", 1, 6, "expected `and`"),
        ("a. = 1", 1, 4, "expected a name after `.`"),
        ("and = 1", 1, 1, "expected an attribute path"),
        ("a = 1\nand\n  b occurs before today", 3, 5, "`occurs` is PQL, but not supported yet"),
        ("a like b", 1, 8, "a pattern as a string"),
        ("a in", 1, 5, "expected an attribute path"),
        ("a in [1", 1, 8, "expected `,` or `]`"),
        ("a < true", 1, 3, "does not apply to true and false"),
        ("false >= a", 1, 7, "does not apply to true and false"),
        ("a + \"x\" = 2", 1, 3, "applies to numbers"),
        ("a + true = 2", 1, 3, "applies to numbers"),
        ("-\"x\" = 2", 1, 1, "applies to numbers"),
        ("$2.a = 2", 1, 1, "one parameter"),
        ("^.a = 2", 1, 1, "leads out of a filter"),
        ("b[^^.a = 2]", 1, 3, "leads out of a filter"),
        ("b[0]", 1, 4, "expected `=`"),
        ("xEvent[a = 1]", 1, 1, "`xEvent` is PQL"),
        ("a = now", 1, 5, "`now` is PQL"),
        ("a = 1 and CHAIN(xEvent)", 1, 11, "`CHAIN` is PQL"),
        ("a = date(2015, 1, 8)", 1, 5, "`date` is PQL"),
        ("a.getMonth() = 1", 1, 3, "`getMonth` is PQL"),
        ("isNull()", 1, 1, "there is no function `isNull`"),
        ("a.isNull(1)", 1, 10, "expected `)`"),
        ("a.isNull", 1, 9, "expected `=`"),
        ("foo(a)", 1, 1, "there is no function `foo`"),
        ("a.startWith(\"x\")", 1, 3, "the nearest is `startsWith`"),
        ("a.startsWith(\"x\", 1)", 1, 19, "whether case matters"),
        ("a.matches(\"(x\")", 1, 11, "unclosed group"),
        ("a.matches(\"x(?=y)\")", 1, 11, "look-around"),
        ("a.matches(b)", 1, 11, "a pattern as a string"),
        ("a.regexGroup(\"(x)\", 2) = 1", 1, 21, "the pattern has 1 groups"),
        ("a.topN(b, 1.5)[c = 1]", 1, 11, "a number such as 5"),
        ("a = null", 1, 5, "write `.isNull()`"),
        ("segmentMembership.ups.x.status = \"realized\"", 1, 1, "inSegment"),
        ("inSegment(gold)", 1, 11, "an audience's id as a string"),
        ("inSegment(\"a b\")", 1, 11, "an audience id has"),
        ("exists from a where b = 1", 1, 8, "a name for the items"),
        ("exists X in a where b = 1", 1, 10, "expected `from`"),
        ("exists X from a", 1, 16, "expected `where`"),
        ("sum X.p from a", 1, 5, "over x from list"),
        ("let S = 1 (S > 1)", 1, 11, "expected `in`"),
        ("a = \"x", 1, 5, "not closed"),
        ("a = \"\\n\"", 1, 7, "after `\\`"),
        ("é = 18446744073709551616", 1, 5, "too large"),
        ("a = 1e999", 1, 5, "too large"),
        ("a = 1x", 1, 6, "after a number"),
        ("a == 1", 1, 4, "expected an attribute path"),
        ("a <> 1", 1, 4, "expected an attribute path"),
        ("a = 'x'", 1, 5, "found `'`"),
        ("1.a = 1", 1, 2, "after a literal"),
        (&deep, 1, 65, "nested deeper than 64"),
        (&nots, 1, 257, "nested deeper than 64"),
        (&row, 1, 263, "at most 64 operators"),
        (&names, 1, 65, "at most 32 names"),
    ] {
        let error = Rule::parse(rule).unwrap_err();
        assert_eq!((error.line(), error.column()), (line, column), "{rule}: {error}");
        assert!(error.message().contains(part), "{rule}: {error}");
    }
}

#[test]
fn refusal_shows_a_caret_below_the_place() {
    let error = Rule::parse("a = 1\n\tand city occurs today\nor b = 2").unwrap_err();

    let text = "rule line 2, column 11: `occurs` is PQL, but not supported yet\n and city occurs today\n          ^";
    assert_eq!(error.to_string(), text);
}

#[test]
fn overlong_rule_is_refused() {
    assert!(Rule::parse(&format!("a = \"{}\"", "x".repeat(TEXT_BYTES_MAX))).is_err());
    assert!(Rule::parse(&format!("a = \"{}\"", "x".repeat(TEXT_BYTES_MAX - 6))).is_ok());
}

#[test]
fn nesting_up_to_the_limit_is_understood_and_evaluated() {
    assert!(!holds(&format!("{}a = 1{}", "(".repeat(64), ")".repeat(64))));
    let sums = format!("{}age{} = 1", "(".repeat(4), " + 1".repeat(40).to_owned() + &")".repeat(4));
    assert!(!holds(&sums));
    let tall = format!("{}age{} = 1", "(".repeat(4), format!("{})", " + 1".repeat(60)).repeat(4));
    assert!(Rule::parse(&tall).unwrap_err().message().contains("deep one in another"));
}

#[test]
fn rule_of_loops_within_loops_is_given_up() {
    let many: Attributes =
        serde_json::from_value(json!({"x": (0..2000).collect::<Vec<_>>(), "big": "y".repeat(60_000)})).unwrap();
    let is_in = |_: &AudienceId| false;
    let subject = Subject::new(&many, &Value::Null, &is_in);
    let matches = |rule: &str| Rule::parse(rule).unwrap().matches(&subject);

    assert_eq!(matches("exists A from x where (A >= 0), B from x where B < 0"), None);
    assert_eq!(matches("x.map(^.big).count() > 0"), None);
    assert_eq!(matches("x.map(^.x).count() > 0"), None);
    assert_eq!(matches("exists A from x where (A >= 1999), B from x where B < 0"), Some(false));
    assert_eq!(matches("x.count() = 2000"), Some(true), "the one before has no part in it");
}

#[test]
fn work_beside_the_items_of_a_loop_is_counted_too() {
    let orders: Vec<Value> = (0..1500).map(|price| json!({"price": price})).collect();
    let value = json!({"orders": orders, "x": 1, "big": "y".repeat(60_000), "map": {"k": orders}});
    let many: Attributes = serde_json::from_value(value).unwrap();
    let is_in = |_: &AudienceId| false;
    let subject = Subject::new(&many, &Value::Null, &is_in);
    let doubled: String = (1..31).map(|n| format!("let X{n} = [X{}, X{0}] in (", n - 1)).collect();
    let doubled = format!("let X0 = [x, x] in ({doubled}X30.count() > 5{}", ")".repeat(31));

    for rule in [
        // Each once a loop, each as long as the loop: some without a limit would take minutes, and the memory of the machine.
        "exists A from orders where exists B from orders where orders.price.head() = -1",
        "exists A from orders where orders.nothing.head() = -1",
        "orders[^.orders = 1].count() > 0",
        "exists A from orders where map.get(\"k\").head().price = -1",
        "exists A from orders where exists B from orders where big.contains(\"z\")",
        "exists A from orders where big.matches(\"z\")",
        "exists A from orders where \"z\" in [big]",
        &doubled,
    ] {
        assert_eq!(Rule::parse(rule).unwrap().matches(&subject), None, "{rule}");
    }
    assert_eq!(
        Rule::parse("orders.price.max() = 1499 and big.matches(\"^y+$\")").unwrap().matches(&subject),
        Some(true)
    );
}

#[test]
fn what_stands_in_branches_of_branches_is_read_at_once() {
    let rule = format!("{}b = 1{}", "if (a = 1, ".repeat(60), ", c = 1)".repeat(60));
    assert!(!holds(&rule));
}

#[test]
fn rule_reads_each_path_once_sorted_and_keeps_its_text() {
    let text = "b.c = 1  and a in [1] or not b.c = a and d.isNull() or 1 = 1 or identityMap.keys().count() > o[x = ^.y].z.head()";
    let rule = Rule::parse(text).unwrap();

    let reads = ["a", "b.c", "d", "identityMap", "o", "y"];
    assert_eq!(rule.reads().iter().map(ToString::to_string).collect::<Vec<_>>(), reads);
    assert!(rule.reads_identities());
    assert_eq!(rule.to_string(), text);
    let segments = Rule::parse(r#"inSegment("b") or inSegment("a") or inSegment("b")"#).unwrap();
    assert_eq!(segments.segments().iter().map(AudienceId::as_str).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn published_expressions_are_understood_or_refused_by_name() {
    let corpus: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors/pql-expressions.json")).unwrap();
    let mut refused = Vec::new();
    for entry in &corpus {
        let text = entry["pql"].as_str().unwrap();
        if let Err(error) = asked(|subject| evaluate(text, subject).map(drop)) {
            let line = text.lines().nth(error.line() - 1).unwrap();
            assert!(error.column() <= line.chars().count() + 1, "{text}: {error}");
            refused.push(error.message().split('`').nth(1).unwrap().to_owned());
        }
    }
    // Time and events.
    assert_eq!(
        refused,
        [
            "occurs",
            "currentMonth",
            "currentDayOfMonth",
            "occurs",
            "occurs",
            "occurs",
            "xEvent",
            "xEvent",
            "xEvent",
            "xEvent",
            "CHAIN",
            "xEvent",
        ]
    );
}
