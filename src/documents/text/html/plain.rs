//! HTML as plain text: a line for each block, tabs between cells.

use std::rc::Rc;

use htmd::Node;
use markup5ever_rcdom::NodeData;

use super::{HIDDEN, table};

/// Elements that begin and end a line.
const BLOCKS: [&str; 38] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "legend",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "title",
    "tr",
    "ul",
];

/// The text below `tree`.
pub(super) fn render(tree: &Rc<Node>) -> String {
    let mut plain = Plain::default();
    plain.walk(tree, false);
    plain.text.trim().to_owned()
}

/// Plain text in the making.
#[derive(Default)]
struct Plain {
    text: String,
}

impl Plain {
    fn walk(&mut self, node: &Rc<Node>, preformatted: bool) {
        match &node.data {
            NodeData::Text { contents } if preformatted => self.text.push_str(&contents.borrow()),
            NodeData::Text { contents } => self.words(&contents.borrow()),
            NodeData::Element { name, attrs, .. } => {
                let tag = &*name.local;
                let shown = match tag {
                    "img" => Some("alt"),
                    "input" => Some("value"),
                    _ => None,
                };
                let attrs = attrs.borrow();
                let shown = attrs.iter().find(|attribute| Some(&*attribute.name.local) == shown);
                if let Some(attribute) = shown {
                    self.words(&attribute.value);
                }
                self.element(node, tag, preformatted || tag == "pre" || tag == "textarea");
            }
            _ => self.children(node, preformatted),
        }
    }

    fn element(&mut self, node: &Rc<Node>, tag: &str, preformatted: bool) {
        match tag {
            "br" => self.text.push('\n'),
            "td" | "th" => {
                if !self.text.is_empty() && !self.text.ends_with(['\n', '\t']) {
                    self.text.push('\t');
                }
                let mut cell = Self::default();
                cell.children(node, preformatted);
                if table::has_blocks(node) {
                    self.text.push_str(cell.text.trim());
                } else {
                    let words: Vec<_> = cell.text.split_whitespace().collect();
                    self.text.push_str(&words.join(" "));
                }
                self.text.push('\t');
            }
            _ if HIDDEN.contains(&tag) => {}
            _ if BLOCKS.contains(&tag) => {
                self.line();
                if tag == "li" {
                    self.text.push_str("- ");
                }
                self.children(node, preformatted);
                self.line();
            }
            _ => self.children(node, preformatted),
        }
    }

    fn children(&mut self, node: &Rc<Node>, preformatted: bool) {
        for child in node.children.borrow().iter() {
            self.walk(child, preformatted);
        }
    }

    /// Adds text whose white space counts as single spaces.
    fn words(&mut self, text: &str) {
        let space = |c: char| c.is_ascii_whitespace();
        let fresh = |plain: &str| plain.is_empty() || plain.ends_with(|c: char| c.is_whitespace());
        if text.starts_with(space) && !fresh(&self.text) {
            self.text.push(' ');
        }
        for (index, word) in text.split_ascii_whitespace().enumerate() {
            if index > 0 {
                self.text.push(' ');
            }
            self.text.push_str(word);
        }
        if text.ends_with(space) && !fresh(&self.text) {
            self.text.push(' ');
        }
    }

    /// Ends the line, if it holds anything.
    fn line(&mut self) {
        let end = self.text.trim_end_matches([' ', '\t']).len();
        self.text.truncate(end);
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}
