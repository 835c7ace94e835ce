//! The setting `source` of a deployment.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::plan::Faults;
use crate::form::{API_NAME, is_api_name};

/// Documents that one run may load.
pub const MAX_FILES: u32 = 5000;

/// Bytes that one run may load: 1 TiB.
const MAX_BYTES: u64 = 1 << 40;

/// Bytes of a path; what S3 allows.
pub const MAX_PATH_BYTES: usize = 1024;

/// Patterns in one list.
const MAX_PATTERNS: usize = 100;

/// Bytes of one pattern.
const MAX_PATTERN_BYTES: usize = 256;

/// Where a deployment of type `ETL` gets documents by itself. A submission
/// without documents, and each turn of its schedule, runs on the files that are
/// new or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DocumentSource")]
pub struct Source {
    /// Name of the organisation's `object_store` connection.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    pub connection: String,
    /// The folder in it, such as `inbox/`; left out: all of it.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub prefix: String,
    /// Patterns of the paths below the prefix that are taken: `*` and `?`
    /// within one folder, `**` over folders, `[…]` and `{a,b}`.
    #[serde(default = "everything")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    pub include: Vec<String>,
    /// Patterns of those that are not, whatever `include` says.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 256)))]
    pub exclude: Vec<String>,
    /// Which files come first. Those whose last try failed come after all
    /// others.
    #[serde(default)]
    pub order: Order,
    /// Files that one run loads; the rest waits for the next one.
    #[serde(default = "default_files")]
    #[schemars(range(min = 1, max = 5000))]
    pub max_files: u32,
    /// Bytes that one run loads; the rest waits for the next one.
    #[serde(default = "default_bytes")]
    #[schemars(range(min = 1, max = 1_099_511_627_776_u64))]
    pub max_bytes: u64,
    /// Whether files that succeeded and have not changed since are left out.
    #[serde(default = "yes")]
    pub changed_only: bool,
}

/// Which files come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "DocumentSourceOrder")]
pub enum Order {
    /// By path.
    #[default]
    Name,
    /// Those that were changed longest ago.
    Modified,
    /// The smallest.
    Size,
}

fn everything() -> Vec<String> {
    vec!["**".into()]
}

fn default_files() -> u32 {
    500
}

fn default_bytes() -> u64 {
    1 << 30
}

fn yes() -> bool {
    true
}

impl Source {
    /// The places that are wrong, each with what would be right. It compiles
    /// the patterns: not for an asynchronous thread.
    pub fn faults(&self) -> Faults {
        let mut faults = Faults::new();
        if !is_api_name(&self.connection) {
            faults.push(("source.connection".into(), API_NAME.into()));
        }
        if !is_folder(&self.prefix) {
            let cure = "a folder such as inbox/ within the connection: at most 1024 bytes, \
                without `..`, backslash or control characters";
            faults.push(("source.prefix".into(), cure.into()));
        }
        if !(1..=MAX_FILES).contains(&self.max_files) {
            faults.push(("source.max_files".into(), format!("from 1 to {MAX_FILES}")));
        }
        if !(1..=MAX_BYTES).contains(&self.max_bytes) {
            faults.push(("source.max_bytes".into(), format!("from 1 to {MAX_BYTES}")));
        }
        if self.include.is_empty() {
            faults.push(("source.include".into(), "at least one pattern, or left out".into()));
        }
        for (list, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
            faults.extend(list_faults(list, patterns));
        }
        faults
    }

    /// The folder as the store names it: without a slash at its beginning, with
    /// one at its end; empty for everything.
    pub fn folder(&self) -> String {
        match self.prefix.trim_matches('/') {
            "" => String::new(),
            inner => format!("{inner}/"),
        }
    }

    /// What is taken, ready to look at paths.
    ///
    /// # Errors
    /// If the patterns were valid once and are no longer.
    pub fn selection(&self) -> Result<Selection, globset::Error> {
        Ok(Selection { include: compile(&self.include)?, exclude: compile(&self.exclude)? })
    }
}

/// Which paths below the prefix are taken.
#[derive(Debug, Clone)]
pub struct Selection {
    include: GlobSet,
    exclude: GlobSet,
}

