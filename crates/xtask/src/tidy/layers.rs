//! The layer table: which crate may import which. Imports point down only.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::{Finding, Report};

/// Each crate and what it may depend on. `protocol-*` stands for every protocol crate; in a crate's own list it never
/// means that a protocol may import another, since no protocol's row holds it.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("log", &["types"]),
    ("net", &["types"]),
    ("api", &["types"]),
    ("broker", &["log", "types"]),
    ("protocol-*", &["broker", "net", "api", "types"]),
    ("server", &["log", "net", "api", "broker", "protocol-*", "types"]),
    // `log` is for `posthouse log verify|dump`, which read a data directory without a server.
    ("cli", &["server", "api", "types", "log"]),
    ("sdk", &["api", "sdk-derive", "types"]),
    // A procedural macro: it writes paths of `sdk` and imports nothing.
    ("sdk-derive", &[]),
    // The gRPC services of a broker in the same process, called without a socket; and listeners, for tests of transports that need one.
    ("embedded", &["sdk", "broker", "log", "net", "protocol-amqp", "protocol-grpc", "types"]),
    ("shop", &["sdk", "embedded", "types"]),
    ("testkit", &["types", "log"]),
    // Nothing imports it: it is a test of its own, of the broker over the real engine.
    ("sim", &["broker", "log", "types", "testkit"]),
    // Nothing imports it but the targets below `fuzz/`: it feeds foreign bytes to whatever reads them, as if they came over a connection.
    ("fuzz", &["api", "broker", "log", "net", "protocol-*", "types", "testkit"]),
    // Drives the peers that `cargo xtask bench` compares with; not part of what is shipped.
    ("bench", &["broker", "log", "api", "sdk", "types"]),
    ("xtask", &[]),
];

/// The crate that only tests may use.
const DEV_ONLY: &str = "testkit";

/// Crates that show how the others are used, and lie in `examples/`.
const EXAMPLES: &[&str] = &["shop"];

/// Crates of others that must not be in a crate's tree, also not by way of a third, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("types", &["tokio", "serde"], "types is plain data that every layer shares: no runtime, no wire form"),
    ("log", &["tokio"], "the log runs on its own threads, so that an fsync never stalls a runtime"),
    ("broker", &["axum", "hyper", "rustls", "reqwest"], "the broker knows no sockets and no wire types"),
];

/// `anyhow` hides which errors there are; only programs that show them to a person may use it.
const MAY_USE_ANYHOW: &[&str] = &["bench", "cli", "shop", "xtask"];

/// A dependency as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependency {
    name: String,
    /// In this workspace, and not a crate of the same name from a registry.
    ours: bool,
    dev: bool,
}

/// A crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    /// Cargo's id, which tells our `log` from the registry's.
    id: String,
    /// Path of Cargo.toml from the root.
    manifest: String,
    dependencies: Vec<Dependency>,
}

/// Reads `cargo metadata` and `cargo tree`, and holds them against the tables.
///
/// # Errors
/// When cargo fails or prints what this does not understand.
pub(super) fn check(root: &Path) -> anyhow::Result<Report> {
    let metadata = cargo(root, &["metadata", "--format-version", "1", "--no-deps"])?;
    let packages = parse(&metadata)?;
    let mut findings = check_packages(&packages);
    for package in &packages {
        let manifest = std::fs::read_to_string(root.join(&package.manifest))
            .with_context(|| format!("cannot read {}", package.manifest))?;
        findings.extend(check_house(package, &manifest));
        for (_, forbidden, why) in FORBIDDEN.iter().filter(|(name, _, _)| *name == package.name) {
            // `cargo tree` resolves features for this package alone, as the whole workspace's graph would not.
            let arguments =
                ["tree", "-p", &package.id, "-e", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"];
            findings.extend(check_tree(package, &cargo(root, &arguments)?, forbidden, why));
        }
    }
    let edges: usize = packages.iter().map(|package| package.dependencies.iter().filter(|d| d.ours).count()).sum();
    Ok(Report { name: "layers", summary: format!("{} crates, {edges} edges", packages.len()), findings })
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .with_context(|| format!("cannot start `cargo {}`", arguments.join(" ")))?;
    anyhow::ensure!(
        output.status.success(),
        "`cargo {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).context("cargo printed no UTF-8")
}

fn parse(metadata: &str) -> anyhow::Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata printed no JSON")?;
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no workspace_root")?;
    let text = |value: &Value, field: &str| -> anyhow::Result<String> {
        Ok(value[field].as_str().with_context(|| format!("cargo metadata: no {field}"))?.to_owned())
    };
    let mut packages = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata: no packages")? {
        let manifest = text(package, "manifest_path")?;
        let mut dependencies = Vec::new();
        for dependency in package["dependencies"].as_array().context("cargo metadata: no dependencies")? {
            dependencies.push(Dependency {
                name: text(dependency, "name")?,
                ours: dependency["path"].is_string(),
                dev: dependency["kind"] == "dev",
            });
        }
        packages.push(Package {
            name: text(package, "name")?,
            id: text(package, "id")?,
            manifest: manifest.strip_prefix(root).unwrap_or(&manifest).trim_start_matches('/').to_owned(),
            dependencies,
        });
    }
    Ok(packages)
}

