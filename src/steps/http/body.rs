//! What a call sends.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use minijinja::value::Value as Variables;
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::multipart::{Form, Part};
use serde_json::{Map, Value};

use super::invalid;
use super::params::Send;
use crate::documents::{DocumentStore, StoreError};
use crate::steps::rendering::Renderer;
use crate::steps::{DocumentRef, ParamError, StepContext, StepError};

/// Bytes of a body that is made, and of one text in it.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Bytes of a document that are read at once.
const PIECE: u64 = 1024 * 1024;

/// A value whose strings are templates.
pub(super) enum Shape {
    /// A text, made by a template.
    Text(Renderer),
    /// The value of one expression.
    Value(Renderer),
    /// As it is.
    Plain(Value),
    List(Vec<Shape>),
    Object(Vec<(String, Shape)>),
}

impl Shape {
    /// Compiles a value that stands at `place` below `with`.
    pub(super) fn compile(place: &str, value: Value) -> Result<Self, ParamError> {
        Ok(match value {
            Value::String(source) => match only_expression(&source) {
                Some(expression) => {
                    let source = format!(
                        "{{% set value = ({expression}) %}}{{% if value is undefined %}}\
                         {{{{ value }}}}{{% endif %}}{{{{ value | tojson }}}}"
                    );
                    // Alone as well: the parentheses would make something of
                    // what is no expression.
                    Renderer::compile(place, format!("{{{{ {expression} }}}}"))?;
                    Self::Value(Renderer::compile(place, source)?)
                }
                None => Self::Text(Renderer::compile(place, source)?),
            },
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                let items = items.map(|(n, item)| Self::compile(&format!("{place}[{n}]"), item));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| {
                    let shape = Self::compile(&format!("{place}.{name}"), value)?;
                    Ok((name, shape))
                });
                Self::Object(members.collect::<Result<_, _>>()?)
            }
            plain => Self::Plain(plain),
        })
    }

    fn render(&self, variables: &Variables) -> Result<Value, StepError> {
        Ok(match self {
            Self::Text(text) => text.render(variables.clone(), MAX_BODY)?.into(),
            Self::Value(value) => {
                let text = value.render(variables.clone(), MAX_BODY)?;
                serde_json::from_str(&text)
                    .map_err(|_| invalid("the body has a value that is no JSON"))?
            }
            Self::Plain(value) => value.clone(),
            Self::List(items) => Value::Array(
                items.iter().map(|one| one.render(variables)).collect::<Result<_, _>>()?,
            ),
            Self::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, shape)| Ok((name.clone(), shape.render(variables)?)));
                Value::Object(members.collect::<Result<Map<_, _>, StepError>>()?)
            }
        })
    }
}

/// The expression of a text that is nothing else, such as `{{ input.total }}`.
fn only_expression(source: &str) -> Option<&str> {
    let inner = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.trim_matches('-');
    (!inner.contains("{{") && !inner.contains("}}")).then_some(inner)
}

/// Where a body's value comes from.
pub(super) enum Source {
    Shape(Box<Shape>),
    /// A JSON pointer into the step's data.
    Pointer(String),
    /// What the step works on.
    Input,
}

impl Source {
    pub(super) fn value(
        &self,
        input: &Value,
        data: &Value,
        variables: &Variables,
    ) -> Result<Value, StepError> {
        match self {
            Self::Shape(shape) => shape.render(variables),
            Self::Pointer(pointer) => data.pointer(pointer).cloned().ok_or_else(|| {
                StepError::bad_input(format!("there is nothing at `body_from` {pointer}"))
            }),
            Self::Input => Ok(input.clone()),
        }
    }
}

/// A body, ready to be sent.
pub(super) enum Body {
    None,
    Bytes {
        content_type: &'static str,
        bytes: Vec<u8>,
    },
    /// The document in work, as it is.
    Document(DocumentRef),
    /// The document in work as the part of this name, after these texts.
    Form {
        fields: Vec<(String, String)>,
        part: String,
        document: DocumentRef,
    },
}

impl Body {
    /// Makes what is not the document itself.
    pub(super) fn encode(send: Send, value: &Value) -> Result<Self, StepError> {
        let (content_type, bytes) = match send {
            Send::Json => ("application/json", value.to_string().into_bytes()),
            Send::Form => ("application/x-www-form-urlencoded", urlencoded(value)?.into_bytes()),
            Send::Text => match value {
                Value::String(text) => ("text/plain; charset=utf-8", text.clone().into_bytes()),
                _ => return Err(StepError::bad_input("`send` text takes a string")),
            },
            Send::Document | Send::Nothing => return Ok(Self::None),
        };
        if bytes.len() > MAX_BODY {
            return Err(invalid("the body is larger than 16 MiB"));
        }
        Ok(Self::Bytes { content_type, bytes })
    }

