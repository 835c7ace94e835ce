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
    /// The list: its path, `?`, and its filters, each followed by `&`.
    list: String,
}

impl Paging {
    fn of(request: &HttpRequest) -> ApiResult<Self> {
        let page = Query::<PageQuery>::of(request)?.0.page()?;
        Ok(Self { page, list: format!("{}?", request.path()) })
    }

    /// Path and query of another page of the list.
    fn link(&self, index: u64) -> String {
        format!("{}page={}&page_size={}", self.list, index + 1, self.page.size)
    }
}

impl FromRequest for Paging {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
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

/// Which page of a list, and which of its rows.
pub struct Filtered<F> {
    /// Which rows.
    pub filter: F,
    /// Which page of them.
    pub paging: Paging,
}

impl<F: DeserializeOwned> Filtered<F> {
    fn of(request: &HttpRequest) -> ApiResult<Self> {
        let pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let (page, filter): (Vec<_>, Vec<_>) =
            pairs.partition(|(name, _)| ["page", "page_size"].contains(&name.as_ref()));
        let written =
            |pairs| form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let (page, filter): (String, String) = (written(page), written(filter));
        let mut list = format!("{}?", request.path());
        if !filter.is_empty() {
            list.push_str(&filter);
            list.push('&');
        }
        let paging = Paging { page: Query::<PageQuery>::parse(&page)?.0.page()?, list };
        Ok(Self { filter: Query::parse(&filter)?.0, paging })
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
        let mut parameters = Query::<F>::parameters();
        parameters.extend(Paging::parameters());
        parameters
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