/// The row of the table that a crate falls under.
fn row_of(name: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|(pattern, _)| matches_pattern(pattern, name)).map(|(_, below)| *below)
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
        None => pattern == name,
    }
}

fn allows(row: &[&str], name: &str) -> bool {
    row.iter().any(|pattern| matches_pattern(pattern, name))
}

/// Every row that can be reached downwards from this one. Tests may use all of it: a protocol's test, for example,
/// builds a broker over the in-memory engine of `log`.
fn everything_below(row: &'static [&'static str]) -> BTreeSet<&'static str> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&'static str> = row.to_vec();
    while let Some(pattern) = waiting.pop() {
        if reached.insert(pattern)
            && let Some((_, below)) = LAYERS.iter().find(|(known, _)| *known == pattern)
        {
            waiting.extend(*below);
        }
    }
    reached
}

fn check_packages(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let Some(row) = row_of(&package.name) else {
        return vec![Finding::new(
            &package.manifest,
            0,
            format!("crate `{}` is not in the layer table", package.name),
            "give it a row in crates/xtask/src/tidy/layers.rs and in ARCHITECTURE.md, with what it may import",
        )];
    };
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        if !dependency.ours {
            if dependency.name == "anyhow" && !dependency.dev && !MAY_USE_ANYHOW.contains(&package.name.as_str()) {
                findings.push(Finding::new(
                    &package.manifest,
                    0,
                    format!("`{}` uses anyhow", package.name),
                    "a library's errors are enums with thiserror, so that callers can tell them apart",
                ));
            }
            continue;
        }
        if let Some((what, fix)) = forbidden_edge(package, row, dependency) {
            findings.push(Finding::new(&package.manifest, 0, what, fix));
        }
    }
    findings
}

/// What is wrong with one edge of the workspace, and what to do; nothing when the table has it.
fn forbidden_edge(
    package: &Package,
    row: &'static [&'static str],
    dependency: &Dependency,
) -> Option<(String, String)> {
    let (from, to) = (package.name.as_str(), dependency.name.as_str());
    if dependency.dev {
        let below: Vec<&str> = everything_below(row).into_iter().collect();
        if from == DEV_ONLY || to == DEV_ONLY || from == to || allows(&below, to) {
            return None;
        }
        let fix = "tests too may only use what lies below their crate; move the test to the crate that sees both";
        return Some((format!("the tests of `{from}` import `{to}`, which is not below it"), fix.to_owned()));
    }
    if allows(row, to) {
        return None;
    }
    if to == DEV_ONLY {
        let fix = "name it under [dev-dependencies]";
        return Some((format!("`{from}` imports `{DEV_ONLY}`, which is for tests only"), fix.to_owned()));
    }
    let allowed = if row.is_empty() { "nothing of ours".to_owned() } else { row.join(", ") };
    let fix = format!("it may import {allowed}; move what is shared down a layer, or pass it in through a trait");
    Some((format!("`{from}` imports `{to}`, an edge that is not in the layer table"), fix))
}

/// What every crate of the house has: a folder of its own name, and the lints of the workspace.
fn check_house(package: &Package, manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = if EXAMPLES.contains(&package.name.as_str()) { "examples" } else { "crates" };
    let wanted = format!("{folder}/{}/Cargo.toml", package.name);
    if package.manifest != wanted {
        let what = format!("crate `{}` does not lie where its name says", package.name);
        findings.push(Finding::new(&package.manifest, 0, what, format!("move it to {wanted}")));
    }
    let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
    let has_lints = lines.windows(2).any(|pair| matches!(pair, ["[lints]", "workspace = true"]));
    if !has_lints && !lines.contains(&"lints.workspace = true") {
        let fix = "add `[lints]` with `workspace = true`";
        findings.push(Finding::new(&package.manifest, 0, "the workspace's lints are not taken over", fix));
    }
    findings
}

