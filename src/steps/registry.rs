//! The one list of step kinds.

use serde_json::Value;

use super::extract_fields::ExtractFields;
use super::extract_text::ExtractTextStep;
use super::http::Http;
use super::jq::Jq;
use super::llm::Llm;
use super::load_sql::LoadSql;
use super::split::Split;
use super::template::Template;
use super::validate::Validate;
use super::write_object::WriteObject;
use super::{ParamError, Reference, Step, StepKind};
use crate::connections;

/// A registered step kind.
pub struct Kind {
    /// The name that a workflow's `uses` gives.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// What the documentation says of it besides.
    pub reference: &'static Reference,
    /// JSON Schema of the parameters.
    pub schema: fn() -> schemars::schema::RootSchema,
    /// The kind of the connection that `with.connection` names, if it does.
    pub connection: Option<connections::Kind>,
    build: fn(Value) -> Result<Box<dyn Step>, ParamError>,
}

/// Every step kind that a workflow may use. A new kind is one file and one
/// line here.
pub const KINDS: &[Kind] = &[
    kind::<ExtractFields>(),
    kind::<ExtractTextStep>(),
    kind::<Http>(),
    kind::<Jq>(),
    kind::<Llm>(),
    kind::<LoadSql>(),
    kind::<Split>(),
    kind::<Template>(),
    kind::<Validate>(),
    kind::<WriteObject>(),
];

/// Makes the list entry of a step kind.
pub const fn kind<K: StepKind>() -> Kind {
    Kind {
        name: K::NAME,
        summary: K::SUMMARY,
        reference: &K::REFERENCE,
        schema: || schemars::schema_for!(K::Params),
        connection: K::CONNECTION,
        build: |with| {
            let params: K::Params = serde_path_to_error::deserialize(with).map_err(|error| {
                let path = error.path().to_string();
                let path = if path == "." { String::new() } else { path };
                ParamError::at(path, error.inner().to_string())
            })?;
            Ok(Box::new(K::build(params)?))
        },
    }
}

/// Builds the step that `uses` names from its parameters.
///
/// # Errors
/// `None` if no kind has that name; a [`ParamError`] if the parameters cannot
/// be used.
pub fn build(uses: &str, with: Value) -> Option<Result<Box<dyn Step>, ParamError>> {
    let kind = KINDS.iter().find(|kind| kind.name == uses)?;
    Some((kind.build)(with))
}
