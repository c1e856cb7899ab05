//! How long files and functions are. Long ones are reported; far too long ones fail.

use std::fmt::Write;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::rust_source::RustSource;
use super::{Finding, Report, sources_of};

/// A file over this many production lines is reported.
const LONG_FILE_LINES: usize = 400;
/// A file over this many production lines fails.
const FILE_LIMIT_LINES: usize = 900;
/// A function over this many lines is reported.
const LONG_FUNCTION_LINES: usize = 70;
/// A function over this many lines fails.
const FUNCTION_LIMIT_LINES: usize = 150;

/// A function of production code.
struct Function {
    path: String,
    line: usize,
    name: String,
    lines: usize,
}

/// Measures every production file.
pub(super) fn check(sources: &[RustSource]) -> Report {
    let sources: Vec<&RustSource> = sources_of(sources, |_| true).collect();
    let functions: Vec<Function> = sources.iter().flat_map(|source| functions_of(source)).collect();
    let mut findings = Vec::new();
    for source in &sources {
        if source.production_lines > FILE_LIMIT_LINES {
            let what = format!("{} production lines, over the limit of {FILE_LIMIT_LINES}", source.production_lines);
            findings.push(Finding::new(&source.path, 0, what, "split it, one file an idea, named after the idea"));
        }
    }
    for function in &functions {
        if function.lines > FUNCTION_LIMIT_LINES {
            let what = format!(
                "function `{}` has {} lines, over the limit of {FUNCTION_LIMIT_LINES}",
                function.name, function.lines
            );
            findings.push(Finding::new(&function.path, function.line, what, "split it by the steps that it takes"));
        }
    }
    Report { name: "size", summary: summary(&sources, &functions), findings }
}

fn summary(sources: &[&RustSource], functions: &[Function]) -> String {
    let file_lines: Vec<usize> = sources.iter().map(|source| source.production_lines).collect();
    let function_lines: Vec<usize> = functions.iter().map(|function| function.lines).collect();
    let mut text = format!(
        "{} files, p90 {} lines, longest {}; {} functions, p90 {} lines, longest {}",
        file_lines.len(),
        p90(&file_lines),
        file_lines.iter().max().unwrap_or(&0),
        function_lines.len(),
        p90(&function_lines),
        function_lines.iter().max().unwrap_or(&0),
    );
    let mut long_files: Vec<&&RustSource> = sources.iter().filter(|s| s.production_lines > LONG_FILE_LINES).collect();
    long_files.sort_by_key(|source| std::cmp::Reverse(source.production_lines));
    for source in long_files {
        let _ = write!(text, "\n  long file      {:>4} lines  {}", source.production_lines, source.path);
    }
    let mut long_functions: Vec<&Function> = functions.iter().filter(|f| f.lines > LONG_FUNCTION_LINES).collect();
    long_functions.sort_by_key(|function| std::cmp::Reverse(function.lines));
    for function in long_functions {
        let Function { path, line, name, lines } = function;
        let _ = write!(text, "\n  long function  {lines:>4} lines  {path}:{line} {name}");
    }
    text
}

/// The value that nine in ten do not exceed (nearest rank); 0 of nothing.
fn p90(values: &[usize]) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * 9).div_ceil(10);
    rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().unwrap_or(0)
}

fn functions_of(source: &RustSource) -> Vec<Function> {
    let mut collector = Collector { path: &source.path, functions: Vec::new() };
    collector.visit_file(&source.tree);
    collector.functions
}

struct Collector<'a> {
    path: &'a str,
    functions: Vec<Function>,
}

impl Collector<'_> {
    /// From the line of `fn` to that of the closing brace; docs and attributes above do not count.
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.span().start().line;
        let lines = block.span().end().line + 1 - line;
        let name = signature.ident.to_string();
        self.functions.push(Function { path: self.path.to_owned(), line, name, lines });
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rust_source;
    use super::*;

    fn check_text(text: &str) -> Report {
        let texts = [("crates/log/src/lib.rs".to_owned(), text.to_owned())].into();
        check(&rust_source::load(&texts).0)
    }

    /// A method of exactly this many lines, at line 2.
    fn method_of(lines: usize) -> String {
        format!("impl A {{\nfn a() {{\n{}}}\n}}\n", "    b();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_function_is_reported_and_a_far_too_long_one_fails() {
        assert!(!check_text(&method_of(LONG_FUNCTION_LINES)).summary.contains("long function"));
        let long = check_text(&method_of(LONG_FUNCTION_LINES + 1));
        assert!(long.summary.contains("71 lines  crates/log/src/lib.rs:2 a"), "{}", long.summary);
        assert_eq!(long.findings, Vec::new());
        assert_eq!(check_text(&method_of(FUNCTION_LIMIT_LINES)).findings, Vec::new());
        let too_long = check_text(&method_of(FUNCTION_LIMIT_LINES + 1)).findings;
        assert!(too_long[0].to_string().starts_with("crates/log/src/lib.rs:2: function `a` has 151 lines"));
    }

    #[test]
    fn a_long_file_is_reported_and_a_far_too_long_one_fails() {
        let lines = |count: usize| check_text(&"const A: u8 = 1;\n".repeat(count));
        assert!(!lines(LONG_FILE_LINES).summary.contains("long file"));
        assert!(lines(LONG_FILE_LINES + 1).summary.contains("long file"));
        assert_eq!(lines(FILE_LIMIT_LINES).findings, Vec::new());
        assert_eq!(lines(FILE_LIMIT_LINES + 1).findings.len(), 1);
    }

    #[test]
    fn tests_may_be_long() {
        let text = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", method_of(FILE_LIMIT_LINES));
        let report = check_text(&text);
        assert_eq!(report.findings, Vec::new());
        assert!(!report.summary.contains("long "), "{}", report.summary);
    }

    #[test]
    fn p90_is_the_nearest_rank() {
        assert_eq!(p90(&[]), 0);
        assert_eq!(p90(&[7]), 7);
        assert_eq!(p90(&[10, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 9);
    }
}