/// Looks for forbidden crates in what `cargo tree` printed: one `name vX.Y.Z ...` a line.
fn check_tree(package: &Package, tree: &str, forbidden: &[&str], why: &str) -> Vec<Finding> {
    let present: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    forbidden
        .iter()
        .filter(|name| present.contains(*name))
        .map(|name| {
            Finding::new(
                &package.manifest,
                0,
                format!("`{}` has `{name}` in its tree", package.name),
                format!("{why}; `cargo tree -p {} -e normal -i {name}` shows the way in", package.name),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges as `("broker", "log")`; a `dev:` before the target makes it a dev-dependency.
    fn check(edges: &[(&str, &str)]) -> Vec<String> {
        let packages: Vec<Package> = edges
            .iter()
            .map(|(from, to)| Package {
                name: (*from).to_owned(),
                id: (*from).to_owned(),
                manifest: format!("crates/{from}/Cargo.toml"),
                dependencies: vec![Dependency {
                    name: to.trim_start_matches("dev:").to_owned(),
                    ours: true,
                    dev: to.starts_with("dev:"),
                }],
            })
            .collect();
        check_packages(&packages).iter().map(ToString::to_string).collect()
    }

    fn package(name: &str, manifest: &str) -> Package {
        Package { name: name.to_owned(), id: name.to_owned(), manifest: manifest.to_owned(), dependencies: Vec::new() }
    }

    #[test]
    fn edges_of_the_table_pass() {
        let edges = [
            ("log", "types"),
            ("broker", "log"),
            ("protocol-http", "broker"),
            ("server", "protocol-http"),
            ("server", "protocol-kafka"),
            ("cli", "log"),
            ("embedded", "sdk"),
            ("testkit", "log"),
        ];
        assert_eq!(check(&edges), Vec::<String>::new());
    }

    #[test]
    fn upward_and_sideways_edges_fail() {
        for (from, to) in [
            ("types", "log"),
            ("log", "broker"),
            ("net", "log"),
            ("broker", "net"),
            ("broker", "api"),
            ("protocol-http", "protocol-kafka"),
            ("protocol-http", "log"),
            ("protocol-http", "server"),
            ("cli", "broker"),
            ("sdk", "broker"),
            ("testkit", "broker"),
            ("xtask", "types"),
        ] {
            let findings = check(&[(from, to)]);
            assert_eq!(findings.len(), 1, "{from} -> {to}");
            assert!(findings[0].contains(&format!("`{from}` imports `{to}`")), "{findings:?}");
        }
    }

    #[test]
    fn an_unknown_crate_fails() {
        assert!(check(&[("common", "types")])[0].contains("`common` is not in the layer table"));
        assert_eq!(check(&[("protocol-", "types")]).len(), 1, "a protocol has a name");
    }

    #[test]
    fn testkit_is_for_tests_only() {
        assert!(check(&[("broker", "testkit")])[0].contains("[dev-dependencies]"));
        assert_eq!(check(&[("broker", "dev:testkit"), ("testkit", "dev:server")]), Vec::<String>::new());
    }

    #[test]
    fn tests_may_reach_below_but_not_up_or_sideways() {
        assert_eq!(check(&[("protocol-http", "dev:log"), ("cli", "dev:broker")]), Vec::<String>::new());
        for (from, to) in [("log", "dev:broker"), ("protocol-http", "dev:protocol-kafka"), ("broker", "dev:net")] {
            assert_eq!(check(&[(from, to)]).len(), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn a_crate_of_the_same_name_from_a_registry_is_no_edge() {
        let metadata = r#"{"workspace_root": "/w", "packages": [{"name": "net", "id": "net#1",
            "manifest_path": "/w/crates/net/Cargo.toml", "dependencies": [
                {"name": "log", "kind": null, "source": "registry"},
                {"name": "anyhow", "kind": null, "source": "registry"},
                {"name": "api", "kind": "build", "path": "/w/crates/api"}]}]}"#;
        let packages = parse(metadata).expect("metadata");
        assert_eq!(packages[0].manifest, "crates/net/Cargo.toml");
        let findings: Vec<String> = check_packages(&packages).iter().map(ToString::to_string).collect();
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("uses anyhow") && findings[1].contains("imports `api`"), "{findings:?}");
    }

    #[test]
    fn a_forbidden_crate_deep_in_the_tree_fails() {
        let tree = "types v0.1.0 (/w/crates/types)\nbytes v1.12.0\nserde v1.0.0\nserde_core v1.0.0\n";
        let types = package("types", "crates/types/Cargo.toml");
        let findings = check_tree(&types, tree, &["tokio", "serde"], "no wire form");
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().contains("`types` has `serde` in its tree"), "{findings:?}");
    }

    #[test]
    fn folder_and_lints_are_held() {
        let good = "[package]\nname = \"log\"\n\n[lints]\nworkspace = true\n";
        assert_eq!(check_house(&package("log", "crates/log/Cargo.toml"), good), Vec::new());
        assert_eq!(check_house(&package("log", "crates/store/Cargo.toml"), good).len(), 1);
        assert_eq!(check_house(&package("log", "crates/log/Cargo.toml"), "[package]\nworkspace = true\n").len(), 1);
        assert_eq!(check_house(&package("shop", "examples/shop/Cargo.toml"), "[lints]\nworkspace = true\n"), vec![]);
        assert_eq!(check_house(&package("shop", "crates/shop/Cargo.toml"), "[lints]\nworkspace = true\n").len(), 1);
    }
}
