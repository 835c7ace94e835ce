//! Speaker's notes of a presentation.
//!
//! undoc takes the notes with the slide's number in their file name; which
//! notes belong to a slide is said only by the slide's relationships.

use quick_xml::Reader;
use quick_xml::events::Event;
use undoc::model::Paragraph;

use super::super::archive::Archive;
use super::super::bounds::Bounds;
use super::super::charset;
use super::super::xml::{elements, resolve};

/// The notes of each slide, in the order of the slides; none if the package
/// does not say.
pub(super) fn read(bytes: &[u8], bounds: &Bounds) -> Option<Vec<Vec<Paragraph>>> {
    let mut archive = Archive::open(bytes, bounds).ok()?;
    let presentation = archive.read("ppt/presentation.xml").ok()??;
    let parts = relationships(&mut archive, "ppt/_rels/presentation.xml.rels")?;
    let ids = elements(&presentation).into_iter().filter(|element| element.name == "sldId");
    // `id` twice: the slide's own number, and `r:id`, which comes last.
    let slides = ids.filter_map(|mut slide| {
        let id = slide.take("id")?;
        parts.iter().find(|part| part.id == id).map(|part| resolve("ppt", &part.target))
    });
    Some(slides.map(|slide| of_slide(&mut archive, &slide).unwrap_or_default()).collect())
}

fn of_slide(archive: &mut Archive, slide: &str) -> Option<Vec<Paragraph>> {
    let (folder, file) = slide.rsplit_once('/')?;
    let parts = relationships(archive, &format!("{folder}/_rels/{file}.rels"))?;
    let notes = parts.into_iter().find(|part| part.kind.ends_with("/notesSlide"))?;
    let notes = archive.read(&resolve(folder, &notes.target)).ok()??;
    Some(paragraphs(&charset::decode(&notes, Some("utf-8"))))
}

struct Relationship {
    id: String,
    kind: String,
    target: String,
}

fn relationships(archive: &mut Archive, path: &str) -> Option<Vec<Relationship>> {
    let xml = archive.read(path).ok()??;
    let all = elements(&xml).into_iter().filter_map(|mut element| {
        let (id, kind) = (element.take("Id")?, element.take("Type")?);
        Some(Relationship { id, kind, target: element.take("Target")? })
    });
    Some(all.collect())
}

/// The paragraphs of a notes page, without its fields, which number the page.
fn paragraphs(xml: &str) -> Vec<Paragraph> {
    let mut reader = Reader::from_str(xml);
    let mut paragraphs = Vec::new();
    let (mut text, mut shown, mut field) = (String::new(), false, false);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) => match tag.local_name().as_ref() {
                "t" => shown = !field,
                "fld" => field = true,
                _ => {}
            },
            Ok(Event::End(tag)) => match tag.local_name().as_ref() {
                "t" => shown = false,
                "fld" => field = false,
                "p" => paragraphs.push(Paragraph::with_text(std::mem::take(&mut text))),
                _ => {}
            },
            Ok(Event::Empty(tag)) if tag.local_name().as_ref() == "br" => text.push('\n'),
            Ok(Event::Text(piece)) if shown => text.push_str(&piece.xml10_content()),
            Ok(Event::GeneralRef(reference)) if shown => {
                let character = reference.resolve_char_ref().ok().flatten();
                match quick_xml::escape::resolve_predefined_entity(&reference) {
                    Some(entity) => text.push_str(entity),
                    None => text.extend(character),
                }
            }
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
    paragraphs.retain(|paragraph| !paragraph.plain_text().trim().is_empty());
    paragraphs
}
