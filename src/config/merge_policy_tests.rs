//! Merge policies as written, and who has which.

use super::tests::{Folder, US, destination};
use crate::profile::policy::Merge;

const CRM_FIRST: &str =
    "[[merge_policy]]\nid = \"crm-first\"\ntype = \"dataSetPrecedence\"\ndatasets = [\"crm\", \"web\"]\n";

#[test]
fn policies_are_read_and_the_default_is_what_nobody_says() {
    let folder = Folder::new();
    let by_default = format!("{CRM_FIRST}default = true\nname = \"CRM first\"\n");
    let latest = "[[merge_policy]]\nid = \"latest\"\n";
    let chosen = |id: &str| US.replace("id = \"us\"", &format!("id = \"us\"\nmerge_policy = \"{id}\""));
    for (policies, more, audience, expected) in [
        ("", "", US.to_owned(), "built-in"),
        (CRM_FIRST, "", US.to_owned(), "built-in"),
        (&by_default, "", US.to_owned(), "crm-first"),
        (CRM_FIRST, "merge_policy = \"crm-first\"", chosen("crm-first"), "crm-first"),
        (&format!("{by_default}{latest}"), "merge_policy = \"latest\"", chosen("latest"), "latest"),
        (&by_default, "merge_policy = \"built-in\"", chosen("built-in"), "built-in"),
    ] {
        let text = format!("{policies}{}", destination(more).replace(US, &audience));

        let config = folder.parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));

        let (audience, mapping) = (&config.audiences[0].policy, &config.destinations[0].mapping.policy);
        assert_eq!((audience.id.as_str(), mapping.id.as_str()), (expected, expected), "{text}");
        match (expected, &mapping.merge) {
            ("crm-first", Merge::DataSetPrecedence(order)) => assert_eq!(**order, ["crm", "web"].map(str::to_owned)),
            ("built-in" | "latest", Merge::TimestampOrdered) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_mistake_is_refused_with_its_line_and_key() {
    let folder = Folder::new();
    let other = destination("merge_policy = \"crm-first\"") + CRM_FIRST;
    let many: String = (0..21).map(|number| format!("[[merge_policy]]\nid = \"p{number}\"\n")).collect();
    for (text, expected) in [
        ("[[merge_policy]]", "1: merge_policy #1: `id` is missing"),
        ("[[merge_policy]]\nid = \"a b\"", "2: merge_policy #1.id: the id of a merge policy has 1 to 128 characters"),
        (
            "[[merge_policy]]\nid = \"built-in\"",
            "2: merge_policy \"built-in\".id: that is the one that is there by itself",
        ),
        (
            "[[merge_policy]]\nid = \"a\"\n[[merge_policy]]\nid = \"a\"",
            "4: merge_policy \"a\".id: the same stands on line 2 already",
        ),
        (
            "[[merge_policy]]\nid = \"a\"\ntype = \"newest\"",
            "3: merge_policy \"a\".type: expected `timestampOrdered` or `dataSetPrecedence`",
        ),
        ("[[merge_policy]]\nid = \"a\"\ntype = \"dataSetPrecedence\"", "1: merge_policy \"a\": `datasets` is missing"),
        (
            "[[merge_policy]]\nid = \"a\"\ntype = \"dataSetPrecedence\"\ndatasets = []",
            "4: merge_policy \"a\".datasets: list at least one dataset",
        ),
        (
            "[[merge_policy]]\nid = \"a\"\ntype = \"dataSetPrecedence\"\ndatasets = [\"x\", \"x\"]",
            "4: merge_policy \"a\".datasets #2: the same stands on line 4 already",
        ),
        (
            "[[merge_policy]]\nid = \"a\"\ndatasets = [\"x\"]",
            "3: merge_policy \"a\".datasets: `timestampOrdered` reads all datasets; leave it out",
        ),
        (
            "[[merge_policy]]\nid = \"a\"\ndefault = true\n[[merge_policy]]\nid = \"b\"\ndefault = true",
            "6: merge_policy \"b\".default: only one can be the default, line 3 has one",
        ),
        (&many, "merge_policy: has 21 entries, at most 20 are allowed"),
        (
            &US.replace("id = \"us\"", "id = \"us\"\nmerge_policy = \"latest\""),
            "4: audience \"us\".merge_policy: no merge policy `latest`; add it as [[merge_policy]]",
        ),
        (
            &(US.replace("id = \"us\"", "id = \"us\"\nmerge_policy = \"crm-frist\"") + CRM_FIRST),
            "4: audience \"us\".merge_policy: no merge policy `crm-frist`; did you mean `crm-first`?",
        ),
        (
            &other,
            "8: destination \"crm\".audiences #1: audience `us` has merge policy `built-in`, and this destination `crm-first`; set",
        ),
    ] {
        let refusal = folder.refusal(text);
        assert!(refusal.len() == 1 && refusal[0].contains(expected), "{text}\n{refusal:#?}");
    }
}

#[test]
fn what_stands_in_a_file_that_does_not_read_is_not_called_undefined() {
    let folder = Folder::new();
    let mut files = folder.files(&destination("merge_policy = \"elsewhere\""));
    files.add(folder.path("conf.d/policies.toml"), "[[merge_policy]\nid = \"elsewhere\"".to_owned());

    let refusal = files.load().unwrap_err().to_string();

    assert!(refusal.lines().count() == 1 && refusal.contains("not TOML"), "{refusal}");
}
