//! Tables agreed with Go.

use serde_json::{Value, json};

use super::{Mode, Template};

fn run(text: &str, mode: Mode, value: &Value) -> (String, String) {
    let mut out = String::new();
    let done = Template::parse(text).and_then(|t| t.mode(mode).execute(value, &mut out));
    let error = done.err().map_or(String::new(), |error| error.to_string());
    (out, error)
}

/// Every row was produced by Go 1.27's `text/template` with Docker's function map.
#[test]
fn templates_print_what_go_prints() {
    let input: Value = serde_json::from_str(include_str!("tests/input.json")).unwrap();
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
