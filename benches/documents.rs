//! How fast text is extracted, isolation included, beside `pdftotext` run file
//! by file, which is how programs without an engine of their own do it.
//!
//! `make bench-documents` runs it over the corpus in `../shared`, where that
//! is, over books made here, and over the PDFs of the folder `DOCUMENTS`. It
//! fails if a goal is missed, and needs poppler-utils.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measures")]
#![expect(clippy::indexing_slicing, reason = "a wrong index ends the benchmark")]

#[path = "documents/book.rs"]
mod book;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace::documents::text::{ExtractText, Options, Output};
use millrace::sandbox::{Sandbox, SandboxConfig};
use tokio_util::sync::CancellationToken;

/// Measurements of each file by each program, of which the median counts.
const ROUNDS: usize = 7;
/// The limit of the step `extract_text`, generously.
const LIMIT: Duration = Duration::from_secs(120);
/// How many times as fast as `pdftotext` plain text has to be: over the
/// corpus, and over documents of [`LONG`] pages and more.
const GOALS: (f64, f64) = (3.0, 1.0);
/// Pages of a long document.
const LONG: usize = 300;

const OUTPUTS: [(&str, Output); 3] =
    [("plain", Output::Plain), ("layout", Output::Layout), ("markdown", Output::Markdown)];

type Failure = Box<dyn std::error::Error>;

/// What was measured of a file, in milliseconds.
struct Row {
    poppler: f64,
    ours: [f64; OUTPUTS.len()],
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-documents: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool, Failure> {
    let version = Command::new("pdftotext").arg("-v").output()?;
    let version = String::from_utf8_lossy(&version.stderr);
    println!("{}", version.lines().next().unwrap_or_default());
    println!("{}, {ROUNDS} rounds, medians in ms\n", processor());
    let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_millrace")));
    let sandbox = Sandbox::new(SandboxConfig { program, ..SandboxConfig::default() });
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let folder = tempfile::tempdir()?;
    let mut met = true;
    match files(&corpus) {
        Ok(files) => met &= measure(&sandbox, "corpus", &files, GOALS.0).await?,
        Err(_) => println!("skipped: the corpus is not here"),
    }
    let mut long = book::write_all(folder.path())?;
    if let Some(more) = std::env::var_os("DOCUMENTS") {
        long.extend(files(Path::new(&more))?.into_iter().filter(|file| pages(file) >= LONG));
    }
    met &= measure(&sandbox, "300 pages and more", &long, GOALS.1).await?;
    Ok(met)
}

/// Measures `files` and says whether plain text was `goal` times as fast.
async fn measure(
    sandbox: &Sandbox,
    title: &str,
    files: &[PathBuf],
    goal: f64,
) -> Result<bool, Failure> {
    let names = OUTPUTS.map(|(name, _)| format!("{name:>10}")).concat();
    println!("{title:<44}{:>6}{:>11}{names}{:>9}", "pages", "pdftotext", "ratio");
    let mut all = Row { poppler: 0.0, ours: [0.0; OUTPUTS.len()] };
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(row) = medians(sandbox, file).await? else {
            println!("{name:<44}  not read by both");
            continue;
        };
        print(&name, &pages(file).to_string(), &row);
        all.poppler += row.poppler;
        all.ours.iter_mut().zip(row.ours).for_each(|(sum, ms)| *sum += ms);
    }
    print("all", "", &all);
    let ratio = all.poppler / all.ours[0];
    println!("goal: plain text {goal} times as fast; it is {ratio:.1} times\n");
    Ok(ratio >= goal)
}

/// The medians of a file; none if one of the programs cannot read it.
async fn medians(sandbox: &Sandbox, file: &Path) -> Result<Option<Row>, Failure> {
    let mut poppler = Vec::new();
    let mut ours: [Vec<f64>; OUTPUTS.len()] = Default::default();
    // Turn by turn, so that what else the machine does meets all of them.
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let done = Command::new("pdftotext").arg("-q").arg(file).arg("-").output()?;
        poppler.push(milliseconds(started));
        if !done.status.success() {
            return Ok(None);
        }
        for (times, (_, output)) in ours.iter_mut().zip(OUTPUTS) {
            let started = Instant::now();
            let job = ExtractText(Options { output, ..Options::default() });
            let bytes = Bytes::from(std::fs::read(file)?);
            let done = sandbox.call(job, bytes, LIMIT, &CancellationToken::new()).await;
            times.push(milliseconds(started));
            if done.is_err() {
                return Ok(None);
            }
        }
    }
    Ok(Some(Row { poppler: median(poppler), ours: ours.map(median) }))
}

fn print(name: &str, pages: &str, row: &Row) {
    let ours = row.ours.map(|ms| format!("{ms:>10.1}")).concat();
    let ratio = row.poppler / row.ours[0];
    println!("{name:<44}{pages:>6}{:>11.1}{ours}{ratio:>9.1}", row.poppler);
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The PDFs of a folder and the folders in it, by name.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "pdf") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Pages of a PDF, as poppler counts them; 0 if it cannot.
fn pages(file: &Path) -> usize {
    let told = Command::new("pdfinfo").arg(file).output().map(|done| done.stdout);
    let told = String::from_utf8_lossy(&told.unwrap_or_default()).into_owned();
    let line = told.lines().find_map(|line| line.strip_prefix("Pages:"));
    line.and_then(|pages| pages.trim().parse().ok()).unwrap_or(0)
}

/// Name and number of the processors.
fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = told.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} × {}", name.unwrap_or("processor"))
}
