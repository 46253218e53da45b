//! Diagnostics of a configuration, rendered: message, the underlined part of the file, help.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use logitfuse_config::{Diagnostic, Diagnostics, Place};

use crate::output;

/// The diagnostics behind an error, if it has any.
pub(crate) fn of(error: &logitfuse_core::Error) -> Option<&Diagnostics> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Prints them to stderr, with an empty line between two.
pub(crate) fn print(found: &Diagnostics) {
    for (i, diagnostic) in found.0.iter().enumerate() {
        if i > 0 {
            output::talk("");
        }
        output::talk(&draw(diagnostic));
    }
    if found.0.len() > 1 {
        output::talk(&format!("\n{} errors", found.0.len()));
    }
}

fn draw(diagnostic: &Diagnostic) -> String {
    let mut main = Group::with_title(Level::ERROR.primary_title(&*diagnostic.message));
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
