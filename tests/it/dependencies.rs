//! The page on dependencies says what the manifests say.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Names of all crates that a manifest of this workspace asks for.
///
/// Cargo itself reads the manifests, so that renamed, inherited and
/// target-specific dependencies count too.
fn named_in_manifests() -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .flat_map(|package| package["dependencies"].as_array().unwrap())
        .filter(|dependency| dependency.get("path").is_none_or(Value::is_null))
        .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The first cell of every row: "| `name` | why | licence |".
fn named_on_the_page() -> Vec<String> {
    let page = include_str!("../../docs/dependencies.md");
    page.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn every_direct_dependency_is_explained_once_and_no_other() {
    let rows = named_on_the_page();
    let page: BTreeSet<String> = rows.iter().cloned().collect();
    let manifests = named_in_manifests();
    let missing: Vec<_> = manifests.difference(&page).collect();
    let stale: Vec<_> = page.difference(&manifests).collect();
    assert!(missing.is_empty(), "add to docs/dependencies.md: {missing:?}");
    assert!(stale.is_empty(), "remove from docs/dependencies.md: {stale:?}");
    assert_eq!(rows.len(), page.len(), "docs/dependencies.md names a crate twice");
}
