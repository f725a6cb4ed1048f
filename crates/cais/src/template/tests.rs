//! Tables agreed with Go.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Mode, Template};

fn run(text: &str, mode: Mode, value: &Value) -> (String, String) {
    let mut out = String::new();
    let done = Template::parse(text).and_then(|t| t.mode(mode).execute(value, &mut out));
    let error = done.err().map_or(String::new(), |error| error.to_string());
    (out, error)
}

/// Objects as Go's maps, which print in the order of their keys; ours keep the order in which they
/// were made, as Go's structures do.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> = fields.into_iter().collect();
            fields.into_iter().map(|(key, value)| (key, sorted(value))).collect()
        }
        other => other,
    }
}

/// Every row was produced by Go 1.27's `text/template` with Docker's function map.
#[test]
fn templates_print_what_go_prints() {
    let input: Value = serde_json::from_str(include_str!("tests/input.json")).unwrap();
    let input = sorted(input);
    let cases: Vec<Value> = serde_json::from_str(include_str!("tests/cases.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let text = case["template"].as_str().unwrap();
        let mode = if case["strict"] == json!(true) { Mode::Strict } else { Mode::Lenient };
        let (out, error) = run(text, mode, &input);
        let expected = (case["out"].as_str().unwrap(), case["error"].as_str().unwrap_or(""));
        let error = error.strip_prefix("template parsing error: ").unwrap_or(&error);
        if (out.as_str(), error) != expected {
            wrong.push(format!("{text}\n  want {expected:?}\n  got  {:?}", (out, error)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_template_says_which_prefix_docker_gives_it() {
    let (_, error) = run("{{.a", Mode::Lenient, &json!({}));
    assert_eq!(error, "template parsing error: template: :1: unclosed action");
}

#[test]
fn bounds_end_what_would_not_end() {
    let value = json!({"s": "0123456789"});
    for (text, reason) in [
        ("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}", "maximum template depth"),
        (
            "{{define \"x\"}}{{range 1}}{{with (print (print (and 1 (print .))))}}\
             {{template \"x\" (or (print 1 (print 2)))}}{{end}}{{end}}{{end}}{{template \"x\"}}",
            "maximum template depth",
        ),
        ("{{range 100000000000}}{{end}}", "more than 1000000 steps"),
        ("{{range 10000}}{{range 10000}}{{end}}{{end}}", "more than 1000000 steps"),
        ("{{$x := .s}}{{range 100}}{{$x = print $x $x}}{{end}}", "output longer than"),
        ("{{range 1000}}{{printf \"%1000000d\" 1}}{{end}}", "output longer than"),
        ("{{pad .s 1000000000000 1}}", "output longer than"),
    ] {
        let (out, error) = run(text, Mode::Lenient, &value);
        assert!(error.contains(reason), "{text}: {error}");
        assert!(out.len() <= super::OUTPUT_MAX);
    }
    let nested = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(run(&nested, Mode::Lenient, &value).1.contains("max expression depth exceeded"));
    let nested = "{{if 1}}".repeat(5000) + &"{{end}}".repeat(5000);
    assert!(run(&nested, Mode::Lenient, &value).1.contains("max expression depth exceeded"));
    let long = " ".repeat(super::TEXT_MAX + 1);
    assert!(run(&long, Mode::Lenient, &value).1.contains("longer than"));
}

proptest! {
    #[test]
    fn nothing_that_is_written_makes_a_template_panic(text in "\\PC{0,40}|(\\{\\{|\\}\\}|[-. $|:=()'\"`x10%]){0,30}") {
        let _ = run(&text, Mode::Lenient, &json!({"x": [1, null, "é"]}));
    }

    #[test]
    fn nor_do_words_of_the_language_in_any_order(words in prop::collection::vec(prop::sample::select(WORDS), 0..24)) {
        let text = words.concat();
        let value = json!({"a": [1, null, "é", 2.5], "b": {"c": true, "d": "x,y"}});
        for mode in [Mode::Lenient, Mode::Strict, Mode::Header] {
            let _ = run(&text, mode, &value);
        }
    }

    #[test]
    fn any_format_string_prints(format in "(%|[-+# 0]|[0-9*.]|\\[|\\]|[a-zA-Z]|é){0,12}", index in 0usize..6) {
        let value = json!([[1, -1.5e300, "é\u{0}", null, true, {"k": [1]}]]);
        let text = format!("{{{{printf {format:?} (index . 0 {index}) 3 (index . 0)}}}}");
        let (_, error) = run(&text, Mode::Lenient, &value);
        prop_assert_eq!(error, "");
    }
}

const WORDS: &[&str] = &[
    "{{",
    "}}",
    "{{- ",
    " -}}",
    "if ",
    "else ",
    "end",
    "range ",
    "with ",
    "define ",
    "template ",
    "block ",
    "break",
    "continue",
    "\"t\" ",
    "$x ",
    "$",
    ":= ",
    "= ",
    ", ",
    "| ",
    "(",
    ")",
    ".a",
    ".b",
    ".c ",
    ". ",
    "1 ",
    "-3 ",
    "2.5 ",
    "nil ",
    "true ",
    "print ",
    "printf ",
    "index ",
    "slice ",
    "len ",
    "eq ",
    "lt ",
    "and ",
    "or ",
    "not ",
    "json ",
    "split ",
    "join ",
    "pad ",
    "truncate ",
    "html ",
    "js ",
    "urlquery ",
    "call ",
    "text",
    " ",
    "{{end}}",
    "{{range .a}}",
    "{{if .b}}",
    "{{$x := .a}}",
    "{{.}}",
    "'x' ",
    "\"%d\" ",
    "title ",
    "/* c */",
];
