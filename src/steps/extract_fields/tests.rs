//! The step as its users see it: parameters and text in, values out.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::extraction::Extraction;
use super::text_of;
use crate::steps::{ParamError, StepError, build};

fn extract(with: Value, text: &str) -> Result<Value, StepError> {
    let params = serde_json::from_value(with).unwrap();
    Extraction::compile(params).unwrap().extract(text, &CancellationToken::new())
}

fn refused(with: Value) -> ParamError {
    match build("extract_fields", with).unwrap() {
        Ok(_) => panic!("the parameters were accepted"),
        Err(error) => error,
    }
}

fn code(outcome: Result<Value, StepError>) -> (String, String) {
    let error = outcome.unwrap_err();
    (error.code.into_owned(), error.detail)
}

#[test]
fn fields_are_found_typed_and_named() {
    let with = json!({
        "locale": "de",
        "constants": {"currency": "EUR"},
        "fields": {
            "number": {"patterns": ["Beleg (\\d+)", "Rechnungsnr\\. (\\d+)"]},
            "date": {"pattern": "Rechnungsdatum (.+)", "type": "date"},
            "total": {"pattern": "Total EUR ([\\d.,]+)", "type": "decimal"},
            "units": {"pattern": "(\\d+) Stück", "type": "integer"},
            "note": {"pattern": "Hinweis: (.*)"},
            "terms": {"pattern": "Ziel: (.*)", "default": "none"},
        }
    });
    let text = "Rechnungsnr.\t30064443\nRechnungsdatum 7. Mai 2014\n12 Stück\nTotal EUR 1.234";
    assert_eq!(
        extract(with, text).unwrap(),
        json!({
            "currency": "EUR", "number": "30064443", "date": "2014-05-07", "total": 1234.0,
            "units": 12, "note": null, "terms": "none"
        })
    );
}

#[test]
fn the_example_of_the_documentation_gives_what_it_says() {
    let blocks: Vec<String> = include_str!("mod.rs")
        .split("/// ```json")
        .skip(1)
        .filter_map(|block| block.split("/// ```").next())
        .map(|block| block.replace("///", ""))
        .collect();
    let [with, expected] = [0, 1].map(|i| serde_json::from_str::<Value>(&blocks[i]).unwrap());
    let text =
        "Rechnungsnr. 4711\nDatum 3.11.2026\nPos Name\nHobelbank 1 1.234,50\nGesamt 1.234,50";
    let output = extract(with, text).unwrap();
    assert_eq!(output.to_string(), expected.to_string());
}

#[test]
fn values_come_in_the_order_in_which_they_are_declared() {
    let with = json!({
        "constants": {"z": 0, "y": 0},
        "fields": {"x": {"pattern": "x"}, "same": {"pattern": "s"}, "w": {"pattern": "w"}},
        "lines": {
            "v": {"line": "(?<d>v)(?<c>v)?"},
            "u": {"first_line": "(?<d>u)", "continuation": ["(?<c>t)(?<b>t)", "(?<a>t)"]},
            "t": {"columns": {"d": "d", "c": "c"}, "types": {"c": "string"}},
        },
        "templates": [{
            "name": "one", "match": ["x"], "constants": {"s": 0},
            "fields": {"r": {"pattern": "r"}, "same": {"pattern": "s"}}
        }]
    });
    let output = extract(with, "x s w r v u tt d c").unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<String>();
    assert_eq!(names(&output), "zyxwvutsrsame");
    let items = ["v", "u", "t"].map(|name| names(&output[name][0]));
    assert_eq!(items, ["dc", "dcba", "dc"]);
}

#[test]
fn one_two_or_all_matches_give_the_value() {
    let text = "VAT 1.50\nVAT 2.25\nVAT 3.00";
    let field = |occurrence| {
        let field = json!({"pattern": "VAT (.+)", "type": "decimal", "occurrence": occurrence});
        extract(json!({"fields": {"vat": field}}), text).unwrap()["vat"].clone()
    };
    assert_eq!(field("first"), json!(1.5));
    assert_eq!(field("last"), json!(3.0));
    assert_eq!(field("all"), json!([1.5, 2.25, 3.0]));
    assert_eq!(field("sum"), json!(6.75));
}

#[test]
fn errors_name_the_value_and_never_quote_the_text() {
    let with = |field: Value| json!({"fields": {"total": field}});
    let required = with(json!({"pattern": "Total (\\S+)", "required": true}));
    assert_eq!(
        code(extract(required, "secret")),
        ("field_missing".to_owned(), "`total` was not found in the text".to_owned())
    );
    let decimal = with(json!({"pattern": "Total (\\S+)", "type": "decimal"}));
    let (code_, detail) = code(extract(decimal.clone(), "Total secret"));
    assert_eq!(code_, "field_invalid");
    assert!(detail.contains("`total`") && !detail.contains("secret"), "{detail}");
    let (_, detail) = code(extract(decimal, "Total 1.234"));
    assert!(detail.contains("`locale` or `decimal_separator`"), "{detail}");
}

