//! Where a call goes: the URL of a connection with a path below it, or a URL
//! that the workflow makes.

use minijinja::value::Value as Variables;
use reqwest::header::HeaderName;
use url::Url;

use super::invalid;
use crate::steps::rendering::Renderer;
use crate::steps::{ParamError, StepError};

/// Bytes of a URL, and of one of its parts.
pub(super) const MAX_URL: usize = 8192;

/// What stands behind a base URL.
pub(super) struct Target {
    /// The whole URL, where there is no connection.
    url: Option<Renderer>,
    path: Option<Renderer>,
    query: Vec<(String, Renderer)>,
}

impl Target {
    pub(super) fn compile(
        url: Option<String>,
        path: Option<String>,
        query: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ParamError> {
        let query = query.into_iter().map(|(name, source)| {
            let renderer = Renderer::compile(&format!("query.{name}"), source)?;
            Ok((name, renderer))
        });
        Ok(Self {
            url: url.map(|source| Renderer::compile("url", source)).transpose()?,
            path: path.map(|source| Renderer::compile("path", source)).transpose()?,
            query: query.collect::<Result<_, _>>()?,
        })
    }

    /// The URL of one call. `base` is that of the connection, if there is one.
    pub(super) fn url(&self, base: Option<&str>, variables: &Variables) -> Result<Url, StepError> {
        let mut url = match (&self.url, base) {
            (Some(url), _) => named(&url.render(variables.clone(), MAX_URL)?)?,
            (None, base) => base
                .and_then(|base| Url::parse(base).ok())
                .ok_or_else(|| invalid("the connection's `base_url` cannot be used"))?,
        };
        if let Some(path) = &self.path {
            extend(&mut url, &path.render(variables.clone(), MAX_URL)?)?;
        }
        if !self.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &self.query {
                pairs.append_pair(name, &value.render(variables.clone(), MAX_URL)?);
            }
        }
        if url.as_str().len() > MAX_URL { Err(invalid("the URL is too long")) } else { Ok(url) }
    }
}

/// A URL that the workflow makes.
fn named(text: &str) -> Result<Url, StepError> {
    let fits = |url: &Url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let url = Url::parse(text).ok().filter(fits);
    let cure = "the `url` is no http or https URL without user and password";
    url.ok_or_else(|| invalid(cure))
}

/// Adds a path below the one that is there. A part of it can come from a
/// document: whatever is in it stays a part of a path, encoded where it would
/// mean something else, and what would climb out is refused.
fn extend(url: &mut Url, path: &str) -> Result<(), StepError> {
    if path.contains(char::is_control) || path.contains('\\') {
        return Err(invalid("the `path` has a control character or a backslash"));
    }
    let parts: Vec<_> = path.split('/').collect();
    // A server may decode what stands here encoded.
    if parts.iter().any(|part| is_dots(part)) {
        return Err(invalid("the `path` has a part `.` or `..`"));
    }
    let ends_open = path.ends_with('/');
    let mut segments =
        url.path_segments_mut().map_err(|()| invalid("the `base_url` takes no path"))?;
    segments.pop_if_empty().extend(parts.into_iter().filter(|part| !part.is_empty()));
    if ends_open {
        segments.push("");
    }
    Ok(())
}

fn is_dots(part: &str) -> bool {
    let plain = part.replace("%2e", ".").replace("%2E", ".");
    plain == "." || plain == ".."
}

/// The name of a header that a workflow may set.
pub(super) fn header_name(name: &str) -> Option<HeaderName> {
    let name = HeaderName::try_from(name).ok()?;
    (!crate::outbound::headers::is_framing(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::steps::rendering::variables;

    fn url(base: &str, path: &str) -> Result<String, StepError> {
        let target = Target::compile(None, Some("{{ input }}".into()), []).unwrap();
        let variables = variables(&json!(path), &json!({}));
        target.url(Some(base), &variables).map(String::from)
    }

    #[test]
    fn a_path_stays_below_the_base_whatever_it_is_made_of() {
        for (path, expected) in [
            ("a/b", "https://h:8443/api/a/b"),
            ("/a//b/", "https://h:8443/api/a/b/"),
            ("", "https://h:8443/api/"),
            ("//evil.example/x", "https://h:8443/api/evil.example/x"),
            ("https://evil.example/x", "https://h:8443/api/https:/evil.example/x"),
            ("@evil.example", "https://h:8443/api/@evil.example"),
            ("a?b=c#d", "https://h:8443/api/a%3Fb=c%23d"),
            ("a%2fb", "https://h:8443/api/a%252fb"),
            ("ä b", "https://h:8443/api/%C3%A4%20b"),
        ] {
            let made = url("https://h:8443/api", path).unwrap();
            // An empty path adds nothing.
            let expected = if path.is_empty() { "https://h:8443/api" } else { expected };
            assert_eq!(made, expected, "{path}");
        }
        for path in ["..", "a/../../b", ".", "%2e%2e/x", ".%2E", "a\\b", "\\\\evil", "a\r\nb", "\0"]
        {
            assert!(url("https://h/api", path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_host_or_the_base(path in "[./\\\\@?#:%2eE a-z\u{ff0e}\u{2024}\t]{0,24}") {
            if let Ok(made) = url("https://h:8443/api/v1/", &path) {
                let made = Url::parse(&made).unwrap();
                prop_assert_eq!(made.host_str(), Some("h"));
                prop_assert_eq!(made.port(), Some(8443));
                prop_assert!(made.username().is_empty() && made.query().is_none());
                prop_assert!(made.path().starts_with("/api/v1"), "{}", made);
            }
        }
    }

    #[test]
    fn a_query_is_encoded_and_added_to_that_of_the_url() {
        let query = [("q".to_owned(), "{{ input }}".to_owned())];
        let target = Target::compile(Some("https://h/x?a=1".into()), None, query).unwrap();
        let made = target.url(None, &variables(&json!("b&c=d#e"), &json!({}))).unwrap();
        assert_eq!(made.as_str(), "https://h/x?a=1&q=b%26c%3Dd%23e");
    }

    #[test]
    fn a_url_of_the_workflow_is_one_of_the_web_without_a_password() {
        let target = Target::compile(Some("{{ input }}".into()), None, []).unwrap();
        for text in ["", "h/x", "ftp://h/", "file:///etc/passwd", "https://u:p@h/", "https://"] {
            assert!(target.url(None, &variables(&json!(text), &json!({}))).is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_is_one_that_a_workflow_may_set() {
        for name in ["", "a b", "a:b", "Host", "content-length", "Transfer-Encoding", "ä"] {
            assert!(header_name(name).is_none(), "{name}");
        }
        assert!(header_name("X-Trace").is_some());
    }
}
