//! Relative links in the docs: the file is there, and so is the heading.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Report};

/// A link of a page.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// Follows every relative link of every `*.md`. `files` are all files there are, `texts` those that can be read.
pub(super) fn check(files: &[String], texts: &BTreeMap<String, String>) -> Report {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        known.insert(file);
        let folders = file.match_indices('/').filter_map(|(end, _)| file.get(..end));
        known.extend(folders);
    }
    let mut findings = Vec::new();
    let (mut pages, mut links) = (0, 0);
    for (page, text) in texts.iter().filter(|(path, _)| path.ends_with(".md")) {
        pages += 1;
        for link in links_of(text).into_iter().filter(|link| is_relative(&link.target)) {
            links += 1;
            if let Err((what, fix)) = follow(page, &link.target, &known, texts) {
                findings.push(Finding::new(page, link.line, what, fix));
            }
        }
    }
    Report { name: "links", summary: format!("{links} relative links in {pages} pages"), findings }
}

fn is_relative(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    !target.starts_with("//")
        && !scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric()))
}

fn follow(
    page: &str,
    target: &str,
    known: &BTreeSet<&str>,
    texts: &BTreeMap<String, String>,
) -> Result<(), (String, &'static str)> {
    let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let path = path.split('?').next().unwrap_or(path);
    let file = if path.is_empty() {
        page.to_owned()
    } else {
        let resolved = resolve(page, &path.replace("%20", " "));
        resolved.ok_or_else(|| (format!("the link `{target}` leaves the repository"), "use a full URL"))?
    };
    // The root itself is there, though no file's path names it.
    if !file.is_empty() && !known.contains(file.as_str()) {
        return Err((format!("the link `{target}` points to nothing"), "write that file, or mend the link"));
    }
    if let (Some(heading), Some(text)) = (heading, texts.get(&file))
        && file.ends_with(".md")
        && !anchors_of(text).contains(&heading.to_lowercase())
    {
        return Err((format!("the link `{target}` names a heading that {file} has not"), "mend the part after `#`"));
    }
    Ok(())
}

/// The path from the root; none when it climbs out of it. A target with a `/` in front counts from the root.
fn resolve(page: &str, target: &str) -> Option<String> {
    let folder = if target.starts_with('/') { "" } else { page.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Lines of a page that are text, with their numbers: fenced code is left out, code in a line is blanked.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let start = line.trim_start();
        match fence {
            Some(open) => {
                if start.starts_with(open) {
                    fence = None;
                }
            }
            None if start.starts_with("```") => fence = Some("```"),
            None if start.starts_with("~~~") => fence = Some("~~~"),
            None => lines.push((number, without_code(line))),
        }
    }
    lines
}

/// Text in backticks removed; a backtick that nothing closes is kept.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let closed = parts.len() % 2 == 1;
    let kept = parts.iter().enumerate().filter(|(index, _)| index % 2 == 0 || (!closed && index + 1 == parts.len()));
    kept.map(|(_, part)| *part).collect::<Vec<_>>().join(" ")
}

/// Links and images `[..](target)`, definitions `[..]: target`, and HTML's `href` and `src`.
fn links_of(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, content) in prose(text) {
        let mut add = |target: &str| {
            let target = target.trim().trim_start_matches('<').trim_end_matches('>');
            if !target.is_empty() {
                links.push(Link { line, target: target.to_owned() });
            }
        };
        for (_, rest) in content.match_indices("](").map(|(at, open)| content.split_at(at + open.len())) {
            let inside = rest.split(')').next().unwrap_or(rest);
            // A title may follow the target: `(page.md "Title")`.
            add(inside.split([' ', '"']).next().unwrap_or(inside));
        }
        if let Some((name, target)) = content.trim_start().split_once("]: ")
            && name.starts_with('[')
            && !name.starts_with("[^")
        {
            add(target.split_whitespace().next().unwrap_or(target));
        }
        for attribute in ["href=\"", "src=\""] {
            for rest in content.split(attribute).skip(1) {
                add(rest.split('"').next().unwrap_or(rest));
            }
        }
    }
    links
}

/// The anchors that a page offers: its headings as the forge names them, and HTML ids.
fn anchors_of(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let fences_out: BTreeSet<usize> = prose(text).into_iter().map(|(line, _)| line).collect();
    for (_, line) in (1..).zip(text.lines()).filter(|(number, _)| fences_out.contains(number)) {
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() && heading.starts_with(' ') {
            let slug = slug(heading.trim());
            let mut anchor = slug.clone();
            let mut copies = 0;
            while !anchors.insert(anchor) {
                copies += 1;
                anchor = format!("{slug}-{copies}");
            }
        }
        for attribute in ["id=\"", "name=\""] {
            anchors
                .extend(line.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_lowercase));
        }
    }
    anchors
}

/// Lower case, blanks to hyphens, punctuation dropped; of a link in a heading only its text counts.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            _ if c.is_alphanumeric() => Some(c),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[&str] = &["README.md", "docs/formats/wal.md", "docs/other.md", "crates/log/src/lib.rs"];

    /// The findings when docs/other.md says this.
    fn check_page(text: &str) -> Vec<String> {
        let files: Vec<String> = FILES.iter().map(|file| (*file).to_owned()).collect();
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        texts.insert(
            "docs/formats/wal.md".to_owned(),
            "# The frame, `v1`\n```\n# no heading\n```\n## A\n## A\n".to_owned(),
        );
        texts.insert("docs/other.md".to_owned(), text.to_owned());
        check(&files, &texts).findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_links_pass() {
        let page = "# Here\n[a](formats/wal.md) ![b](../README.md \"Title\") [c](/crates/log) [d](#here) [root](..)\n\
            [e](formats/wal.md#the-frame-v1) [f](formats/wal.md#a-1) <a href=\"formats/wal.md\">g</a>\n\
            [h](https://example.org/x.md) [i](mailto:a@example.org) [j]: formats/wal.md\n[k]: <formats/wal.md>\n\
            `[code](nothing.md)`\n```\n[fenced](nothing.md)\n```\n[^1]: nothing.md\n";
        assert_eq!(check_page(page), Vec::<String>::new());
    }

    #[test]
    fn dead_links_fail_with_their_line() {
        for page in [
            "\n[a](nothing.md)",
            "\n![a](formats/nothing.png)",
            "\n[a]: nothing.md",
            "\n<img src=\"nothing.png\">",
            "\n[ok](formats/wal.md) and [a](nothing.md)",
            "\n[a](wal.md)",
        ] {
            let findings = check_page(page);
            assert_eq!(findings.len(), 1, "{page}");
            assert!(findings[0].starts_with("docs/other.md:2: the link `"), "{findings:?}");
        }
    }

    #[test]
    fn links_out_of_the_repository_fail() {
        assert!(check_page("[a](../../elsewhere.md)")[0].contains("leaves the repository"));
    }

    #[test]
    fn dead_headings_fail() {
        assert!(check_page("[a](formats/wal.md#no-heading)")[0].contains("names a heading"));
        assert!(check_page("[a](#nowhere)")[0].contains("names a heading"));
    }
}
