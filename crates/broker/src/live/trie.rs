//! Values found by the patterns that a subject fits.

use std::collections::HashMap;

use bytes::Bytes;
use types::{SubjectPattern, Word, subject_words};

/// A tree of pattern words with values at the patterns' ends. A look-up costs the words of the subject times the tree's nodes that
/// can still fit, whatever the number of patterns: words that nobody asked for are not looked at.
///
/// `>` is kept as `*.#`, which selects the same. Values of one pattern keep the order in which they were inserted.
#[derive(Clone, Debug)]
pub struct SubjectTrie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    values: usize,
}

#[derive(Clone, Debug)]
struct Node<T> {
    literals: HashMap<Bytes, usize>,
    one: Option<usize>,
    any: Option<usize>,
    /// Whether this node is itself reached by `#`, and so takes any further word.
    repeats: bool,
    values: Vec<T>,
}

impl<T> Node<T> {
    fn new(repeats: bool) -> Self {
        Self { literals: HashMap::new(), one: None, any: None, repeats, values: Vec::new() }
    }

    fn is_unused(&self) -> bool {
        self.values.is_empty() && self.literals.is_empty() && self.one.is_none() && self.any.is_none()
    }

    fn child(&self, word: &Word) -> Option<usize> {
        match word {
            Word::Literal(word) => self.literals.get(word).copied(),
            Word::One => self.one,
            Word::Any | Word::Rest => self.any,
        }
    }

    fn set_child(&mut self, word: &Word, child: Option<usize>) {
        match (word, child) {
            (Word::Literal(word), Some(child)) => drop(self.literals.insert(word.clone(), child)),
            (Word::Literal(word), None) => drop(self.literals.remove(word)),
            (Word::One, child) => self.one = child,
            (Word::Any | Word::Rest, child) => self.any = child,
        }
    }
}

const ROOT: usize = 0;

impl<T> Default for SubjectTrie<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::new(false)], free: Vec::new(), values: 0 }
    }
}

impl<T> SubjectTrie<T> {
    /// A tree without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many values are in the tree.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// Adds a value to those of the pattern.
    pub fn insert(&mut self, pattern: &SubjectPattern, value: T) {
        let mut at = ROOT;
        for word in pattern.plain_words() {
            at = match self.node(at).child(&word) {
                Some(child) => child,
                None => {
                    let child = self.allocate(word == Word::Any);
                    self.node_mut(at).set_child(&word, Some(child));
                    child
                }
            };
        }
        self.node_mut(at).values.push(value);
        self.values += 1;
    }

    /// Takes the first value of this very pattern that `which` picks.
    pub fn remove(&mut self, pattern: &SubjectPattern, which: impl FnMut(&T) -> bool) -> Option<T> {
        let words = pattern.plain_words();
        let path = self.path(&words)?;
        let end = *path.last()?;
        let at = self.node(end).values.iter().position(which)?;
        let value = self.node_mut(end).values.remove(at);
        self.values -= 1;
        // Nodes that lead nowhere any more are given back, from the end up.
        for ((node, parent), word) in path.iter().skip(1).zip(&path).zip(&words).rev() {
            if !self.node(*node).is_unused() {
                break;
            }
            self.node_mut(*parent).set_child(word, None);
            self.free.push(*node);
        }
        Some(value)
    }

    /// The first value of this very pattern that `which` picks.
    pub fn get_mut(&mut self, pattern: &SubjectPattern, mut which: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let end = *self.path(&pattern.plain_words())?.last()?;
        self.node_mut(end).values.iter_mut().find(|value| which(value))
    }

    /// Calls `found` with each value whose pattern selects the subject, each once, until it answers `true`; answers whether it did.
    pub fn find<'a>(&'a self, subject: &[u8], mut found: impl FnMut(&'a T) -> bool) -> bool {
        let mut here = Vec::with_capacity(8);
        let mut next = Vec::with_capacity(8);
        self.enter(ROOT, &mut here);
        for word in subject_words(subject) {
            let mut repeated = false;
            for at in here.drain(..) {
                let node = self.node(at);
                if node.repeats {
                    next.push(at);
                    repeated = true;
                }
                if let Some(child) = node.literals.get(word) {
                    self.enter(*child, &mut next);
                }
                if let Some(child) = node.one {
                    self.enter(child, &mut next);
                }
            }
            // Every node has one parent, so only a `#` can be reached twice: by itself and from the word before it.
            if repeated {
                next.sort_unstable();
                next.dedup();
            }
            std::mem::swap(&mut here, &mut next);
            if here.is_empty() {
                return false;
            }
        }
        here.into_iter().any(|at| self.node(at).values.iter().any(&mut found))
    }

    /// Calls `found` with each value whose pattern selects the subject, each once.
    pub fn for_matches<'a>(&'a self, subject: &[u8], mut found: impl FnMut(&'a T)) {
        self.find(subject, |value| {
            found(value);
            false
        });
    }

    /// The node is reached, and with it the `#` after it, which may stand for no word.
    fn enter(&self, at: usize, reached: &mut Vec<usize>) {
        reached.push(at);
        if let Some(any) = self.node(at).any {
            reached.push(any);
        }
    }

    fn path(&self, words: &[Word]) -> Option<Vec<usize>> {
        let mut path = Vec::with_capacity(words.len() + 1);
        let mut at = ROOT;
        path.push(at);
        for word in words {
            at = self.node(at).child(word)?;
            path.push(at);
        }
        Some(path)
    }

    fn allocate(&mut self, repeats: bool) -> usize {
        match self.free.pop() {
            Some(at) => {
                *self.node_mut(at) = Node::new(repeats);
                at
            }
            None => {
                self.nodes.push(Node::new(repeats));
                self.nodes.len() - 1
            }
        }
    }

    // Indices come from this tree alone: a wrong one is a fault of ours, to be found at once.
    #[allow(clippy::indexing_slicing, reason = "our own indices")]
    fn node(&self, at: usize) -> &Node<T> {
        &self.nodes[at] // tidy-allow: our own index
    }

    #[allow(clippy::indexing_slicing, reason = "our own indices")]
    fn node_mut(&mut self, at: usize) -> &mut Node<T> {
        &mut self.nodes[at] // tidy-allow: our own index
    }

    #[cfg(test)]
    pub(crate) fn nodes_in_use(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}