#[test]
fn the_first_template_that_fits_adds_its_values_and_overrides_the_common_ones() {
    let with = json!({
        "locale": "en-US",
        "constants": {"kind": "invoice"},
        "fields": {
            "date": {"pattern": "Date (\\S+)", "type": "date"},
            "number": {"pattern": "Number (\\S+)", "required": true}
        },
        "templates": [
            {"name": "credit", "match": ["Mill"], "not": ["Invoice"],
             "constants": {"kind": "credit"}},
            {"name": "mill", "match": ["Mill", "Invoice"], "locale": "en-GB",
             "constants": {"issuer": "Mill"}, "fields": {"number": {"pattern": "Ref (\\S+)"}}},
            {"name": "any", "match": ["."]}
        ]
    });
    assert_eq!(
        extract(with.clone(), "Mill\nInvoice\nRef A1\nDate 3/4/2024").unwrap(),
        json!({"kind": "invoice", "issuer": "Mill", "number": "A1", "date": "2024-04-03"})
    );
    assert_eq!(
        extract(with, "Mill\nNumber 2\nDate 3/4/2024").unwrap(),
        json!({"kind": "credit", "number": "2", "date": "2024-03-04"})
    );
}

#[test]
fn without_a_fitting_template_the_step_fails_unless_that_is_allowed() {
    let with = |allow: bool| {
        json!({
            "fields": {"a": {"pattern": "a"}}, "allow_unmatched": allow,
            "templates": [{"name": "x", "match": ["x"], "fields": {"b": {"pattern": "b"}}}]
        })
    };
    assert_eq!(code(extract(with(false), "a b")).0, "no_template_matched");
    assert_eq!(extract(with(true), "a b").unwrap(), json!({"a": "a"}));
}

#[test]
fn each_match_of_a_line_pattern_in_the_region_is_an_item() {
    let with = json!({"lines": {"items": {
        "start": "^Item.*$", "end": "^Total",
        "line": "^(?<name>.+) (?<qty>\\d+) (?<price>[\\d.]+)(?:\nref (?<ref>\\w+))?$",
        "types": {"qty": "integer", "price": {"type": "decimal", "decimal_separator": "."}}
    }}});
    let text = "Gift 1 2.00\nItem Qty Price\nRed pen 2 1.250\nref R7\nInk 1 3.00\nTotal 1 5.50";
    assert_eq!(
        extract(with.clone(), text).unwrap(),
        json!({"items": [
            {"name": "Red pen", "price": 1.25, "qty": 2, "ref": "R7"},
            {"name": "Ink", "price": 3.0, "qty": 1, "ref": null}
        ]})
    );
    assert_eq!(extract(with, "nothing").unwrap(), json!({"items": []}));
}

