//! No panic on foreign bytes: `unwrap`, `expect`, indexing and `panic!` in the crates that read network and disk.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::rust_source::RustSource;
use super::{Finding, Report, sources_of};

/// Crates whose input comes from the network or the disk; protocol crates are known by their name.
const CRATES: &[&str] = &["log", "broker", "net"];
const PROTOCOL_PREFIX: &str = "protocol-";

const METHODS: &[&str] = &["unwrap", "expect", "unwrap_err", "expect_err"];
const MACROS: &[&str] = &["panic", "unreachable", "todo", "unimplemented"];

/// What excuses one line, on it or in the comment right above it. What follows is the reason.
const ALLOW: &str = "// tidy-allow:";
/// A reason is a sentence or at least part of one.
const REASON_WORDS: usize = 2;

/// Keywords after which `[` opens an array or a slice pattern, and not an index.
const KEYWORDS: &[&str] = &[
    "as", "break", "const", "dyn", "else", "for", "if", "impl", "in", "let", "match", "move", "mut", "ref", "return",
    "static", "where", "while", "yield",
];

/// Looks through the production code of every crate concerned.
pub(super) fn check(sources: &[RustSource]) -> Report {
    let mut findings = Vec::new();
    let mut allows = 0;
    let mut files = 0;
    for source in sources_of(sources, |name| CRATES.contains(&name) || name.starts_with(PROTOCOL_PREFIX)) {
        let (found, used) = check_source(source);
        findings.extend(found);
        allows += used;
        files += 1;
    }
    Report { name: "panics", summary: format!("{files} files, {allows} lines excused by tidy-allow"), findings }
}

/// The findings of one file, and how many of its excuses were needed.
fn check_source(source: &RustSource) -> (Vec<Finding>, usize) {
    let mut visitor = Visitor { panics: BTreeMap::new() };
    visitor.visit_file(&source.tree);
    let lines: Vec<&str> = source.text.lines().collect();
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for (line, (what, fix)) in visitor.panics {
        match allow_for(&lines, line) {
            Some(allow) => {
                used.insert(allow);
            }
            None => findings.push(Finding::new(
                &source.path,
                line,
                what,
                format!("{fix}, or say above it why it cannot happen: `{ALLOW} reason`"),
            )),
        }
    }
    for (line, text) in (1..).zip(&lines) {
        let Some((_, reason)) = text.split_once(ALLOW) else {
            continue;
        };
        if !used.contains(&line) {
            let fix = "remove it; only production code is looked at";
            findings.push(Finding::new(&source.path, line, "this tidy-allow excuses nothing", fix));
        } else if reason.split_whitespace().count() < REASON_WORDS {
            let fix = "say after the colon why this cannot panic";
            findings.push(Finding::new(&source.path, line, "this tidy-allow gives no reason", fix));
        }
    }
    findings.sort_by_key(|finding| finding.line);
    (findings, used.len())
}

/// The line of the excuse for `line`: itself, or one in the block of comment lines right above. Lines count from 1.
fn allow_for(lines: &[&str], line: usize) -> Option<usize> {
    let text = |number: usize| number.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or("");
    if text(line).contains(ALLOW) {
        return Some(line);
    }
    (1..line).rev().take_while(|&above| text(above).trim_start().starts_with("//")).find(|&a| text(a).contains(ALLOW))
}

struct Visitor {
    /// What may panic, by line: what it is and what to do instead.
    panics: BTreeMap<usize, (String, &'static str)>,
}

impl Visitor {
    fn add(&mut self, line: usize, what: String, fix: &'static str) {
        self.panics.entry(line).or_insert((what, fix));
    }

    fn add_method(&mut self, line: usize, name: &str) {
        self.add(line, format!("`{name}` panics when it is wrong"), "return an error that names what was wrong");
    }

    fn add_macro(&mut self, line: usize, name: &str) {
        self.add(line, format!("`{name}!` on a path that foreign input may reach"), "return an error");
    }

    fn add_index(&mut self, line: usize) {
        self.add(
            line,
            "an index or range panics when it is out of bounds".to_owned(),
            "use `get` or `split_at_checked`",
        );
    }

