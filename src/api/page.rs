//! Lists in pages.

use apistos::ApiComponent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answers;
use crate::error::{ApiError, ApiResult, Code};
use crate::store::workflows::{Page, Paged};

const MAX_PAGE_SIZE: u64 = 1000;
const PAGE_SIZE: u64 = 50;

/// Which page.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// From 1.
    page: Option<u64>,
    /// At most 1000.
    page_size: Option<u64>,
}

impl PageQuery {
    /// The page in the store's terms.
    ///
    /// # Errors
    /// `invalid_value` with the place.
    pub fn page(&self) -> ApiResult<Page> {
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

/// A page of a list.
#[derive(Serialize, JsonSchema)]
pub struct Listing<T> {
    /// Rows in the whole list.
    count: u64,
    /// Query of the next page.
    next: Option<String>,
    /// Query of the page before.
    previous: Option<String>,
    results: Vec<T>,
}

impl<T> Answers for Listing<T> {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "A page of the list")];
}

impl<T> Listing<T> {
    /// A page of rows as callers see them.
    pub fn new<R>(page: Page, found: Paged<R>, shown: impl FnMut(R) -> T) -> Self {
        let link = |index: u64| format!("?page={}&page_size={}", index + 1, page.size);
        let more = (page.index + 1) * page.size < found.total;
        Self {
            count: found.total,
            next: more.then(|| link(page.index + 1)),
            previous: page.index.checked_sub(1).map(link),
            results: found.rows.into_iter().map(shown).collect(),
        }
    }
}