#[test]
fn a_table_goes_on_over_pages_without_their_heads_and_feet() {
    let with = |repeat: bool| {
        json!({"lines": {"items": {
            "start": "^Item$", "end": "^Carried", "repeat": repeat, "skip": ["^Page \\d"],
            "line": "^(?<name>\\w+) (?<n>\\d)$"
        }}})
    };
    let text = "Item\na 1\nPage 2\nCarried 9\nMill 3\nItem\nb 2\nCarried 8\nc 3";
    let names = |repeat| {
        let output = extract(with(repeat), text).unwrap();
        let items = output["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(true), ["a", "b"]);
    assert_eq!(names(false), ["a"]);
}

#[test]
fn the_lines_after_a_first_line_continue_its_item() {
    let with = json!({"lines": {"items": {
        "first_line": "^(?<pos>\\d+) (?<name>.+)$",
        "continuation": ["^Serial (?<serial>\\w+)$", "^- (?<name>.+)$"],
        "types": {"pos": "integer"}
    }}});
    let text = "Serial 0\n1 Mill\n- of oak\nSerial S1\nnoise\n- built here\n2 Race";
    assert_eq!(
        extract(with, text).unwrap(),
        json!({"items": [
            {"name": "Mill\nof oak\nbuilt here", "pos": 1, "serial": "S1"},
            {"name": "Race", "pos": 2, "serial": null}
        ]})
    );
}

#[test]
fn columns_that_were_read_one_after_another_are_put_side_by_side() {
    let with = json!({"lines": {"items": {
        "columns": {"pos": "^(\\d)$", "price": "^\\d+,\\d\\d$"}, "types": {"price": "decimal"}
    }}});
    assert_eq!(
        extract(with.clone(), "1\n2\n3,50\n4,00").unwrap(),
        json!({"items": [{"pos": "1", "price": 3.5}, {"pos": "2", "price": 4.0}]})
    );
    assert_eq!(
        code(extract(with, "1\n2\n3,50")),
        (
            "lines_uneven".to_owned(),
            "the columns of `items` were not found equally often: pos 2, price 1".to_owned()
        )
    );
}

#[test]
fn an_item_that_is_invalid_or_absent_is_named() {
    let line = json!({"line": "^(?<n>\\S+)$", "types": {"n": "integer"}, "required": true});
    let with = json!({"lines": {"items": line}});
    assert_eq!(
        code(extract(with.clone(), "1\nx")).1,
        "`items[1].n`: the text found is not a number"
    );
    assert_eq!(code(extract(with, "")).0, "field_missing");
}

#[test]
fn parameters_that_cannot_work_are_refused_with_their_place() {
    let field = |field: Value| json!({"fields": {"f": field}});
    let lines = |lines: Value| json!({"lines": {"l": lines}});
    let template = |rest: Value| {
        let mut template = json!({"name": "t", "match": ["t"]});
        template.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        json!({"templates": [template]})
    };
    let cases = [
        (json!({}), ""),
        (json!({"locale": "xx", "fields": {"f": {"pattern": "f"}}}), "locale"),
        (json!({"feilds": {}}), "feilds"),
        (field(json!({})), "fields.f"),
        (field(json!({"pattern": "a", "patterns": ["b"]})), "fields.f"),
        (field(json!({"patterns": ["a", "("]})), "fields.f.patterns[1]"),
        (field(json!({"pattern": "a", "type": "number"})), "fields.f.type"),
        (field(json!({"pattern": "a", "occurrence": "sum"})), "fields.f.occurrence"),
        (field(json!({"pattern": "a", "formats": ["%d"], "type": "date"})), "fields.f.formats[0]"),
        (field(json!({"pattern": "a", "required": true, "default": 1})), "fields.f.default"),
        (lines(json!({"line": "a"})), "lines.l"),
        (lines(json!({"line": "(?<a>a)", "columns": {"a": "a"}})), "lines.l"),
        (lines(json!({"line": "(?<a>a)", "repeat": true})), "lines.l.repeat"),
        (lines(json!({"line": "(?<a>a)", "types": {"b": "date"}})), "lines.l.types.b"),
        (lines(json!({"line": "(?<a>a)", "types": {"a": "day"}})), "lines.l.types.a"),
        (lines(json!({"line": "(?<a>a)", "types": {"a": {"typ": "date"}}})), "lines.l.types.a.typ"),
        (lines(json!({"first_line": "(?<a>a)", "continuation": ["["]})), "lines.l.continuation[0]"),
        (template(json!({"match": []})), "templates[0].match"),
        (template(json!({"not": ["a", "("]})), "templates[0].not[1]"),
        (template(json!({"fields": {"f": {"pattern": ")"}}})), "templates[0].fields.f.pattern"),
        (
            template(json!({"constants": {"f": 1}, "fields": {"f": {"pattern": "a"}}})),
            "templates[0].fields.f",
        ),
    ];
    for (with, path) in cases {
        assert_eq!(refused(with.clone()).path, path, "{with}");
    }
}

#[test]
fn the_input_is_a_text_or_an_object_with_one() {
    assert_eq!(text_of(&json!("a")), Ok("a"));
    assert_eq!(text_of(&json!({"text": "a", "pages": []})), Ok("a"));
    for input in [json!(null), json!({"text": 1}), json!([])] {
        assert_eq!(text_of(&input).unwrap_err().code, "bad_step_input");
    }
}

#[test]
fn a_cancelled_execution_stops_the_search() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let params = serde_json::from_value(json!({"fields": {"f": {"pattern": "f"}}})).unwrap();
    let outcome = Extraction::compile(params).unwrap().extract("f", &cancel);
    assert_eq!(outcome, Err(StepError::cancelled()));
}

#[test]
fn a_runaway_pattern_ends_in_an_error_and_not_in_a_large_output() {
    let text = "a ".repeat(40_000);
    let field = |pattern: &str, occurrence: &str| {
        let field = json!({"pattern": pattern, "occurrence": occurrence});
        code(extract(json!({"fields": {"f": field}}), &text)).0
    };
    assert_eq!(field("(?s).*", "first"), "field_invalid");
    assert_eq!(field("a", "all"), "too_many_lines");
}

#[test]
fn the_schema_documents_every_parameter() {
    let kind = crate::steps::KINDS.iter().find(|kind| kind.name == "extract_fields").unwrap();
    let schema = serde_json::to_value((kind.schema)()).unwrap();
    let bare = undescribed(&schema, "params");
    assert!(bare.is_empty(), "{bare:?}");
}

/// The places of properties without a description.
fn undescribed(schema: &Value, place: &str) -> Vec<String> {
    let mut bare = Vec::new();
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let without =
            properties.iter().filter(|(_, property)| property.get("description").is_none());
        bare.extend(without.map(|(name, _)| format!("{place}.{name}")));
    }
    for (name, definition) in
        schema.get("definitions").and_then(Value::as_object).into_iter().flatten()
    {
        bare.extend(undescribed(definition, name));
    }
    bare
}