impl Selection {
    /// Whether the file of this path below the prefix is taken.
    pub fn takes(&self, path: &str) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }
}

fn list_faults(list: &str, patterns: &[String]) -> Faults {
    if patterns.len() > MAX_PATTERNS {
        return vec![(format!("source.{list}"), format!("at most {MAX_PATTERNS} patterns"))];
    }
    let fault = |(index, pattern): (usize, &String)| {
        let fits = (1..=MAX_PATTERN_BYTES).contains(&pattern.len());
        let is_right = fits && compile(std::slice::from_ref(pattern)).is_ok();
        let cure = format!("a pattern such as **/*.pdf, of at most {MAX_PATTERN_BYTES} bytes");
        (!is_right).then(|| (format!("source.{list}[{index}]"), cure))
    };
    patterns.iter().enumerate().filter_map(fault).collect()
}

fn compile(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // A star stays within its folder, as it does in a shell.
        set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
    }
    set.build()
}

/// Whether the text names a folder within a store.
fn is_folder(text: &str) -> bool {
    text.len() <= MAX_PATH_BYTES
        && (text.trim_matches('/').is_empty() || is_path(text.trim_matches('/')))
}

/// Whether the text is a path within a store, of the one form that all stores
/// know: without empty parts, `.` and `..`, backslashes and control characters.
pub fn is_path(text: &str) -> bool {
    let is_odd = |char: char| char.is_control() || char == '\\';
    (1..=MAX_PATH_BYTES).contains(&text.len())
        && !text.contains(is_odd)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn source(changes: &Value) -> Source {
        let mut whole = json!({"connection": "archive"});
        whole.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_source_needs_no_more_than_its_connection() {
        let source = source(&json!({}));
        assert!(source.faults().is_empty());
        assert_eq!((source.max_files, source.changed_only), (500, true));
        assert!(source.selection().unwrap().takes("a/b/c.pdf"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = vec!["*"; 101];
        for (change, place) in [
            (json!({"connection": "a b"}), "source.connection"),
            (json!({"prefix": "a/../b"}), "source.prefix"),
            (json!({"prefix": "a\\b"}), "source.prefix"),
            (json!({"prefix": "a\u{0}b"}), "source.prefix"),
            (json!({"prefix": "a".repeat(1025)}), "source.prefix"),
            (json!({"max_files": 0}), "source.max_files"),
            (json!({"max_files": 5001}), "source.max_files"),
            (json!({"max_bytes": 0}), "source.max_bytes"),
            (json!({"include": []}), "source.include"),
            (json!({"include": many}), "source.include"),
            (json!({"include": ["*.pdf", "a[b"]}), "source.include[1]"),
            (json!({"exclude": [""]}), "source.exclude[0]"),
            (json!({"exclude": ["{a,b"]}), "source.exclude[0]"),
        ] {
            let faults = source(&change).faults();
            assert_eq!(faults.len(), 1, "{change}");
            assert_eq!(faults[0].0, place);
        }
    }

    #[test]
    fn patterns_know_folders_and_what_is_excluded_stays_out() {
        let selection =
            source(&json!({"include": ["*.pdf", "in/**/*.{txt,md}"], "exclude": ["in/old/**"]}))
                .selection()
                .unwrap();
        for (path, expected) in [
            ("a.pdf", true),
            ("b/a.pdf", false),
            ("in/a.txt", true),
            ("in/b/c/a.md", true),
            ("in/old/a.md", false),
            ("in/a.pdf", false),
        ] {
            assert_eq!(selection.takes(path), expected, "{path}");
        }
    }

    #[test]
    fn a_folder_has_one_form_however_it_is_written() {
        for (prefix, folder) in [("", ""), ("/", ""), ("in", "in/"), ("/in/b/", "in/b/")] {
            assert_eq!(source(&json!({"prefix": prefix})).folder(), folder);
        }
        for path in ["", "/a", "a//b", "a/./b", "../a", "a/", "a\nb"] {
            assert!(!is_path(path), "{path:?}");
        }
        assert!(is_path("ä ö/b..c.pdf"));
    }
}
