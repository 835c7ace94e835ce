//! Code that calls a deployment, to be copied: curl, Python, JavaScript. Keys
//! and ids of executions come from the environment.

use serde_json::{Value, json};

/// The file that examples send.
const FILE: &str = "document.pdf";

/// Seconds that examples wait for a result.
const WAIT: u32 = 60;

/// One way to make a call.
pub struct Sample {
    /// The language, as highlighters name it.
    lang: &'static str,
    /// What readers choose by.
    label: &'static str,
    source: String,
}

impl Sample {
    /// As an entry of `x-codeSamples`.
    pub fn json(&self) -> Value {
        json!({"lang": self.lang, "label": self.label, "source": self.source})
    }

    /// As a block of Markdown that opens when it is chosen.
    pub fn markdown(&self) -> String {
        // A fence is longer than any row of backticks within.
        let longest = self.source.split(|char| char != '`').map(str::len).max().unwrap_or_default();
        let fence = "`".repeat(longest.max(2) + 1);
        format!(
            "<details><summary>{}</summary>\n\n{fence}{}\n{}\n{fence}\n\n</details>\n",
            self.label, self.lang, self.source
        )
    }
}

fn samples(labels: [&'static str; 3], sources: [String; 3]) -> Vec<Sample> {
    let langs = ["shell", "python", "javascript"];
    let parts = langs.into_iter().zip(labels).zip(sources);
    parts.map(|((lang, label), source)| Sample { lang, label, source }).collect()
}

/// A submission of a file as a form.
pub fn submit_form(url: &str) -> Vec<Sample> {
    let curl = format!(
        r#"curl -sS --fail-with-body "{url}" \
  -H "Authorization: Bearer $MILLRACE_KEY" \
  -F files=@{FILE} \
  -F timeout={WAIT}"#
    );
    let python = format!(
        r#"import os
import requests

with open("{FILE}", "rb") as document:
    answer = requests.post(
        "{url}",
        headers={{"Authorization": f"Bearer {{os.environ['MILLRACE_KEY']}}"}},
        files={{"files": document}},
        data={{"timeout": {WAIT}}},
        timeout={},
    )
answer.raise_for_status()
print(answer.json())"#,
        WAIT + 30
    );
    let javascript = format!(
        r#"import {{ readFile }} from "node:fs/promises";

const form = new FormData();
form.append("files", new Blob([await readFile("{FILE}")]), "{FILE}");
form.append("timeout", "{WAIT}");
const answer = await fetch("{url}", {{
  method: "POST",
  headers: {{ Authorization: `Bearer ${{process.env.MILLRACE_KEY}}` }},
  body: form,
}});
if (!answer.ok) throw new Error(await answer.text());
console.log(await answer.json());"#
    );
    samples(["curl, a file", "Python, a file", "JavaScript, a file"], [curl, python, javascript])
}

/// A submission of JSON.
pub fn submit_json(url: &str, body: &Value) -> Vec<Sample> {
    let text = pretty(body);
    let curl = format!(
        r#"curl -sS --fail-with-body "{url}" \
  -H "Authorization: Bearer $MILLRACE_KEY" \
  -H "Content-Type: application/json" \
  -d '{}'"#,
        text.replace('\'', r"'\''")
    );
    let python = format!(
        r#"import os
import requests

answer = requests.post(
    "{url}",
    headers={{"Authorization": f"Bearer {{os.environ['MILLRACE_KEY']}}"}},
    json={},
    timeout={},
)
answer.raise_for_status()
print(answer.json())"#,
        indented(&python_literal(body, 0), 4),
        WAIT + 30
    );
    let javascript = format!(
        r#"const answer = await fetch("{url}", {{
  method: "POST",
  headers: {{
    Authorization: `Bearer ${{process.env.MILLRACE_KEY}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify({}),
}});
if (!answer.ok) throw new Error(await answer.text());
console.log(await answer.json());"#,
        indented(&text, 2)
    );
    samples(["curl, JSON", "Python, JSON", "JavaScript, JSON"], [curl, python, javascript])
}

/// The JSON submission of examples: what the input schema asks for, a document
/// where the workflow reads some, else any input.
pub fn submission(input_data: Option<Value>, reads_documents: bool) -> Value {
    let mut body = json!({});
    if let Some(fields) = body.as_object_mut() {
        if reads_documents {
            // "Hello from Millrace."
            let document =
                json!({"name": "hello.txt", "content_base64": "SGVsbG8gZnJvbSBNaWxscmFjZS4="});
            fields.insert("documents".into(), json!([document]));
        }
        match input_data {
            Some(input) => drop(fields.insert("input_data".into(), input)),
            None if !reads_documents => {
                fields.insert("input_data".into(), json!({"greeting": "hello"}));
            }
            None => {}
        }
        fields.insert("timeout".into(), WAIT.into());
    }
    body
}

/// A call about an execution, `url` standing before its id and `end` behind.
pub fn call(method: &str, url: &str, end: &str) -> Vec<Sample> {
    let curl = format!(
        r#"curl -sS --fail-with-body{} "{url}${{EXECUTION_ID}}{end}" \
  -H "Authorization: Bearer $MILLRACE_KEY""#,
        if method == "GET" { String::new() } else { format!(" -X {method}") }
    );
    let python = format!(
        r#"import os
import requests

answer = requests.{}(
    f"{url}{{os.environ['EXECUTION_ID']}}{end}",
    headers={{"Authorization": f"Bearer {{os.environ['MILLRACE_KEY']}}"}},
    timeout={},
)
answer.raise_for_status()
print(answer.json())"#,
        method.to_ascii_lowercase(),
        WAIT + 30
    );
    let javascript = format!(
        r#"const answer = await fetch(`{url}${{process.env.EXECUTION_ID}}{end}`, {{
  method: "{method}",
  headers: {{ Authorization: `Bearer ${{process.env.MILLRACE_KEY}}` }},
}});
if (!answer.ok) throw new Error(await answer.text());
console.log(await answer.json());"#
    );
    samples(["curl", "Python", "JavaScript"], [curl, python, javascript])
}

/// A stream of events about an execution.
pub fn events(url: &str) -> Vec<Sample> {
    let curl = format!(
        r#"curl -sS --fail-with-body --no-buffer "{url}${{EXECUTION_ID}}/" \
  -H "Authorization: Bearer $MILLRACE_KEY""#
    );
    let python = format!(
        r#"import os
import requests

with requests.get(
    f"{url}{{os.environ['EXECUTION_ID']}}/",
    headers={{"Authorization": f"Bearer {{os.environ['MILLRACE_KEY']}}"}},
    stream=True,
    timeout={},
) as answer:
    answer.raise_for_status()
    for line in answer.iter_lines(decode_unicode=True):
        print(line)"#,
        WAIT + 30
    );
    let javascript = format!(
        r#"const answer = await fetch(`{url}${{process.env.EXECUTION_ID}}/`, {{
  headers: {{ Authorization: `Bearer ${{process.env.MILLRACE_KEY}}` }},
}});
if (!answer.ok) throw new Error(await answer.text());
const decoder = new TextDecoder();
for await (const piece of answer.body) {{
  process.stdout.write(decoder.decode(piece, {{ stream: true }}));
}}"#
    );
    samples(["curl", "Python", "JavaScript"], [curl, python, javascript])
}

/// JSON over several lines; JavaScript as well.
fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A value as Python writes it. Its strings take every escape that JSON's have
/// here: the printer writes no `\/` and no pairs of surrogates.
fn python_literal(value: &Value, depth: usize) -> String {
    let pad = "    ".repeat(depth + 1);
    let end = "    ".repeat(depth);
    let lines = |parts: Vec<String>, open: char, close: char| {
        if parts.is_empty() {
            return format!("{open}{close}");
        }
        let lines: String = parts.into_iter().map(|part| format!("{pad}{part},\n")).collect();
        format!("{open}\n{lines}{end}{close}")
    };
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => {
            lines(items.iter().map(|item| python_literal(item, depth + 1)).collect(), '[', ']')
        }
        Value::Object(fields) => {
            let field = |(name, field): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), python_literal(field, depth + 1))
            };
            lines(fields.iter().map(field).collect(), '{', '}')
        }
    }
}

/// Further lines moved to the right.
fn indented(text: &str, columns: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_python_writes_it() {
        let value = json!({"a": [true, false, null, 1.5, []], "it's": "\"\n\u{1F980}"});
        let expected = "{\n    \"a\": [\n        True,\n        False,\n        None,\n        \
                        1.5,\n        [],\n    ],\n    \"it's\": \"\\\"\\n\u{1F980}\",\n}";
        assert_eq!(python_literal(&value, 0), expected);
    }

    #[test]
    fn quotes_in_a_body_end_neither_the_shell_s_string_nor_the_block_of_markdown() {
        let body = json!({"input_data": "it's ````` $(id) `id`"});
        let samples = submit_json("http://x/", &body);
        assert!(samples[0].source.contains(r"it'\''s"), "{}", samples[0].source);
        assert!(samples[0].markdown().contains("\n``````shell\n"));
        assert!(samples[0].markdown().contains("\n``````\n\n</details>"));
    }
}
