//! Query strings of a known form, with faults that name the parameter.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use apistos::paths::Parameter;
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, Schema};
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::body::misplaced;
use crate::error::{ApiError, ApiResult};

/// The query of a request.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> Query<T> {
    /// Reads the query of a request.
    ///
    /// # Errors
    /// `invalid_value` with the parameter.
    pub fn of(request: &HttpRequest) -> ApiResult<Self> {
        Self::of_text(request.query_string())
    }

    /// Reads a query string.
    ///
    /// # Errors
    /// `invalid_value` with the parameter.
    pub fn of_text(text: &str) -> ApiResult<Self> {
        let query = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
        serde_path_to_error::deserialize(query).map(Self).map_err(|error| misplaced(&error))
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

impl<T: ApiComponent> ApiComponent for Query<T> {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        web::Query::<T>::child_schemas()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn parameters() -> Vec<Parameter> {
        web::Query::<T>::parameters()
    }
}
