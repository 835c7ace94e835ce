//! What types alone do not say of the bodies and parameters that callers send.

use std::marker::PhantomData;

use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::body::Text;
use crate::error::{ApiError, ApiResult, Code};
use crate::form::{MAX_NAME, NAME, is_name};

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $format:literal, $longest:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Default, Deserialize)]
            pub struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> String {
                    stringify!($name).into()
                }

                fn is_referenceable() -> bool {
                    false
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    let mut schema = SchemaObject {
                        instance_type: Some(InstanceType::String.into()),
                        format: Some($format.into()),
                        ..SchemaObject::default()
                    };
                    schema.string().max_length = $longest;
                    schema.into()
                }
            }
        )*
    };
}

// Stand for text of a format, to document what is read as text.
texts! {
    /// An id: a UUID.
    Id: "uuid", None;
    /// A time (RFC 3339).
    Time: "date-time", None;
    /// The bytes of a document.
    Binary: "binary", None;
    /// Bytes in base64 (RFC 4648, section 4).
    Base64: "byte", None;
    /// JSON as text.
    JsonText: "json", None;
    /// A JSON object, or null, as text.
    ObjectText: "json-object", None;
    /// Nothing.
    Empty: "text", Some(0);
}

/// Stands for a name for people: a [`Text`] that is short and not empty.
pub struct Name;

impl JsonSchema for Name {
    fn schema_name() -> String {
        "Name".into()
    }

    fn is_referenceable() -> bool {
        false
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Text::json_schema(generator).into_object();
        schema.string().min_length = Some(1);
        schema.string().max_length = MAX_NAME.try_into().ok();
        schema.into()
    }
}

/// What [`Name`] stands for.
///
/// # Errors
/// `invalid_value` at `name`.
pub fn name_text(text: Text) -> ApiResult<String> {
    let name = String::from(text);
    if is_name(&name) { Ok(name) } else { Err(ApiError::at(Code::InvalidValue, "name", NAME)) }
}

/// An object whose members are not read into `T` yet, which documents it.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Object<T>(pub Map<String, Value>, #[serde(skip)] PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn schema_name() -> String {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A JSON merge patch (RFC 7396) of what `T` documents: the members to change;
/// null takes a member's default back.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct MergePatch<T>(pub Map<String, Value>, #[serde(skip)] PhantomData<T>);

impl<T> MergePatch<T> {
    /// The whole with the patch applied. A null for a member that is not there
    /// stays: whoever reads the whole refuses it if there is no such member.
    pub fn apply(self, mut whole: Map<String, Value>) -> Map<String, Value> {
        merge(&mut whole, self.0);
        whole
    }
}

fn merge(whole: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match (whole.get_mut(&name), value) {
            (Some(_), Value::Null) => drop(whole.remove(&name)),
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            (_, value) => drop(whole.insert(name, value)),
        }
    }
}

impl<T: JsonSchema> JsonSchema for MergePatch<T> {
    fn schema_name() -> String {
        format!("{}Patch", T::schema_name())
    }

    /// The same members, each of which may be left out, and be null if it may
    /// be left out of the whole as well.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut whole = T::json_schema(generator).into_object();
        match whole.subschemas.as_mut().and_then(|forms| forms.one_of.take()) {
            // With members left out, several of the forms may fit.
            Some(mut forms) => {
                for form in &mut forms {
                    if let Schema::Object(form) = form {
                        loosen(form);
                    }
                }
                whole.subschemas().any_of = Some(forms);
            }
            None => loosen(&mut whole),
        }
        whole.into()
    }
}

fn loosen(whole: &mut SchemaObject) {
    let object = whole.object();
    for (name, schema) in &mut object.properties {
        if !object.required.contains(name) {
            *schema = or_null(schema.clone());
        }
    }
    object.required.clear();
}

fn or_null(schema: Schema) -> Schema {
    let mut schema = schema.into_object();
    schema.extensions.insert("nullable".into(), true.into());
    if let Some(reference) = schema.reference.take() {
        // Beside a reference everything is ignored (OpenAPI 3.0).
        schema.subschemas().all_of = Some(vec![Schema::new_ref(reference)]);
    }
    schema.into()
}

/// Takes out of what is written the members that only the server writes, so
/// that what was read can be sent back.
///
/// # Errors
/// `invalid_value` if such a member differs from what is `shown`.
pub fn drop_read_only(
    written: &mut Map<String, Value>,
    shown: &impl serde::Serialize,
    names: &[&str],
) -> ApiResult<()> {
    let shown = serde_json::to_value(shown).map_err(|_| ApiError::new(Code::Internal))?;
    for name in names {
        let Some(value) = written.remove(*name) else { continue };
        if shown.get(name) != Some(&value) {
            let detail = "read-only; leave it out, or send what is there now";
            return Err(ApiError::at(Code::InvalidValue, *name, detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(whole: Value, patch: Value) -> Value {
        let patch: MergePatch<()> = serde_json::from_value(patch).unwrap();
        Value::Object(patch.apply(serde_json::from_value(whole).unwrap()))
    }

    #[test]
    fn a_patch_changes_members_and_null_takes_them_away() {
        let whole = json!({"a": 1, "b": {"c": 2, "d": [3]}, "e": null});
        let patch = json!({"a": null, "b": {"c": 4}, "f": {"g": 5}});
        let expected = json!({"b": {"c": 4, "d": [3]}, "e": null, "f": {"g": 5}});
        assert_eq!(patched(whole.clone(), patch), expected);
        assert_eq!(patched(whole, json!({"b": [6]})), json!({"a": 1, "b": [6], "e": null}));
    }

    #[test]
    fn a_null_for_what_is_not_there_stays_to_be_refused() {
        let patch = json!({"typo": null, "a": {"typo": null}});
        assert_eq!(patched(json!({"a": {}}), patch.clone()), patch);
    }
}
