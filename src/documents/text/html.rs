//! HTML. Formats that have no good parser of their own (RTF, OpenDocument,
//! EPUB) are first written as HTML and rendered here, so that headings, lists
//! and tables look alike whatever they came from.

use std::rc::Rc;

use htmd::element_handler::Handlers;
use htmd::{Element, HtmlToMarkdown, Node};
use markup5ever_rcdom::NodeData;

use super::{Options, Output, Text, charset, detect};
use crate::sandbox::JobError;

/// Elements whose content is not shown.
const HIDDEN: [&str; 6] = ["script", "style", "template", "noscript", "iframe", "object"];

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

pub(super) fn extract(bytes: &[u8], options: &Options) -> Result<Text, JobError> {
    let declared = meta_charset(bytes).or_else(|| detect::declared_charset(options));
    let html = charset::decode(bytes, declared.as_deref());
    Ok(Text::whole(render(&html, options.output)))
}

/// The text of an HTML document or fragment.
pub(super) fn render(html: &str, output: Output) -> String {
    let converter = HtmlToMarkdown::builder()
        .skip_tags(HIDDEN.to_vec())
        .add_handler(vec!["img"], |_: &dyn Handlers, element: Element| attribute(&element, "alt"))
        .add_handler(vec!["input"], |_: &dyn Handlers, element: Element| {
            attribute(&element, "value")
        })
        .build();
    let Ok(tree) = converter.html_to_tree(html) else { return String::new() };
    match output {
        Output::Markdown => converter.tree_to_markdown(&tree),
        Output::Plain => {
            let mut plain = Plain::default();
            plain.walk(&tree, false);
            plain.text.trim().to_owned()
        }
    }
}

/// The attribute's text, if it has any.
fn attribute(element: &Element, name: &str) -> Option<htmd::element_handler::HandlerResult> {
    let attribute = element.attrs.iter().find(|attribute| &*attribute.name.local == name)?;
    let value = attribute.value.trim();
    (!value.is_empty()).then(|| value.to_owned().into())
}

/// The charset that a `meta` element near the start names.
fn meta_charset(bytes: &[u8]) -> Option<String> {
    let head = bytes.get(..4096).unwrap_or(bytes).to_ascii_lowercase();
    let head = String::from_utf8_lossy(&head);
    let value = head.split("<meta").skip(1).find_map(|meta| {
        let (meta, _) = meta.split_once('>')?;
        meta.split_once("charset")?.1.trim_start().strip_prefix('=')
    })?;
    let value = value.trim_start().trim_start_matches(['"', '\'']);
    let end = value.find(|c: char| matches!(c, '"' | '\'' | ';' | '/' | '>') || c.is_whitespace());
    Some(value.get(..end.unwrap_or(value.len()))?.to_owned())
}

/// Text for HTML's special characters.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
                self.children(node, preformatted);
                // A cell's own paragraphs end with it, not with the row.
                self.text.truncate(self.text.trim_end().len());
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
