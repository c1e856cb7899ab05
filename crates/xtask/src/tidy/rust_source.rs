//! Rust files as syntax trees, without what only tests see.

use std::collections::{BTreeMap, BTreeSet};

use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, ImplItem, Item, Meta, Stmt, Token, TraitItem};

use super::{Finding, crate_of};

/// A file of production code.
pub(super) struct RustSource {
    /// Path from the root of the repository.
    pub(super) path: String,
    /// The whole text, tests included.
    pub(super) text: String,
    /// The tree, with each test-only item taken out.
    pub(super) tree: syn::File,
    /// Lines of the file that are not inside a test-only item.
    pub(super) production_lines: usize,
}

/// A file with its test-only parts taken out, and what those were.
struct Stripped {
    tree: syn::File,
    test_lines: usize,
    /// Paths of modules that are declared test-only here but written elsewhere, such as `crates/log/src/wal/tests`.
    test_modules: Vec<String>,
}

/// Parses every `crates/*/src/**.rs` among `texts` and leaves out the files that only tests see. A file that cannot
/// be parsed becomes a finding, since nothing about it would be checked.
pub(super) fn load(texts: &BTreeMap<String, String>) -> (Vec<RustSource>, Vec<Finding>) {
    let mut sources = Vec::new();
    let mut findings = Vec::new();
    let mut test_modules = BTreeSet::new();
    for (path, text) in texts.iter().filter(|(path, _)| is_source(path)) {
        match syn::parse_file(text) {
            Err(error) => findings.push(Finding::new(
                path,
                error.span().start().line,
                format!("this file cannot be parsed: {error}"),
                "mend the syntax; if the compiler takes it, syn in xtask is too old",
            )),
            Ok(tree) if is_test_only(&tree.attrs) => {
                test_modules.insert(module_path(path));
            }
            Ok(tree) => {
                let stripped = strip_tests(path, tree);
                test_modules.extend(stripped.test_modules);
                sources.push(RustSource {
                    path: path.clone(),
                    text: text.clone(),
                    tree: stripped.tree,
                    production_lines: text.lines().count().saturating_sub(stripped.test_lines),
                });
            }
        }
    }
    sources.retain(|source| {
        let module = module_path(&source.path);
        !test_modules.iter().any(|test| module == *test || module.starts_with(&format!("{test}/")))
    });
    (sources, findings)
}

fn is_source(path: &str) -> bool {
    path.ends_with(".rs")
        && crate_of(path).is_some_and(|name| path.strip_prefix(&format!("crates/{name}/src/")).is_some())
}

/// Where the modules inside this file lie: `a/src/wal.rs` and `a/src/wal/mod.rs` are both `a/src/wal`.
fn module_path(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    for root in ["/mod", "/lib", "/main"] {
        if let Some(folder) = stem.strip_suffix(root) {
            return folder.to_owned();
        }
    }
    stem.to_owned()
}

fn strip_tests(path: &str, mut tree: syn::File) -> Stripped {
    let mut stripper = Stripper { module: vec![module_path(path)], test_lines: BTreeSet::new(), test_modules: vec![] };
    stripper.visit_file_mut(&mut tree);
    Stripped { tree, test_lines: stripper.test_lines.len(), test_modules: stripper.test_modules }
}

/// Takes test-only items, members and statements out of a tree.
struct Stripper {
    /// The modules around the current item, the file's own first.
    module: Vec<String>,
    test_lines: BTreeSet<usize>,
    test_modules: Vec<String>,
}

impl Stripper {
    /// Whether to keep a node with these attributes; remembers the lines of those that go.
    fn keep(&mut self, attributes: &[Attribute], node: &impl Spanned) -> bool {
        if !is_test_only(attributes) {
            return true;
        }
        let span = node.span();
        self.test_lines.extend(span.start().line..=span.end().line);
        false
    }

    fn keep_item(&mut self, item: &Item) -> bool {
        let attributes = item_attributes(item);
        if let Item::Mod(module) = item
            && module.content.is_none()
            && is_test_only(attributes)
        {
            self.test_modules.push(format!("{}/{}", self.module.join("/"), module.ident));
        }
        self.keep(attributes, item)
    }
}

