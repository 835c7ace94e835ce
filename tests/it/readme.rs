//! What the README and the reference of the steps say holds.

use std::collections::BTreeSet;

use millrace::engine::plan::{Plan, StepDefinition};
use millrace::error::Code;
use millrace::steps::KINDS;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use crate::support::{Database, Server, json_of};

const README: &str = include_str!("../../README.md");
const STEPS: &str = include_str!("../../docs/steps.md");
const INVOICE: &[u8] = include_bytes!("../../demo/invoice.pdf");

/// The JSON of the fenced block behind `<!-- tested: NAME -->`.
fn block(name: &str) -> Value {
    let marker = format!("<!-- tested: {name} -->\n```json\n");
    let text = README.split_once(&marker).expect("the block is there").1;
    serde_json::from_str(text.split_once("\n```").unwrap().0).unwrap()
}

/// Cells of the table rows of a page whose first cell is code.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines().filter(|line| line.starts_with("| `")).map(|line| {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '`'])).collect()
    })
}

/// Names of parameters: properties of the schema and of all it refers to.
fn parameters(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                names.extend(properties.keys().cloned());
            }
            members.values().for_each(|member| parameters(member, names));
        }
        Value::Array(items) => items.iter().for_each(|item| parameters(item, names)),
        _ => {}
    }
}

#[test]
fn the_readme_lists_exactly_the_refusal_codes_with_their_statuses() {
    let section = README.split_once("\n## Refusals").unwrap().1.split_once("\n## ").unwrap().0;
    let listed: Vec<_> = rows(section).map(|row| format!("{} {}", row[0], row[1])).collect();
    let known: Vec<_> = Code::ALL
        .iter()
        .map(|code| format!("{} {}", code.name(), code.status().as_u16()))
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_readme_lists_every_step_kind_with_an_example_that_can_be_used() {
    let section = README.split_once("\n## Steps").unwrap().1.split_once("\n### ").unwrap().0;
    let listed: BTreeSet<_> = rows(section).map(|row| row[0]).collect();
    assert_eq!(listed, KINDS.iter().map(|kind| kind.name).collect());
    for row in rows(section) {
        let step: StepDefinition = serde_json::from_str(row[2]).unwrap();
        assert_eq!(step.uses, row[0]);
        assert_eq!(Plan::compile(&[step]).err(), None);
    }
}

#[test]
fn the_reference_explains_every_parameter_of_every_step_kind() {
    for kind in KINDS {
        let heading = format!("\n## {}\n", kind.name);
        let section = STEPS.split_once(&heading).expect("a section").1;
        let section = section.split("\n## ").next().unwrap();
        let mut names = BTreeSet::new();
        parameters(&serde_json::to_value((kind.schema)()).unwrap(), &mut names);
        for name in names {
            assert!(section.contains(&format!("`{name}`")), "{}: {name}", kind.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worked_example_gives_the_output_that_the_readme_shows() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let target = server.api.deploy(block("the workflow")["steps"].clone()).await;
    let document = Part::bytes(INVOICE).file_name("invoice.pdf");
    let form = Form::new().part("files", document).text("timeout", "60");
    let path = format!("/deployment/{}/", target.public_id);
    let answer = server.api.post(&path, &target.key).multipart(form).send().await.unwrap();
    let answer = json_of(answer, 200).await;
    assert_eq!(answer["result"][0]["result"]["output"], block("its output"), "{answer:#}");
    server.stop().await;
}
