use serde_json::json;

use super::*;
use crate::steps::testing;

fn evaluate(filter: &str, input: &Value, outputs: Outputs) -> Result<Value, JobError> {
    let payload = json!({"input": input, "context": {"parameters": {"year": 2026}}});
    EvaluateJq { filter: filter.to_owned(), outputs }.perform(payload.to_string().into_bytes())
}

fn first(filter: &str, input: &Value) -> Value {
    evaluate(filter, input, Outputs::First).unwrap()
}

fn refusal(filter: &str) -> ParamError {
    testing::build("jq", json!({"filter": filter})).err().unwrap()
}

#[test]
fn a_filter_works_on_the_input_and_sees_the_context() {
    let input = json!({"items": [{"price": 2, "n": 3}, {"price": 5, "n": 1}]});
    let filter = "{total: ([.items[] | .price * .n] | add), year: $context.parameters.year}";
    assert_eq!(first(filter, &input), json!({"total": 11, "year": 2026}));
}

#[test]
fn the_first_output_all_outputs_and_no_output_have_each_their_form() {
    let input = json!([1, 2, 3]);
    assert_eq!(first(".[]", &input), json!(1));
    assert_eq!(evaluate(".[]", &input, Outputs::All).unwrap(), json!([1, 2, 3]));
    assert_eq!(first("empty", &input), Value::Null);
    assert_eq!(evaluate("empty", &input, Outputs::All).unwrap(), json!([]));
}

#[test]
fn the_first_output_is_enough_even_if_the_filter_never_ends() {
    assert_eq!(first("1, (def f: f; f)", &json!(null)), json!(1));
}

#[test]
fn numbers_stay_what_they_are() {
    let input = json!([9007199254740993_i64, u64::MAX, i64::MIN, 0.1, 1e300]);
    assert_eq!(first(".", &input), input);
    let odd = first("[nan, infinite, -infinite, 1e1000]", &json!(null));
    assert_eq!(odd, json!([null, f64::MAX, f64::MIN, f64::MAX]));
}

#[test]
fn the_environment_files_and_local_time_are_out_of_reach() {
    for filter in [
        "env",
        "$ENV",
        "$ENV.PATH",
        "input",
        "inputs",
        "input_filename",
        "input_line_number",
        "$__prog_args",
        "get_search_list",
        "localtime",
        "now | strflocaltime(\"%Z\")",
        "import \"a\" as a; .",
        "include \"/etc/passwd\"; .",
        "import \"/etc/passwd\" as $x; $x",
        "modulemeta",
        "input_stream",
        "$__loc__.file",
    ] {
        let error = refusal(filter);
        assert_eq!(error.path, "filter", "{filter}");
    }
}

#[test]
fn debug_and_stderr_change_nothing_and_say_nothing() {
    assert_eq!(first("debug | debug(\"x\") | stderr", &json!("a")), json!("a"));
}

#[test]
fn halting_is_a_failure_and_does_not_end_the_process() {
    for filter in ["halt", "halt(0)", "halt_error", "\"x\" | halt_error(1)"] {
        let error = evaluate(filter, &json!("s3cr3t"), Outputs::First).unwrap_err();
        assert_eq!(error.code, "jq_failed");
        assert!(!error.detail.contains("s3cr3t"));
    }
}

#[test]
fn an_error_never_quotes_a_value() {
    let input = json!({"s3cr3t": "s3cr3t"});
    for filter in [
        ".s3cr3t.x",
        ".s3cr3t[0]",
        ".s3cr3t | error",
        "error(.s3cr3t)",
        "error({a: .})",
        ".s3cr3t + 1",
        ".s3cr3t | tonumber",
        ".s3cr3t | fromjson",
        ".s3cr3t | fromdateiso8601",
        ".s3cr3t | strptime(\"%Y\")",
        "-.s3cr3t",
        "keys | .[\"a\"]",
        ".s3cr3t as [$a] | $a",
        ".s3cr3t | test(\"(\")",
        "\"s\" | test(.s3cr3t; \"q\")",
        ".s3cr3t | @base64d | error",
        "path(.s3cr3t | tostring | . + \"x\")",
        "{(.s3cr3t): 1} | .[0]",
        "try error(\"\\(.s3cr3t)\") catch error(.)",
        ".s3cr3t | ltrimstr(1)",
        "error(.s3cr3t) # \"s3cr\"",
    ] {
        if let Err(error) = evaluate(filter, &input, Outputs::All) {
            assert!(!error.detail.contains("s3cr3t"), "{filter}: {}", error.detail);
        }
    }
}

#[test]
fn a_message_that_stands_in_the_filter_is_shown() {
    let error = evaluate("error(\"no total\")", &json!({}), Outputs::First).unwrap_err();
    assert_eq!(error.detail, "no total");
}

#[test]
fn syntax_errors_and_unknown_names_are_found_before_running_with_their_place() {
    let error = refusal(".a |\n  | .b");
    assert!(error.detail.starts_with("line 2, column 3:"), "{error}");
    let error = refusal(".a | frobnicate(1)");
    assert!(error.detail.contains("`frobnicate`"), "{error}");
    let error = refusal("{a: (1}");
    assert!(error.detail.starts_with("line 1, column"), "{error}");
    assert!(refusal("").detail.contains("the end"));
    assert!(refusal("$contexts").detail.contains("variable"));
}

#[test]
fn a_filter_that_nests_without_end_is_survived() {
    for piece in [
        "(",
        "[",
        "{a:",
        "\"\\(",
        "-",
        "if ",
        "try ",
        "def f: ",
        ".[",
        ". as [",
        "1|",
        "1,",
        "reduce ",
        "label $x | ",
        ". as $x | ",
        "..|",
        "1+",
        ".a?//",
        "def f: . ; ",
        "not and ",
        "f(",
        "1 as {a: ",
        "foreach . as $x (",
        "?",
        "[.[]|",
    ] {
        let filter = piece.repeat(16 * 1024 / piece.len());
        drop(testing::build("jq", json!({"filter": filter})));
    }
    let balanced = format!("{}1{}", "(".repeat(8000), ")".repeat(8000));
    drop(testing::build("jq", json!({"filter": balanced})));
    assert!(refusal(&" ".repeat(17 * 1024)).detail.contains("longer"));
}

#[test]
fn what_is_put_out_is_bounded_in_size_and_depth() {
    let deep = evaluate("reduce range(101) as $i (1; [.])", &json!(null), Outputs::First);
    assert!(deep.unwrap_err().detail.contains("levels deep"));
    let wide = evaluate("\"x\" * 20000000", &json!(null), Outputs::First);
    assert!(wide.unwrap_err().detail.contains("too much"));
    let many = evaluate("range(1e12)", &json!(null), Outputs::All);
    assert!(many.unwrap_err().detail.contains("too much"));
}

#[test]
fn the_time_limit_must_be_in_range() {
    for seconds in [0, 61] {
        let with = json!({"filter": ".", "timeout_seconds": seconds});
        assert_eq!(testing::build("jq", with).err().unwrap().path, "timeout_seconds");
    }
}
