//! Tables in Markdown.
//!
//! htmd leaves out header cells that stand in the rows of a table's body, so
//! tables are written here.

use std::fmt::Write as _;
use std::rc::Rc;

use htmd::element_handler::{HandlerResult, Handlers};
use htmd::{Element, Node};
use markup5ever_rcdom::NodeData;

/// Most columns that one cell may span: the number is the document's word.
const MAX_SPAN: usize = 64;

pub(super) fn handle(handlers: &dyn Handlers, element: &Element) -> Option<HandlerResult> {
    let mut rows = Vec::new();
    let mut captions = Vec::new();
    collect(element.node, &mut rows, &mut captions);
    let mut text = String::from("\n\n");
    for caption in captions {
        let caption = handlers.walk_children(&caption).content;
        let _ = write!(text, "{}\n\n", caption.trim());
    }
    let columns = rows.iter().map(|row| row.iter().map(span).sum()).max().unwrap_or(0);
    if columns < 2 || rows.iter().flatten().any(has_blocks) {
        for cell in rows.iter().flatten() {
            let _ = write!(text, "{}\n\n", handlers.walk_children(cell).content.trim());
        }
        return Some(text.into());
    }
    for (index, row) in rows.iter().enumerate() {
        let mut left = columns;
        for cell in row {
            let content = handlers.walk_children(cell).content;
            let words: Vec<_> = content.split_whitespace().collect();
            let _ = write!(text, "| {} ", words.join(" ").replace('|', "\\|"));
            let span = span(cell).min(left);
            text.push_str(&"| ".repeat(span.saturating_sub(1)));
            left -= span;
        }
        text.push_str(&"| ".repeat(left));
        text.push_str("|\n");
        if index == 0 {
            text.push_str(&"| --- ".repeat(columns));
            text.push_str("|\n");
        }
    }
    text.push('\n');
    Some(text.into())
}

/// The cells of each row and the captions, but not those of tables within.
fn collect(node: &Rc<Node>, rows: &mut Vec<Vec<Rc<Node>>>, captions: &mut Vec<Rc<Node>>) {
    for child in node.children.borrow().iter() {
        match tag(child).as_deref() {
            Some("tr") => {
                let children = child.children.borrow();
                let cells = children.iter().filter(|cell| is_cell(cell)).cloned();
                rows.push(cells.collect());
            }
            Some("thead" | "tbody" | "tfoot") => collect(child, rows, captions),
            Some("caption") => captions.push(Rc::clone(child)),
            _ => {}
        }
    }
    rows.retain(|row| !row.is_empty());
}

fn is_cell(node: &Rc<Node>) -> bool {
    matches!(tag(node).as_deref(), Some("td" | "th"))
}

/// Whether a cell holds more than a line of a table can: then the table is
/// there for the layout, as in most mail.
pub(super) fn has_blocks(node: &Rc<Node>) -> bool {
    node.children.borrow().iter().any(|child| {
        matches!(
            tag(child).as_deref(),
            Some(
                "table"
                    | "ul"
                    | "ol"
                    | "dl"
                    | "h1"
                    | "h2"
                    | "h3"
                    | "h4"
                    | "h5"
                    | "h6"
                    | "pre"
                    | "blockquote"
                    | "form"
                    | "hr"
            )
        ) || has_blocks(child)
    })
}

fn tag(node: &Rc<Node>) -> Option<String> {
    match &node.data {
        NodeData::Element { name, .. } => Some(name.local.to_string()),
        _ => None,
    }
}

/// The number of columns that a cell stands in.
fn span(cell: &Rc<Node>) -> usize {
    let NodeData::Element { attrs, .. } = &cell.data else { return 1 };
    let attrs = attrs.borrow();
    let span = attrs.iter().find(|attribute| &*attribute.name.local == "colspan");
    span.and_then(|span| span.value.trim().parse().ok()).unwrap_or(1).clamp(1, MAX_SPAN)
}
