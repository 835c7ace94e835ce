//! Text extraction over the corpus, with the real program as the sandbox's
//! worker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace::documents::text::{ExtractText, Options, Output, Text};
use millrace::sandbox::{Sandbox, SandboxConfig, SandboxError};
use tokio_util::sync::CancellationToken;

/// The default time limit of the step: no document may take longer.
const LIMIT: Duration = Duration::from_secs(30);

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

fn sandbox() -> Sandbox {
    let program = Some(env!("CARGO_BIN_EXE_millrace").into());
    Sandbox::new(SandboxConfig { program, ..SandboxConfig::default() })
}

fn files(folder: &str) -> Vec<PathBuf> {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus")).join(folder);
    let Ok(entries) = std::fs::read_dir(corpus) else {
        println!("skipped: {folder} needs ../shared");
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        file.extension().is_some_and(|extension| extension != "json") || folder == "documents"
    });
    files.sort();
    files
}

async fn text(sandbox: &Sandbox, file: &Path, output: Output) -> Result<Text, SandboxError> {
    let name = Some(file.file_name().unwrap().to_string_lossy().into_owned());
    let job = ExtractText(Options { name, mime_type: None, output });
    let bytes = std::fs::read(file).unwrap();
    sandbox.call(job, bytes.into(), LIMIT, &CancellationToken::new()).await
}

#[tokio::test]
async fn every_document_and_invoice_gives_its_text() {
    let sandbox = sandbox();
    for file in files("documents").into_iter().chain(files("invoices")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for output in [Output::Markdown, Output::Plain] {
            let text = text(&sandbox, &file, output).await;
            let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!text.text.trim().is_empty(), "{name} is empty");
            assert!(text.pages.iter().all(|page| text.text.contains(page.text.trim())), "{name}");
            let seen = SEEN.iter().filter(|(document, _)| *document == name);
            for words in seen.flat_map(|(_, words)| *words) {
                assert!(text.text.contains(words), "{words:?} is not in {name}:\n{}", text.text);
            }
        }
    }
}

#[tokio::test]
async fn every_hostile_document_ends_in_a_text_or_a_clear_refusal() {
    let sandbox = sandbox();
    for file in files("hostile") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        match text(&sandbox, &file, Output::Markdown).await {
            Ok(_) => {}
            Err(SandboxError::Job(error)) => {
                assert!(REFUSALS.contains(&error.code.as_str()), "{name}: {error:?}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_worker_of_the_real_program_outlives_a_refused_document() {
    let sandbox = sandbox();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"%PDF-1.7 nothing").unwrap();
    let refused = text(&sandbox, file.path(), Output::Plain).await.unwrap_err();
    assert!(matches!(refused, SandboxError::Job(error) if error.code == "document_malformed"));
    std::fs::write(file.path(), b"good").unwrap();
    assert_eq!(text(&sandbox, file.path(), Output::Plain).await.unwrap().text, "good");
}
