//! Lists in pages.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use apistos::paths::Parameter;
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, Schema};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::answer::Answers;
use super::query::Query;
use crate::error::{ApiError, ApiResult, Code};
use crate::store::page::{Page, Paged};

const MAX_PAGE_SIZE: u64 = 1000;
const PAGE_SIZE: u64 = 50;

/// The names of [`PageQuery`].
const PAGE_PARAMETERS: [&str; 2] = ["page", "page_size"];

/// Which page.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// From 1.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    page: Option<u64>,
    /// At most 1000; 50 if absent.
    #[schemars(range(min = 1, max = 1000))]
    page_size: Option<u64>,
}

impl PageQuery {
    /// The page in the store's terms.
    ///
    /// # Errors
    /// `invalid_value` with the place.
    fn page(&self) -> ApiResult<Page> {
        let number = self.page.unwrap_or(1);
        let size = self.page_size.unwrap_or(PAGE_SIZE);
        if !(1..=u64::from(u32::MAX)).contains(&number) {
            return Err(ApiError::at(Code::InvalidValue, "page", "1 or more"));
        }
        if !(1..=MAX_PAGE_SIZE).contains(&size) {
            let detail = format!("from 1 to {MAX_PAGE_SIZE}");
            return Err(ApiError::at(Code::InvalidValue, "page_size", detail));
        }
        Ok(Page { index: number - 1, size })
    }
}

/// Which page of which list.
pub struct Paging {
    /// The page in the store's terms.
    pub page: Page,
    path: String,
    /// The rest of the query, which every page of one list has in common.
    filter: String,
}

impl Paging {
    /// Path and query of another page of the list.
    fn link(&self, index: u64) -> String {
        let Self { page, path, filter } = self;
        let and = if filter.is_empty() { "" } else { "&" };
        format!("{path}?{filter}{and}page={}&page_size={}", index + 1, page.size)
    }
}

/// Which page of a list that can be narrowed down by the parameters of `F`,
/// which refuses what it does not know.
pub struct Filtered<F> {
    /// Which page.
    pub paging: Paging,
    /// What narrows the list down.
    pub filter: F,
}

impl<F: DeserializeOwned> Filtered<F> {
    fn of(request: &HttpRequest) -> ApiResult<Self> {
        let part = |of_page: bool| {
            let pairs = form_urlencoded::parse(request.query_string().as_bytes());
            let named = |name: &str| PAGE_PARAMETERS.contains(&name) == of_page;
            let pairs = pairs.filter(|(name, _)| named(name));
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        };
        let page = Query::<PageQuery>::of_text(&part(true))?.0.page()?;
        let rest = part(false);
        let filter = Query::of_text(&rest)?.0;
        Ok(Self { paging: Paging { page, path: request.path().to_owned(), filter: rest }, filter })
    }
}

/// Nothing narrows the list down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unfiltered {}

impl FromRequest for Paging {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Filtered::<Unfiltered>::of(request).map(|whole| whole.paging))
    }
}

impl<F: DeserializeOwned> FromRequest for Filtered<F> {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

impl<F: ApiComponent> ApiComponent for Filtered<F> {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Query::<F>::child_schemas()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn parameters() -> Vec<Parameter> {
        [Query::<F>::parameters(), Paging::parameters()].concat()
    }
}

impl ApiComponent for Paging {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn parameters() -> Vec<Parameter> {
        Query::<PageQuery>::parameters()
    }
}

/// A page of a list.
#[derive(Serialize, JsonSchema)]
pub struct Listing<T> {
    /// Rows in the whole list.
    count: u64,
    /// Path and query of the next page.
    next: Option<String>,
    /// Path and query of the page before.
    previous: Option<String>,
    results: Vec<T>,
}

impl<T> Answers for Listing<T> {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "A page of the list")];
}

impl<T> Listing<T> {
    /// A page of rows as callers see them.
    pub fn new<R>(paging: &Paging, found: Paged<R>, shown: impl FnMut(R) -> T) -> Self {
        let page = paging.page;
        let more = (page.index + 1) * page.size < found.total;
        Self {
            count: found.total,
            next: more.then(|| paging.link(page.index + 1)),
            previous: page.index.checked_sub(1).map(|index| paging.link(index)),
            results: found.rows.into_iter().map(shown).collect(),
        }
    }
}
