//! Makes the demo documents: invoices of invented companies. The same bytes
//! come out of every run: `cargo run --example make_demo_documents`.

mod canvas;
mod data;
mod invoice;
mod layout;

use std::path::Path;

/// Where the documents are committed.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");

/// Every document with its file name.
fn documents() -> [(&'static str, Vec<u8>); 2] {
    [
        ("invoice.pdf", layout::render(&data::timber())),
        ("invoice-2.pdf", layout::render(&data::tools())),
    ]
}

fn main() -> std::io::Result<()> {
    for (name, bytes) in documents() {
        std::fs::write(Path::new(FOLDER).join(name), bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_documents_are_what_the_generator_makes() {
        for (name, bytes) in documents() {
            let committed = std::fs::read(Path::new(FOLDER).join(name)).unwrap();
            assert!(committed == bytes, "{name} differs: run the example make_demo_documents");
        }
    }
}