    /// Adds the body to a request.
    pub(super) fn onto(
        self,
        request: RequestBuilder,
        context: &StepContext,
    ) -> Result<RequestBuilder, StepError> {
        let store = &context.services.documents;
        Ok(match self {
            Self::None => request,
            Self::Bytes { content_type, bytes } => {
                request.header(CONTENT_TYPE, content_type).body(bytes)
            }
            Self::Document(document) => request
                .header(CONTENT_TYPE, media_type(&document))
                .header(CONTENT_LENGTH, document.size)
                .body(reqwest::Body::wrap_stream(pieces(store.clone(), &document))),
            Self::Form { fields, part, document } => {
                let body = reqwest::Body::wrap_stream(pieces(store.clone(), &document));
                let file = Part::stream_with_length(body, document.size)
                    .file_name(document.name.clone())
                    .mime_str(&media_type(&document))
                    .map_err(|_| invalid("the document's type cannot be sent"))?;
                let form = fields
                    .into_iter()
                    .fold(Form::new(), |form, (name, text)| form.text(name, text));
                request.multipart(form.part(part, file))
            }
        })
    }
}

/// The document in work, which must be there.
pub(super) fn document(context: &StepContext) -> Result<DocumentRef, StepError> {
    let missing = || StepError::bad_input("`send` document needs a document in work");
    context.document.clone().ok_or_else(missing)
}

/// What a caller declared is not always a media type.
fn media_type(document: &DocumentRef) -> String {
    let declared = document.mime_type.as_deref().unwrap_or_default();
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let essence = declared.split(';').next().unwrap_or_default().trim();
    match essence.split_once('/') {
        Some((kind, sub)) if is_token(kind) && is_token(sub) => essence.to_owned(),
        _ => "application/octet-stream".to_owned(),
    }
}

/// A document, piece by piece: it is never in memory as a whole.
fn pieces(
    store: DocumentStore,
    document: &DocumentRef,
) -> impl Stream<Item = Result<Bytes, StoreError>> + std::marker::Send + 'static {
    let (hash, size, store) = (document.hash, document.size, Arc::new(store));
    stream::try_unfold(0, move |from| {
        let store = Arc::clone(&store);
        async move {
            if from >= size {
                return Ok(None);
            }
            let to = size.min(from + PIECE);
            Ok(Some((store.read_range(hash, from..to).await?, to)))
        }
    })
}

/// Members of an object as texts; a list is a member that is repeated.
pub(super) fn fields(value: &Value) -> Result<Vec<(String, String)>, StepError> {
    let wrong = || {
        StepError::bad_input("a form is an object of texts, numbers, booleans and lists of them")
    };
    let mut fields = Vec::new();
    for (name, value) in value.as_object().ok_or_else(wrong)? {
        let items = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for item in items {
            match item {
                Value::Null => {}
                Value::String(text) => fields.push((name.clone(), text.clone())),
                Value::Bool(_) | Value::Number(_) => fields.push((name.clone(), item.to_string())),
                Value::Array(_) | Value::Object(_) => return Err(wrong()),
            }
        }
    }
    Ok(fields)
}

fn urlencoded(value: &Value) -> Result<String, StepError> {
    let fields = fields(value)?;
    Ok(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::rendering::variables;

    #[test]
    fn a_text_that_is_one_expression_becomes_its_value_and_any_other_a_text() {
        let body = json!({"id": "A-{{ input.n }}", "total": "{{ input.total }}", "rows": ["{{ input.rows }}", 1],
            "both": "{{ input.n }}{{ input.n }}", "fixed": null});
        let shape = Shape::compile("body", body).unwrap();
        let input = json!({"n": 7, "total": 12.5, "rows": [{"a": "<\"'\n"}]});
        assert_eq!(
            shape.render(&variables(&input, &json!({}))).unwrap(),
            json!({"id": "A-7", "total": 12.5, "rows": [[{"a": "<\"'\n"}], 1], "both": "77", "fixed": null})
        );
        let missing = Shape::compile("body", json!("{{ input.x }}")).unwrap();
        assert_eq!(
            missing.render(&variables(&input, &json!({}))).unwrap_err().code,
            "template_failed"
        );
        let fault = Shape::compile("body", json!({"a": [1, "{{ input. }}"]})).err().unwrap();
        assert_eq!(fault.path, "body.a[1]");
    }

    #[test]
    fn a_form_is_encoded_and_lists_are_repeated() {
        let form = json!({"a": "x&y=z", "b": [1, true], "c": null});
        assert_eq!(urlencoded(&form).unwrap(), "a=x%26y%3Dz&b=1&b=true");
        for wrong in [json!("text"), json!({"a": {"b": 1}}), json!({"a": [[1]]})] {
            assert_eq!(urlencoded(&wrong).unwrap_err().code, "bad_step_input", "{wrong}");
        }
    }
}
