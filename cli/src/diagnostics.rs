//! Diagnostics of a configuration, rendered: message, the underlined part of the file, help.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use logitfuse_config::{Diagnostic, Diagnostics, Place};

use crate::output;

/// Diagnostics that are printed with their source lines; the rest is counted.
const SHOWN: usize = 40;

/// The diagnostics behind an error, if it has any.
pub(crate) fn of(error: &logitfuse_core::Error) -> Option<&Diagnostics> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Prints them to stderr, with an empty line between two.
pub(crate) fn print(found: &Diagnostics) {
    for (i, diagnostic) in found.0.iter().take(SHOWN).enumerate() {
        if i > 0 {
            output::talk("");
        }
        output::talk(&draw(&Level::ERROR, diagnostic));
    }
    if let Some(more) = found.0.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        output::talk(&format!("\n… and {more} more"));
    }
    if found.0.len() > 1 {
        output::talk(&format!("\n{} errors", found.0.len()));
    }
}

/// Prints what is allowed and most likely not meant, unless asked to be quiet.
pub(crate) fn warn(quiet: bool, found: &[Diagnostic]) {
    for diagnostic in found.iter().take(SHOWN) {
        output::say(quiet, &format!("{}\n", draw(&Level::WARNING, diagnostic)));
    }
    if let Some(more) = found.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        output::say(quiet, &format!("… and {more} more warnings\n"));
    }
}

fn draw(level: &Level<'_>, diagnostic: &Diagnostic) -> String {
    let mut main = Group::with_title(level.clone().primary_title(&*diagnostic.message));
    let mut apart = Vec::new();
    if let Some(place) = &diagnostic.place {
        let mut snippet =
            snippet(place).annotation(AnnotationKind::Primary.span(place.range()).label(label(&diagnostic.label)));
        for (other, label) in &diagnostic.also {
            if other.name() == place.name() {
                snippet = snippet.annotation(AnnotationKind::Context.span(other.range()).label(&**label));
            } else {
                apart
                    .push(self::snippet(other).annotation(AnnotationKind::Context.span(other.range()).label(&**label)));
            }
        }
        main = main.element(snippet);
    }
    for snippet in apart {
        main = main.element(snippet);
    }
    let mut groups = vec![main];
    groups.extend(diagnostic.help.as_deref().map(|help| Group::with_title(Level::HELP.secondary_title(help))));
    Renderer::styled().render(&groups)
}

fn snippet(place: &Place) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    Snippet::source(place.text()).path(Some(place.name()).filter(|name| !name.is_empty()))
}

fn label(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
