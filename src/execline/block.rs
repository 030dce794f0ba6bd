//! Blocks as a program finds them among its arguments.
//!
//! The words of a block begin with a space each, which quotes them, and an empty word ends it. A program
//! that takes a block removes one space from each word: what is left is a command line of its own, inner
//! blocks included.
#![forbid(unsafe_code)]

/// A block at the beginning of an argument vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a, W> {
    /// Its words, without the quoting space.
    pub words: Vec<&'a [u8]>,
    /// Index of the first word that was not quoted. It is taken as it is; execline warns of it if the
    /// variable EXECLINE_STRICT is 1, and refuses it if that is more.
    pub unquoted: Option<usize>,
    /// What follows the block.
    pub rest: &'a [W],
}

/// Takes the block that `argv` begins with. `None`: no word ends it.
pub fn take<W: AsRef<[u8]>>(argv: &[W]) -> Option<Block<'_, W>> {
    let end = argv.iter().position(|word| word.as_ref().is_empty())?;
    let (quoted, rest) = (&argv[..end], &argv[end + 1..]);
    let unquoted = quoted.iter().position(|word| word.as_ref()[0] != b' ');
    let words = quoted.iter().map(|word| word.as_ref().strip_prefix(b" ").unwrap_or(word.as_ref())).collect();
    Some(Block { words, unquoted, rest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execline::{parse, quote};
    use proptest::prelude::*;

    #[test]
    fn a_block_and_one_inside_it() {
        let argv = parse(b"{ if { b c } d } e").unwrap();
        let outer = take(&argv).unwrap();
        assert_eq!(outer.words, [&b"if"[..], b" b", b" c", b"", b"d"]);
        assert_eq!(outer.rest, [b"e"]);
        let inner = take(&outer.words[1..]).unwrap();
        assert_eq!(inner.words, [b"b", b"c"]);
        assert_eq!(inner.rest, [b"d"]);
    }

    #[test]
    fn unquoted_words_are_taken_and_told() {
        assert_eq!(take(&[" a", "b", "c", "", "d"]).unwrap().unquoted, Some(1));
        assert_eq!(take(&[" a", "", "d"]).unwrap().unquoted, None);
        assert_eq!(take(&["", "d"]).unwrap(), Block { words: vec![], unquoted: None, rest: &["d"] });
        assert_eq!(take(&[" a", "b"]), None);
        assert_eq!(take::<&str>(&[]), None);
    }

    /// A command line: words, and blocks that hold command lines.
    #[derive(Clone, Debug)]
    enum Node {
        Word(Vec<u8>),
        Block(Vec<Node>),
    }

    fn nodes() -> impl Strategy<Value = Vec<Node>> {
        let word = prop::collection::vec(1u8.., 0..5).prop_map(Node::Word);
        let node =
            word.prop_recursive(5, 40, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(Node::Block));
        prop::collection::vec(node, 0..6)
    }

    fn spell(nodes: &[Node]) -> Vec<u8> {
        let spelled = nodes.iter().map(|node| match node {
            Node::Word(word) => [quote(word), b"\n".to_vec()].concat(),
            Node::Block(inner) => [&b"{ "[..], &spell(inner), b"} "].concat(),
        });
        spelled.collect::<Vec<_>>().concat()
    }

    /// Whether `words` are what `nodes` say, blocks taken as programs take them.
    fn says<W: AsRef<[u8]>>(mut words: &[W], nodes: &[Node]) -> bool {
        for node in nodes {
            match node {
                Node::Word(word) => {
                    if words.first().map(AsRef::as_ref) != Some(&word[..]) {
                        return false;
                    }
                    words = &words[1..];
                }
                Node::Block(inner) => {
                    let Some(block) = take(words) else { return false };
                    if block.unquoted.is_some() || !says(&block.words, inner) {
                        return false;
                    }
                    words = block.rest;
                }
            }
        }
        words.is_empty()
    }

    proptest! {
        #[test]
        fn blocks_come_back_as_they_were_written(nodes in nodes()) {
            let argv = parse(&spell(&nodes)).unwrap();
            prop_assert!(says(&argv, &nodes), "{argv:?}");
        }
    }
}
