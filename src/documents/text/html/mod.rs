//! HTML. Formats that have no good parser of their own (RTF, OpenDocument,
//! EPUB) are first written as HTML and rendered here, so that headings, lists
//! and tables look alike whatever they came from.

mod plain;
mod table;

use std::rc::Rc;

use super::bounds::MAX_NESTING;
use super::{Options, Output, Text, charset, detect, failure};
use crate::sandbox::JobError;
use htmd::element_handler::Handlers;
use htmd::{Element, HtmlToMarkdown, Node};

/// Elements whose content is not shown.
const HIDDEN: [&str; 6] = ["script", "style", "template", "noscript", "iframe", "object"];

pub(super) fn extract(bytes: &[u8], options: &Options) -> Result<Text, JobError> {
    let declared = meta_charset(bytes).or_else(|| detect::declared_charset(options));
    let html = charset::decode(bytes, declared.as_deref());
    Ok(Text::whole(render(&html, options.output)?))
}

/// The text of an HTML document or fragment.
///
/// # Errors
/// `document_too_large` if its elements are nested too deep.
pub(super) fn render(html: &str, output: Output) -> Result<String, JobError> {
    let converter = HtmlToMarkdown::builder()
        .skip_tags(HIDDEN.to_vec())
        .add_handler(vec!["table"], |handlers: &dyn Handlers, element: Element| {
            table::handle(handlers, &element)
        })
        .add_handler(vec!["a"], anchor)
        .add_handler(vec!["img"], |_: &dyn Handlers, element: Element| attribute(&element, "alt"))
        .add_handler(vec!["input"], |_: &dyn Handlers, element: Element| {
            attribute(&element, "value")
        })
        .build();
    let Ok(tree) = converter.html_to_tree(html) else { return Ok(String::new()) };
    if is_deeper(&tree, MAX_NESTING) {
        let what = format!("has elements in each other, more than {MAX_NESTING} deep");
        return Err(failure::too_large(&what));
    }
    Ok(match output {
        Output::Markdown => converter.tree_to_markdown(&tree),
        Output::Plain | Output::Layout => plain::render(&tree),
    })
}

/// Whether nodes stand in each other more than `most` deep. It goes level by
/// level: whoever goes from a node into its children needs stack for each.
fn is_deeper(tree: &Rc<Node>, most: usize) -> bool {
    let mut level = vec![Rc::clone(tree)];
    for _ in 0..most {
        level = level.iter().flat_map(|node| node.children.borrow().clone()).collect();
    }
    !level.is_empty()
}

/// A link is kept where it has a text: icons have none.
fn anchor(
    handlers: &dyn Handlers,
    element: Element,
) -> Option<htmd::element_handler::HandlerResult> {
    let content = handlers.walk_children(element.node);
    if content.content.trim().is_empty() { Some(content) } else { handlers.fallback(element) }
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
