//! A value that a JSON Schema describes, for examples.

use serde_json::{Map, Number, Value, json};

/// How deep a value is followed; schemas may refer to themselves.
const DEPTH: usize = 8;

/// Longest text that is made.
const LETTERS: usize = 1000;

/// Most members and items that are made at one place.
const MEMBERS: usize = 20;

/// A value that the schema allows, as far as its common words tell. What they
/// do not tell, such as a pattern, is left out where it may be.
pub fn of(schema: &Value) -> Option<Value> {
    value(schema, schema, DEPTH)
}

fn value(schema: &Value, root: &Value, depth: usize) -> Option<Value> {
    let words = match schema {
        Value::Bool(true) => return Some(json!({})),
        Value::Object(words) => words,
        _ => return None,
    };
    let depth = depth.checked_sub(1)?;
    if let Some(known) = given(words) {
        return Some(known);
    }
    let refers = words.get("$ref").and_then(Value::as_str);
    if let Some(target) = refers.and_then(|place| root.pointer(place.strip_prefix('#')?)) {
        return value(target, root, depth);
    }
    let Some(kind) = kind(words) else {
        let combined = ["allOf", "anyOf", "oneOf"];
        let parts = combined.iter().find_map(|word| words.get(*word)?.as_array());
        return match parts {
            Some(parts) => parts.iter().find_map(|part| value(part, root, depth)),
            None => Some(json!({})),
        };
    };
    match kind {
        "null" => Some(Value::Null),
        "boolean" => Some(Value::Bool(true)),
        "integer" | "number" => number(words, kind == "integer"),
        "string" => string(words),
        "array" => array(words, root, depth),
        "object" => object(words, root, depth),
        _ => None,
    }
}

/// A value that the schema itself names.
fn given(words: &Map<String, Value>) -> Option<Value> {
    let first = |word: &str| words.get(word)?.as_array()?.first();
    let named = words.get("const").or_else(|| first("examples")).or_else(|| words.get("default"));
    named.or_else(|| first("enum")).cloned()
}

fn kind(words: &Map<String, Value>) -> Option<&str> {
    match words.get("type") {
        Some(Value::String(kind)) => Some(kind),
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").or(Some("null"))
        }
        _ if words.contains_key("properties") || words.contains_key("required") => Some("object"),
        _ if words.contains_key("items") || words.contains_key("prefixItems") => Some("array"),
        _ => None,
    }
}

/// The first of some likely numbers that keeps to all bounds.
fn number(words: &Map<String, Value>, whole: bool) -> Option<Value> {
    let bound = |word: &str| words.get(word).and_then(Value::as_f64);
    let (least, above) = (bound("minimum"), bound("exclusiveMinimum"));
    let (most, below) = (bound("maximum"), bound("exclusiveMaximum"));
    let step = bound("multipleOf").unwrap_or(1.0);
    let fits = |number: &f64| {
        least.is_none_or(|least| *number >= least)
            && above.is_none_or(|above| *number > above)
            && most.is_none_or(|most| *number <= most)
            && below.is_none_or(|below| *number < below)
            && !(whole && number.fract() != 0.0)
    };
    let low = least.or(above).unwrap_or(0.0);
    let high = most.or(below).unwrap_or(low + step);
    let up = (low / step).ceil() * step;
    let down = (high / step).floor() * step;
    let middle = f64::midpoint(low, high);
    let found = [step, up, up + step, down, down - step, middle].into_iter().find(fits)?;
    if found.fract() == 0.0 && found.abs() < 9e15 {
        return format!("{found:.0}").parse::<i64>().ok().map(Value::from);
    }
    Number::from_f64(found).map(Value::Number)
}

