//! The integration tests: one binary, one module per behaviour.

#[cfg(test)]
mod corpus_text;
