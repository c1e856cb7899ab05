//! The names of files: as the system shows them, and what of that a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use fastrand::Rng;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

/// The names below the root. A change is durable once its directory has been synced.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// What was changed in each directory since it was synced, in order.
    unsynced: BTreeMap<PathBuf, Vec<Change>>,
}

impl Tree {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        self.now.get(path).copied()
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<u64> {
        match self.get(path) {
            Some(Node::File(id)) => Ok(id),
            Some(Node::Directory) => Err(failure(ErrorKind::IsADirectory, "it is a directory", path)),
            None => Err(failure(ErrorKind::NotFound, "no such file", path)),
        }
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.get(path) == Some(Node::Directory)
    }

    /// All names and what they stand for, parents before what they hold.
    pub(super) fn nodes(&self) -> &BTreeMap<PathBuf, Node> {
        &self.now
    }

    /// Paths of the files of a directory, sorted.
    pub(super) fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let here = |(path, node): (&PathBuf, &Node)| {
            (path.parent() == Some(directory) && matches!(node, Node::File(_))).then(|| path.clone())
        };
        self.now.iter().filter_map(here).collect()
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let parent = parent(path);
        if !self.is_directory(&parent) {
            return Err(failure(ErrorKind::NotFound, "no such directory", &parent));
        }
        self.change(&parent, Change::Set(path.to_owned(), node));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.change(&parent(path), Change::Remove(path.to_owned()));
        Ok(())
    }

    /// Renames a file. Between two directories it is two changes, each durable with its own.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = Node::File(self.file(from)?);
        let (old, new) = (parent(from), parent(to));
        if !self.is_directory(&new) {
            return Err(failure(ErrorKind::NotFound, "no such directory", &new));
        }
        if self.get(to) == Some(Node::Directory) {
            return Err(failure(ErrorKind::IsADirectory, "it is a directory", to));
        }
        if old == new {
            self.change(&old, Change::Rename(from.to_owned(), to.to_owned(), node));
        } else {
            self.change(&new, Change::Set(to.to_owned(), node));
            self.change(&old, Change::Remove(from.to_owned()));
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, directory: &Path) -> io::Result<()> {
        if !self.is_directory(directory) {
            return Err(failure(ErrorKind::NotFound, "no such directory", directory));
        }
        for change in self.unsynced.remove(directory).unwrap_or_default() {
            apply(&mut self.durable, &change);
        }
        Ok(())
    }

    /// Makes all names durable.
    pub(super) fn settle(&mut self) {
        self.unsynced.clear();
        self.durable = self.now.clone();
    }

    /// The names that a power cut leaves: of each directory's unsynced changes none, or with `rng` the first few.
    pub(super) fn after_power_cut(&self, mut rng: Option<&mut Rng>) -> Self {
        let mut names = self.durable.clone();
        for changes in self.unsynced.values() {
            let kept = rng.as_mut().map_or(0, |rng| rng.usize(0..=changes.len()));
            changes.iter().take(kept).for_each(|change| apply(&mut names, change));
        }
        // A file is reached only through its directories. Parents sort before what they hold.
        let mut reached = BTreeMap::new();
        for (path, node) in names {
            let parent = parent(&path);
            if parent.as_os_str().is_empty() || reached.get(&parent) == Some(&Node::Directory) {
                reached.insert(path, node);
            }
        }
        Self { durable: reached.clone(), now: reached, unsynced: BTreeMap::new() }
    }

    /// The files that have a name now, or may have one after a power cut.
    pub(super) fn reachable(&self) -> BTreeSet<u64> {
        let named = self.now.values().chain(self.durable.values());
        let changed = self.unsynced.values().flatten().filter_map(|change| match change {
            Change::Set(_, node) | Change::Rename(_, _, node) => Some(node),
            Change::Remove(_) => None,
        });
        let file = |node: &Node| match node {
            Node::File(id) => Some(*id),
            Node::Directory => None,
        };
        named.chain(changed).filter_map(file).collect()
    }

    /// The name of a file, if it has one now.
    pub(super) fn name_of(&self, id: u64) -> Option<PathBuf> {
        self.now.iter().find(|(_, node)| **node == Node::File(id)).map(|(path, _)| path.clone())
    }

    /// The files that have a name now.
    pub(super) fn named(&self) -> impl Iterator<Item = u64> + '_ {
        self.now.values().filter_map(|node| match node {
            Node::File(id) => Some(*id),
            Node::Directory => None,
        })
    }

    fn change(&mut self, directory: &Path, change: Change) {
        apply(&mut self.now, &change);
        self.unsynced.entry(directory.to_owned()).or_default().push(change);
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    match change {
        Change::Set(path, node) => {
            names.insert(path.clone(), *node);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
        Change::Rename(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}

/// The path without `.`; an error if it would leave the root.
pub(super) fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => return Err(failure(ErrorKind::InvalidInput, "the path leaves the disk", path)),
        }
    }
    Ok(clean)
}

pub(super) fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

pub(super) fn failure(kind: ErrorKind, what: &str, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{what}: {}", path.display()))
}