fn string(words: &Map<String, Value>) -> Option<Value> {
    if words.contains_key("pattern") {
        return None;
    }
    let text = match words.get("format").and_then(Value::as_str) {
        Some("date") => "2026-03-31",
        Some("date-time") => "2026-03-31T12:00:00Z",
        Some("time") => "12:00:00Z",
        Some("duration") => "P1D",
        Some("email" | "idn-email") => "name@example.com",
        Some("uri" | "iri" | "uri-reference" | "iri-reference") => "https://example.com/",
        Some("uuid") => "0199a3c4-0000-7000-8000-000000000000",
        Some("hostname" | "idn-hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some(_) => return None,
        None => {
            let bound = |word: &str| words.get(word).and_then(Value::as_u64);
            let least = usize::try_from(bound("minLength").unwrap_or(0)).ok()?;
            let most =
                usize::try_from(bound("maxLength").unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
            let length = least.max("text".len().min(most));
            let text: String = "text".chars().cycle().take(length.min(LETTERS)).collect();
            return (length <= LETTERS).then(|| text.into());
        }
    };
    Some(text.into())
}

fn array(words: &Map<String, Value>, root: &Value, depth: usize) -> Option<Value> {
    let bound = |word: &str| words.get(word).and_then(Value::as_u64);
    let least = usize::try_from(bound("minItems").unwrap_or(0)).ok()?;
    let first = words.get("prefixItems").and_then(Value::as_array);
    let items = words.get("items").unwrap_or(&Value::Bool(true));
    let wanted = least.max(first.map_or(1, Vec::len));
    let wanted = bound("maxItems")
        .map_or(wanted, |most| wanted.min(usize::try_from(most).unwrap_or(usize::MAX)).max(least));
    if wanted > MEMBERS {
        return None;
    }
    let made = (0..wanted)
        .map(|index| value(first.and_then(|first| first.get(index)).unwrap_or(items), root, depth));
    match made.collect::<Option<Vec<_>>>() {
        Some(made) => Some(Value::Array(made)),
        None => (least == 0).then(|| json!([])),
    }
}

fn object(words: &Map<String, Value>, root: &Value, depth: usize) -> Option<Value> {
    let required: Vec<&str> = words
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut made = Map::new();
    let properties = words.get("properties").and_then(Value::as_object);
    for (name, schema) in properties.into_iter().flatten() {
        let needed = required.contains(&name.as_str());
        match value(schema, root, depth) {
            Some(value) if needed || made.len() < MEMBERS => drop(made.insert(name.clone(), value)),
            None if needed => return None,
            _ => {}
        }
    }
    for name in required {
        made.entry(name).or_insert_with(|| json!("text"));
    }
    Some(Value::Object(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_valid_by_its_own_schema() {
        let schemas = [
            json!({}),
            json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3},
                "b": {"type": "string", "format": "date"}, "c": {"type": "string", "pattern": "^x"}},
                "required": ["a", "z"]}),
            json!({"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/x"},
                "$defs": {"x": {"enum": ["one", "two"]}}}),
            json!({"type": ["null", "string"], "minLength": 7}),
            json!({"type": "string", "maxLength": 2}),
            json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}),
            json!({"type": "integer", "multipleOf": 7, "minimum": 30}),
            json!({"type": "integer", "maximum": -3}),
            json!({"oneOf": [{"type": "string", "pattern": "x"}, {"const": 4}]}),
            json!({"prefixItems": [{"type": "boolean"}, {"type": "null"}], "items": false}),
            json!({"properties": {"next": {"$ref": "#"}}}),
        ];
        for schema in schemas {
            let example = of(&schema).unwrap();
            assert!(jsonschema::is_valid(&schema, &example), "{schema}: {example}");
        }
    }

    #[test]
    fn what_no_example_can_be_made_of_has_none() {
        let endless =
            json!({"type": "object", "required": ["x"], "properties": {"x": {"$ref": "#"}}});
        let pattern = json!({"type": "string", "pattern": "^[a-z]{3}$"});
        let long = json!({"type": "string", "minLength": 1_000_000_000_u64});
        let many = json!({"type": "array", "minItems": 1_000_000_000_u64});
        for schema in [endless, pattern, long, many, json!(false), json!(1)] {
            assert_eq!(of(&schema), None, "{schema}");
        }
    }
}
