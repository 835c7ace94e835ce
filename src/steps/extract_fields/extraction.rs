//! The parameters as a whole, compiled, and their use on a text.

use indexmap::IndexMap;
use regex::Regex;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::document::Document;
use super::field::FieldRule;
use super::lines::LinesRule;
use super::normalize::normalize;
use super::params::{Field, Lines, Normalize, Params, Template};
use super::pattern::Compiler;
use super::value::compile_locale;
use super::value::locale::LocaleRules;
use crate::steps::{ParamError, StepError};

/// All that one step looks for.
#[derive(Debug)]
pub struct Extraction {
    normalize: Normalize,
    common: Section,
    templates: Vec<TemplateRule>,
    allow_unmatched: bool,
}

/// What is looked for in every document, or in those of one template.
#[derive(Debug)]
struct Section {
    locale: Option<LocaleRules>,
    constants: Map<String, Value>,
    fields: Vec<FieldRule>,
    lines: Vec<LinesRule>,
}

#[derive(Debug)]
struct TemplateRule {
    matches: Vec<Regex>,
    not: Vec<Regex>,
    section: Section,
}

impl Extraction {
    /// Checks and compiles the parameters.
    ///
    /// # Errors
    /// Names the first option that cannot be used.
    pub fn compile(params: Params) -> Result<Self, ParamError> {
        let mut compiler = Compiler::default();
        let common = Section::compile(
            params.locale.as_deref(),
            params.constants,
            params.fields,
            params.lines,
            "",
            &mut compiler,
        )?;
        let templates = params.templates.into_iter().enumerate().map(|(index, template)| {
            TemplateRule::compile(template, &format!("templates[{index}]"), &mut compiler)
        });
        let templates = templates.collect::<Result<Vec<_>, _>>()?;
        if templates.is_empty() && common.is_empty() {
            return Err(ParamError::at("", "give `fields`, `lines` or `templates`"));
        }
        Ok(Self {
            normalize: params.normalize,
            common,
            templates,
            allow_unmatched: params.allow_unmatched,
        })
    }

    /// The values found in `text`, as an object.
    ///
    /// # Errors
    /// `no_template_matched`, `field_missing`, `field_invalid`,
    /// `lines_uneven`, `too_many_lines` or `cancelled`.
    pub fn extract(&self, text: &str, cancel: &CancellationToken) -> Result<Value, StepError> {
        let text = normalize(text, self.normalize);
        let template = self.template(&text, cancel)?.map(|template| &template.section);
        let locale = template.and_then(|section| section.locale.as_ref());
        let document =
            Document { text: &text, locale: locale.or(self.common.locale.as_ref()), cancel };
        let mut values = Map::new();
        let overridden = |name: &str| template.is_some_and(|section| section.has(name));
        self.common.extract(&document, &mut values, overridden)?;
        if let Some(section) = template {
            section.extract(&document, &mut values, |_| false)?;
        }
        Ok(Value::Object(values))
    }

    /// The first template that fits.
    fn template(
        &self,
        text: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<&TemplateRule>, StepError> {
        for template in &self.templates {
            if cancel.is_cancelled() {
                return Err(StepError::cancelled());
            }
            if template.fits(text) {
                return Ok(Some(template));
            }
        }
        if self.templates.is_empty() || self.allow_unmatched {
            return Ok(None);
        }
        let detail = format!(
            "none of the {} templates fits the text; compare their `match` with the text, or set \
             `allow_unmatched`",
            self.templates.len()
        );
        Err(StepError::permanent("no_template_matched", detail))
    }
}

impl TemplateRule {
    fn compile(
        template: Template,
        path: &str,
        compiler: &mut Compiler,
    ) -> Result<Self, ParamError> {
        if template.matches.is_empty() {
            let detail = "give at least one pattern that tells these documents from others";
            return Err(ParamError::at(format!("{path}.match"), detail));
        }
        Ok(Self {
            matches: compiler.patterns(&template.matches, &format!("{path}.match"))?,
            not: compiler.patterns(&template.not, &format!("{path}.not"))?,
            section: Section::compile(
                template.locale.as_deref(),
                template.constants,
                template.fields,
                template.lines,
                path,
                compiler,
            )?,
        })
    }

    fn fits(&self, text: &str) -> bool {
        self.matches.iter().all(|pattern| pattern.is_match(text))
            && !self.not.iter().any(|pattern| pattern.is_match(text))
    }
}

impl Section {
    fn compile(
        locale: Option<&str>,
        constants: Map<String, Value>,
        fields: IndexMap<String, Field>,
        lines: IndexMap<String, Lines>,
        path: &str,
        compiler: &mut Compiler,
    ) -> Result<Self, ParamError> {
        let locale = compile_locale(locale, path)?;
        let place = |part: &str, name: &str| match path {
            "" => format!("{part}.{name}"),
            path => format!("{path}.{part}.{name}"),
        };
        let twice = "this name is taken by another part; each name gives one value";
        if let Some(name) = fields.keys().find(|name| constants.contains_key(*name)) {
            return Err(ParamError::at(place("fields", name), twice));
        }
        let taken = |name: &&String| constants.contains_key(*name) || fields.contains_key(*name);
        if let Some(name) = lines.keys().find(taken) {
            return Err(ParamError::at(place("lines", name), twice));
        }
        let fields = fields
            .into_iter()
            .map(|(name, field)| {
                FieldRule::compile(&name, field, &place("fields", &name), compiler)
            })
            .collect::<Result<_, _>>()?;
        let lines = lines
            .into_iter()
            .map(|(name, lines)| LinesRule::compile(&name, lines, &place("lines", &name), compiler))
            .collect::<Result<_, _>>()?;
        Ok(Self { locale, constants, fields, lines })
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.lines.is_empty()
    }

    fn has(&self, name: &str) -> bool {
        self.constants.contains_key(name)
            || self.fields.iter().any(|field| field.name == name)
            || self.lines.iter().any(|lines| lines.name == name)
    }

    /// Adds the values of this section to `values`, but for the names that
    /// are `overridden`.
    fn extract(
        &self,
        document: &Document<'_>,
        values: &mut Map<String, Value>,
        overridden: impl Fn(&str) -> bool,
    ) -> Result<(), StepError> {
        for (name, value) in self.constants.iter().filter(|(name, _)| !overridden(name)) {
            values.insert(name.clone(), value.clone());
        }
        for field in self.fields.iter().filter(|field| !overridden(&field.name)) {
            values.insert(field.name.clone(), field.extract(document)?);
        }
        for lines in self.lines.iter().filter(|lines| !overridden(&lines.name)) {
            values.insert(lines.name.clone(), lines.extract(document)?);
        }
        Ok(())
    }
}