    /// Macro arguments are no syntax tree, so their tokens are looked through by shape.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|index| tokens.get(index));
            let before_that = index.checked_sub(2).and_then(|index| tokens.get(index));
            let line = token.span().start().line;
            match token {
                TokenTree::Ident(name) => {
                    let name = name.to_string();
                    let next = tokens.get(index + 1);
                    if METHODS.contains(&name.as_str())
                        && is_punct(before, '.')
                        && group(next, Delimiter::Parenthesis).is_some()
                    {
                        self.add_method(line, &name);
                    } else if MACROS.contains(&name.as_str())
                        && is_punct(next, '!')
                        && matches!(tokens.get(index + 2), Some(TokenTree::Group(_)))
                    {
                        self.add_macro(line, &name);
                    }
                }
                TokenTree::Group(inner) => {
                    if inner.delimiter() == Delimiter::Bracket
                        && inner.stream().to_string() != ".."
                        && is_indexable(before, before_that)
                    {
                        self.add_index(inner.span_open().start().line);
                    }
                    self.scan(inner.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<&proc_macro2::Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

/// Whether brackets after these two tokens index a value: after a name, a call, another index or `?`.
fn is_indexable(before: Option<&TokenTree>, before_that: Option<&TokenTree>) -> bool {
    match before {
        // In `&'a [u8]` the name is a lifetime.
        Some(TokenTree::Ident(name)) => !KEYWORDS.contains(&name.to_string().as_str()) && !is_punct(before_that, '\''),
        // In `#[..] [..]` the group is an attribute.
        Some(TokenTree::Group(group)) => group.delimiter() != Delimiter::Brace && !is_punct(before_that, '#'),
        Some(TokenTree::Punct(punct)) => punct.as_char() == '?',
        Some(TokenTree::Literal(_)) | None => false,
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        if METHODS.contains(&name.as_str()) {
            self.add_method(call.method.span().start().line, &name);
        }
        visit::visit_expr_method_call(self, call);
    }

    /// `map(Result::unwrap)` is an unwrap too.
    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., owner, method] = names.as_slice()
            && matches!(owner.as_str(), "Option" | "Result")
            && METHODS.contains(&method.as_str())
        {
            self.add_method(path.span().start().line, method);
        }
        visit::visit_expr_path(self, path);
    }

    fn visit_expr_index(&mut self, index: &'ast syn::ExprIndex) {
        // `x[..]` alone is the whole of it.
        let whole = matches!(&*index.index, syn::Expr::Range(range) if range.start.is_none() && range.end.is_none());
        if !whole {
            self.add_index(index.bracket_token.span.open().start().line);
        }
        visit::visit_expr_index(self, index);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.segments.last().map(|segment| segment.ident.to_string())
            && MACROS.contains(&name.as_str())
        {
            self.add_macro(call.path.span().start().line, &name);
        }
        self.scan(call.tokens.clone());
    }

    // A constant is computed by the compiler: what is wrong there is no panic but an error of the build.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    // The length in `[u8; LENGTHS[0]]` is a constant too.
    fn visit_type_array(&mut self, _: &'ast syn::TypeArray) {}
}

#[cfg(test)]
mod tests {
    use super::super::rust_source;
    use super::*;

    fn report(path: &str, text: &str) -> Report {
        let (sources, unreadable) = rust_source::load(&[(path.to_owned(), text.to_owned())].into());
        assert_eq!(unreadable, Vec::new());
        check(&sources)
    }

    /// The lines with a finding, when this is the body of a function in `log`; the first line of it is 2.
    fn check_body(body: &str) -> Vec<usize> {
        let text = format!("fn f() {{\n{body}\n}}\n");
        report("crates/log/src/a.rs", &text).findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn what_may_panic_is_found_at_its_line() {
        for body in [
            "a.unwrap();",
            "a.expect(\"b\");",
            "a.unwrap_err();",
            "a.map(Result::unwrap);",
            "a[0];",
            "a[1..];",
            "&a.b()[..n];",
            "a?[i];",
            "panic!(\"b\");",
            "unreachable!();",
            "std::unreachable!();",
            "let a = || async move { b.unwrap() };",
        ] {
            assert_eq!(check_body(body), [2], "{body}");
        }
        assert_eq!(check_body("a\n    .b()\n    .unwrap();"), [4]);
    }

    #[test]
    fn what_may_panic_is_found_inside_macros() {
        for body in [
            "format!(\"{}\", a.unwrap());",
            "select! { b = c => { d[0]; } }",
            "info!(a = b()[1..]);",
            "vec![a?[0]];",
            "select! { b = c => { panic!(\"d\") } }",
        ] {
            assert_eq!(check_body(body), [2], "{body}");
        }
    }

    #[test]
    fn what_cannot_panic_passes() {
        for body in [
            "a.unwrap_or(b).unwrap_or_default();",
            "a[..];",
            "let a: [u8; 4] = [0; 4];",
            "let [a, b] = c;",
            "const A: u8 = B[0];",
            "const { assert!(B[0] == 1) };",
            "vec![a, [b]];",
            "json!({ \"a\": [1], b: [2] });",
            "quote! { &'a [u8]; let [a] = b; x as [u8; 2]; #[c] };",
            "matches!(a, Some([b, ..]));",
            "assert!(a == b);",
            "let a = \"b.unwrap() c[0] panic!()\";",
        ] {
            assert_eq!(check_body(body), Vec::<usize>::new(), "{body}");
        }
    }

    #[test]
    fn only_production_code_of_the_crates_concerned_counts() {
        let text = "fn f() { a.unwrap(); }";
        for path in ["crates/log/src/a.rs", "crates/net/src/a.rs", "crates/protocol-amqp/src/a/b.rs"] {
            assert_eq!(report(path, text).findings.len(), 1, "{path}");
        }
        for path in ["crates/cli/src/a.rs", "crates/log/tests/it/main.rs", "sim/src/a.rs"] {
            assert_eq!(report(path, text).findings.len(), 0, "{path}");
        }
        let tests = "#[cfg(test)] mod tests { fn f() { a.unwrap(); } }\nimpl A { #[cfg(test)] fn g() { a[0]; } }";
        assert_eq!(report("crates/log/src/a.rs", tests).findings, Vec::new());
    }

    #[test]
    fn an_excuse_with_a_reason_is_counted() {
        for body in [
            "// tidy-allow: the length was checked above\na[0];",
            "a[0]; // tidy-allow: the length was checked above",
            "// tidy-allow: the length was checked above,\n// by the caller.\na[0];",
        ] {
            let report = report("crates/log/src/a.rs", &format!("fn f() {{\n{body}\n}}"));
            assert_eq!(report.findings, Vec::new(), "{body}");
            assert!(report.summary.contains("1 lines excused"), "{}", report.summary);
        }
    }

    #[test]
    fn an_excuse_needs_a_reason_a_use_and_its_place() {
        assert_eq!(check_body("// tidy-allow:\na[0];"), [2], "no reason");
        assert_eq!(check_body("// tidy-allow: ok\na[0];"), [2], "no reason to speak of");
        assert_eq!(check_body("// tidy-allow: nothing is here\na();"), [2], "no use");
        assert_eq!(check_body("// tidy-allow: too far away\nb();\na[0];"), [2, 4], "no place");
    }
}