impl VisitMut for Stripper {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| self.keep_item(item));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        self.module.push(module.ident.to_string());
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| self.keep_item(item));
        }
        visit_mut::visit_item_mod_mut(self, module);
        self.module.pop();
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        block.items.retain(|item| self.keep(impl_item_attributes(item), item));
        visit_mut::visit_item_impl_mut(self, block);
    }

    fn visit_item_trait_mut(&mut self, block: &mut syn::ItemTrait) {
        block.items.retain(|item| self.keep(trait_item_attributes(item), item));
        visit_mut::visit_item_trait_mut(self, block);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| match statement {
            Stmt::Local(local) => self.keep(&local.attrs, local),
            Stmt::Item(item) => self.keep_item(item),
            Stmt::Macro(call) => self.keep(&call.attrs, call),
            _ => true,
        });
        visit_mut::visit_block_mut(self, block);
    }
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn impl_item_attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

fn trait_item_attributes(item: &TraitItem) -> &[Attribute] {
    match item {
        TraitItem::Const(item) => &item.attrs,
        TraitItem::Fn(item) => &item.attrs,
        TraitItem::Type(item) => &item.attrs,
        TraitItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item with these attributes is in no build but a test's: `#[cfg(test)]`, `#[test]`, `#[tokio::test]`.
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("cfg") {
            return attribute.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition));
        }
        attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
    })
}

/// Whether a `cfg` condition can only hold in a test build.
fn needs_test(condition: &Meta) -> bool {
    let inner = || match condition {
        Meta::List(list) => list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).unwrap_or_default(),
        _ => Punctuated::new(),
    };
    if condition.path().is_ident("test") {
        true
    } else if condition.path().is_ident("all") {
        inner().iter().any(needs_test)
    } else if condition.path().is_ident("any") {
        let inner = inner();
        !inner.is_empty() && inner.iter().all(needs_test)
    } else {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_all(files: &[(&str, &str)]) -> (Vec<RustSource>, Vec<Finding>) {
        load(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// Names of the functions that are left as production code.
    fn functions(text: &str) -> Vec<String> {
        let (sources, findings) = load_all(&[("crates/log/src/lib.rs", text)]);
        assert_eq!(findings, Vec::new());
        sources[0]
            .tree
            .items
            .iter()
            .filter_map(|item| if let Item::Fn(function) = item { Some(function.sig.ident.to_string()) } else { None })
            .collect()
    }

    #[test]
    fn test_only_items_are_left_out() {
        let text = "fn a() {}\n#[cfg(test)] fn b() {}\n#[test] fn c() {}\n#[tokio::test] async fn d() {}\n\
            #[cfg(all(test, unix))] fn e() {}\n#[cfg(not(test))] fn f() {}\n#[cfg(any(test, feature = \"x\"))] fn g() {}";
        assert_eq!(functions(text), ["a", "f", "g"]);
    }

    #[test]
    fn lines_of_inline_tests_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        let (sources, _) = load_all(&[("crates/log/src/lib.rs", text)]);
        assert_eq!(sources[0].production_lines, 2);
    }

    #[test]
    fn modules_that_only_tests_see_are_no_production_files() {
        let (sources, _) = load_all(&[
            ("crates/log/src/lib.rs", "mod wal;"),
            ("crates/log/src/wal.rs", "#[cfg(test)]\nmod tests;\nmod other;"),
            ("crates/log/src/wal/other.rs", ""),
            ("crates/log/src/wal/tests.rs", "mod deep;"),
            ("crates/log/src/wal/tests/deep.rs", ""),
            ("crates/log/src/inner.rs", "#![cfg(test)]"),
            ("crates/log/tests/it/main.rs", ""),
        ]);
        let paths: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
        assert_eq!(paths, ["crates/log/src/lib.rs", "crates/log/src/wal.rs", "crates/log/src/wal/other.rs"]);
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_a_finding() {
        let (_, findings) = load_all(&[("crates/log/src/lib.rs", "fn a() {}\nfn (")]);
        assert_eq!((findings.len(), findings[0].line), (1, 2), "{findings:?}");
    }
}
