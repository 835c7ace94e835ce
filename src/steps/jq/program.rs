//! Compiling and running a filter.
//!
//! jq's messages quote the values they stumble over, so a message goes out
//! only if it is known to hold none.

use std::iter;

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Fun, run, v};
use jaq_core::{Compiler, Ctx, Filter, Vars, compile};
use jaq_json::Val;
use serde_json::Value;

use super::json::Budget;

/// Bytes of a filter.
const MAX_FILTER_BYTES: usize = 16 * 1024;

/// Stack for parsing: the parser recurses at most once for each byte of the
/// filter, and a stack overflow would take the whole server down.
const PARSER_STACK_BYTES: usize = 512 * 1024 * 1024;

/// Bytes that the outputs may have as JSON.
const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// The one global variable.
const CONTEXT: &str = "$context";

/// Native filters that must not be reachable: they show or depend on the
/// process and the machine.
const WITHHELD: [&str; 5] = ["env", "localtime", "strflocaltime", "debug_empty", "stderr_empty"];

/// Characters of a filter that an error quotes.
const MAX_QUOTED_CHARS: usize = 40;

type Data = JustLut<Val>;

/// Checks that a filter compiles.
///
/// # Errors
/// What is wrong, and on which line and column.
pub fn check(filter: &str) -> Result<(), String> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(format!("the filter is longer than {MAX_FILTER_BYTES} bytes"));
    }
    let source = filter.to_owned();
    let checker = std::thread::Builder::new()
        .name("jq-check".to_owned())
        .stack_size(PARSER_STACK_BYTES)
        .spawn(move || compile(&source).map(drop));
    let checked = checker.ok().and_then(|thread| thread.join().ok());
    checked.unwrap_or_else(|| Err("the filter cannot be parsed; simplify it".to_owned()))
}

/// Runs a filter on a payload `{"input", "context"}` and gives its first
/// `limit` outputs.
///
/// # Errors
/// Why it failed, without values of the payload.
pub fn evaluate(filter: &str, payload: &[u8], limit: usize) -> Result<Vec<Value>, String> {
    let program = compile(filter)?;
    let (input, context) = read(payload).ok_or("the payload cannot be read")?;
    let context = Ctx::<Data>::new(&program.lut, Vars::new([context]));
    let mut budget = Budget::of_bytes(MAX_OUTPUT_BYTES);
    let outputs = program.id.run((context, input)).take(limit);
    outputs
        .map(|output| match output {
            Ok(value) => budget.put_out(&value).map_err(|overrun| overrun.to_string()),
            Err(exception) => Err(describe(exception.get_err().ok(), filter)),
        })
        .collect()
}

fn read(payload: &[u8]) -> Option<(Val, Val)> {
    let Val::Obj(parts) = jaq_json::read::parse_single(payload).ok()? else { return None };
    let part = |name: &'static str| parts.get(&Val::utf8_str(name)).cloned();
    Some((part("input")?, part("context")?))
}

fn compile(filter: &str) -> Result<Filter<Data>, String> {
    let arena = Arena::default();
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let file = File { code: filter, path: () };
    let modules = Loader::new(definitions)
        .load(&arena, file)
        .map_err(|errors| explain(errors, load_problem))?;
    load::import(&modules, |_| Err("there are no modules here".to_owned()))
        .map_err(|errors| explain(errors, load_problem))?;
    Compiler::default()
        .with_funs(functions())
        .with_global_vars([CONTEXT])
        .compile(modules)
        .map_err(|errors| explain(errors, compile_problem))
}

/// All native filters but the withheld ones. The standard definitions refer to
/// two of those, which stay as filters without output or effect.
fn functions() -> impl Iterator<Item = Fun<Data>> {
    let native = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let silent = ["debug_empty", "stderr_empty"]
        .map(|name| run::<Data>((name, v(0), |_| Box::new(iter::empty()))));
    native.filter(|(name, ..)| !WITHHELD.contains(name)).chain(silent)
}

/// What is wrong, and the piece of the filter that it is about.
type Problem<'f> = (String, &'f str);

fn load_problem(error: load::Error<&str>) -> Option<Problem<'_>> {
    match error {
        load::Error::Io(errors) => errors.into_iter().next().map(|(path, reason)| (reason, path)),
        load::Error::Lex(errors) => errors
            .into_iter()
            .next()
            .map(|(expected, found)| (format!("expected {}", expected.as_str()), found)),
        load::Error::Parse(errors) => errors
            .into_iter()
            .next()
            .map(|(expected, found)| (format!("expected {}", expected.as_str()), found)),
    }
}

fn compile_problem(errors: Vec<compile::Error<&str>>) -> Option<Problem<'_>> {
    let (name, kind) = errors.into_iter().next()?;
    Some((format!("there is no {} of this name and arity", kind.as_str()), name))
}

/// Puts the first problem into words with its line and column.
fn explain<'f, E>(
    errors: load::Errors<&'f str, (), E>,
    problem: fn(E) -> Option<Problem<'f>>,
) -> String {
    let first = errors
        .into_iter()
        .find_map(|(file, error)| problem(error).map(|(what, piece)| (what, piece, file.code)));
    let Some((what, piece, code)) = first else {
        return "the filter cannot be compiled".to_owned();
    };
    let before = code.get(..load::span(code, piece).start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|one| *one != '\n').count() + 1;
    let found: String = piece.chars().take(MAX_QUOTED_CHARS).collect();
    let found = if found.is_empty() { "the end".to_owned() } else { format!("`{found}`") };
    format!("line {line}, column {column}: {what}, at {found}")
}

/// A message that the filter gives itself, as a literal of `error("…")`, is no
/// value of a document; every other one is cut down to its kind.
fn describe(error: Option<jaq_core::Error<Val>>, filter: &str) -> String {
    let Some(error) = error else { return "the filter stopped early".to_owned() };
    let message = match error.into_val() {
        Val::TStr(text) => String::from_utf8_lossy(&text).into_owned(),
        _ => String::new(),
    };
    if !message.is_empty() && filter.contains(&format!("\"{message}\"")) {
        return message;
    }
    KINDS
        .iter()
        .find(|(start, _)| message.starts_with(start))
        .map_or("the filter failed with an error of its own", |(_, kind)| kind)
        .to_owned()
}

/// How jq's messages begin, and what is said in their place.
const KINDS: [(&str, &str); 5] = [
    ("cannot index ", "a value is indexed with something that does not fit its type"),
    ("cannot use ", "a value has a type that does not fit where it is used"),
    ("cannot calculate ", "an operator is used on values whose types do not fit"),
    ("cannot parse ", "a text cannot be parsed"),
    ("invalid path expression", "a path expression is expected"),
];
