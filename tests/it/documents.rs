//! Documents of every format and of every state of repair, through a deployed
//! workflow.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::{Value, json};

use crate::support::{Api, Database, ORG, Server, Target, corpus, json_of};

/// Words that a reader sees in the documents, by file name.
const SEEN: &[(&str, &[&str])] = &[
    ("docx-hdrftr.docx", &["First header para", "Main document", "para2"]),
    ("docx-tables.docx", &["A link example", ">b<", "g&t", "e"]),
    ("eng_spa_mult.epub", &["Todos los seres humanos", "spirit of brotherhood"]),
    ("example-steelJIS-datasheet-utf-16.html", &["JIS G 4108", "成分"]),
    ("factbook.xml", &["Ottawa"]),
    ("fake-doc.rtf", &["My First Heading", "Row 2, Cell 2"]),
    ("fake-email-attachment.eml", &["Mallori Harrell", "is a quick read", "fake-attachment.txt"]),
    ("fake-email.msg", &["Test Email", "Violets are blue", "mrobinson@unstructured.io"]),
    ("fake-html-cp1252.html", &["Die schöne Frau", "15,50 €"]),
    ("fake-power-point-table.pptx", &["Tangerine"]),
    ("fake-text-utf-16-le.txt", &["test document"]),
    ("fake.odt", &["Lorem ipsum", "Leader", "Ryan"]),
    ("habibi.pdf", &["habibi"]),
    ("mime-word-encoded-subject.eml", &["Simple email with"]),
    ("pdflatex-4-pages.pdf", &["Huardest gefburn", "Kjift"]),
];

/// The codes with which a document may be refused.
const REFUSALS: [&str; 4] =
    ["document_encrypted", "document_has_no_text", "document_malformed", "unsupported_document"];

/// Documents of which it is known why they cannot be read.
const REFUSED: [(&str, &str); 2] = [
    ("fake-encrypted.msg", "document_encrypted"),
    ("password-protected.pdf", "document_encrypted"),
];

/// Submissions under way at once.
const AT_ONCE: usize = 8;

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// A deployment that gives the text of a document in a format.
async fn deploy(api: &Api, key: &str, format: &str, settings: Value) -> Target {
    let steps = json!([{"uses": "extract_text", "with": {"format": format}}]);
    api.deploy_in(ORG, key, format, steps, settings).await
}

async fn check_text(api: &Api, target: &Target, file: PathBuf) {
    let name = name(&file);
    let output = api.output(target, &file).await;
    let text = output["text"].as_str().unwrap();
    assert!(!text.trim().is_empty(), "{name} is empty");
    for page in output["pages"].as_array().unwrap() {
        assert!(text.contains(page["text"].as_str().unwrap().trim()), "{name}: {page}");
    }
    let seen = SEEN.iter().filter(|(document, _)| *document == name);
    for words in seen.flat_map(|(_, words)| *words) {
        assert!(text.contains(words), "{words:?} is not in {name}:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_gives_its_text_in_every_format() {
    let documents = corpus("documents");
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let key = server.api.organisation(ORG).await;
    for format in ["markdown", "plain", "layout"] {
        let target = deploy(&server.api, &key, format, json!({})).await;
        let checks = documents.iter().map(|file| check_text(&server.api, &target, file.clone()));
        iter(checks).buffer_unordered(AT_ONCE).collect::<()>().await;
    }
    server.stop().await;
}

/// Fails unless the document ends in a text or in a refusal that says why.
async fn check_ending(api: &Api, target: &Target, file: PathBuf) {
    let name = name(&file);
    let id = api.upload(target, &file).await;
    let ended = api.ended(target, &id).await;
    let code = ended["error"]["code"].as_str().unwrap_or_default();
    let known = REFUSED.iter().find(|(document, _)| *document == name);
    match (ended["status"].as_str().unwrap(), known) {
        ("ERROR", Some((_, expected))) => assert_eq!(code, *expected, "{name}"),
        ("ERROR", None) => assert!(REFUSALS.contains(&code), "{name}: {ended}"),
        ("COMPLETED", None) => {}
        _ => panic!("{name}: {ended}"),
    }
    if !code.is_empty() {
        let detail = ended["error"]["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !detail.contains(&name), "{name}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_documents_end_in_a_text_or_a_clear_refusal_and_harm_nobody() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let key = server.api.organisation(ORG).await;
    // What takes longer is ended by the server, with a code that is no refusal.
    let settings = json!({"execution_timeout_seconds": 30});
    let target = deploy(&server.api, &key, "markdown", settings).await;
    let checks = corpus("hostile").into_iter().map(|file| check_ending(&server.api, &target, file));
    iter(checks).buffer_unordered(AT_ONCE).collect::<()>().await;
    let ready = server.api.client.get(format!("{}/health/ready", server.api.url)).send().await;
    json_of(ready.unwrap(), 200).await;
    let good = database.folder.path().join("good.txt");
    std::fs::write(&good, "good").unwrap();
    assert_eq!(server.api.output(&target, &good).await["text"], "good");
    server.stop().await;
}
