//! The files of the repository, without what is built, fetched or local.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

/// Folders that hold nothing of ours, wherever they are.
const SKIPPED_ANYWHERE: &[&str] = &["target", ".git", "node_modules", "__pycache__", ".venv"];
/// Folders of the root that are local to a machine; .gitignore names them too.
const SKIPPED_AT_ROOT: &[&str] = &["data"];
/// A file over this is a fixture or an image, and no text that a person wrote.
const TEXT_LIMIT_BYTES: u64 = 1024 * 1024;

/// All files under `root`, as sorted paths with `/`, relative to it.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut waiting = vec![String::new()];
    while let Some(folder) = waiting.pop() {
        let on_disk = root.join(&folder);
        let entries = std::fs::read_dir(&on_disk).with_context(|| format!("cannot list {}", on_disk.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", on_disk.display()))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if !entry.file_type().with_context(|| format!("cannot read {path}"))?.is_dir() {
                found.push(path);
                continue;
            }
            let local = folder.is_empty() && SKIPPED_AT_ROOT.contains(&name.as_str());
            if !local && !SKIPPED_ANYWHERE.contains(&name.as_str()) {
                waiting.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The text of each file that is text, by its path.
///
/// # Errors
/// When a file cannot be read; one that is too large or not UTF-8 is left out instead.
pub(super) fn read_texts(root: &Path, files: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for path in files {
        let on_disk = root.join(path);
        // A link into nowhere is not ours to read; the check of links in docs sees it if a page points there.
        let Ok(metadata) = std::fs::metadata(&on_disk) else {
            continue;
        };
        if !metadata.is_file() || metadata.len() > TEXT_LIMIT_BYTES {
            continue;
        }
        let bytes = std::fs::read(&on_disk).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            texts.insert(path.clone(), text);
        }
    }
    Ok(texts)
}
