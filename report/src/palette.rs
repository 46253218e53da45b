//! Colours: one table for the page, its figures in both themes, and the figures that stand alone.
//!
//! Why a table in Rust rather than a style sheet: contrast is a number, so a test holds it, and a figure that is saved by
//! itself needs the same colours without the page's custom properties.

use std::fmt::Write;

/// A colour that style sheets call `var(--name)`.
struct Colour {
    name: &'static str,
    light: &'static str,
    dark: &'static str,
}

const fn colour(name: &'static str, light: &'static str, dark: &'static str) -> Colour {
    Colour { name, light, dark }
}

/// How many hues tell families of variants apart; later ones begin again with another marker and dash.
pub(crate) const HUES: usize = 6;
/// How many shades a ribbon has.
pub(crate) const SHADES: usize = 7;

/// Hues in the order of Okabe and Ito's palette, darkened or lightened until they stand out from the page.
const COLOURS: &[Colour] = &[
    colour("page", "#ffffff", "#14171c"),
    colour("raised", "#f6f7f9", "#1c2027"),
    colour("ink", "#171a20", "#e9ebef"),
    colour("muted", "#586070", "#a3abb9"),
    colour("line", "#d9dde4", "#343a45"),
    colour("accent", "#0b5cad", "#7db8f5"),
    colour("good", "#00684a", "#4fd1a5"),
    colour("bad", "#a8321c", "#ff9d85"),
    colour("h0", "#0b62b0", "#62b0f2"),
    colour("h1", "#c24a00", "#ff9350"),
    colour("h2", "#007f60", "#3ccca0"),
    colour("h3", "#a8438a", "#eb90cc"),
    colour("h4", "#8a6600", "#e3bb3f"),
    colour("h5", "#5b4bb5", "#b3a6ff"),
    colour("s0", "#f3f5f8", "#1f242c"),
    colour("s1", "#e2ecf7", "#1f2f42"),
    colour("s2", "#cbe0f5", "#1f3a57"),
    colour("s3", "#aed1f1", "#1f456c"),
    colour("s4", "#90c1ec", "#205181"),
    colour("s5", "#72b0e6", "#215d96"),
    colour("s6", "#569fdf", "#236aab"),
    colour("by-all", "#f0f1f4", "#23282f"),
    colour("by-base", "#cbe0f5", "#1f4266"),
    colour("by-expert", "#ffd9bf", "#6b3413"),
    colour("by-both", "#e9d3f3", "#53306b"),
    colour("by-none", "#f7e6a6", "#564607"),
];

/// The custom properties of a page: light, dark where the reader's system says so or the switch does, and light on paper.
pub(crate) fn properties() -> String {
    let list = |of: fn(&Colour) -> &'static str| {
        COLOURS.iter().fold(String::new(), |mut css, c| {
            let _ = write!(css, "--{}:{};", c.name, of(c));
            css
        })
    };
    let (light, dark) = (list(|c| c.light), list(|c| c.dark));
    format!(
        ":root{{color-scheme:light;{light}}}\
         @media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\
         @media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}"
    )
}

/// A style sheet with every `var(--name)` replaced by its light colour: what a figure that stands alone needs.
pub(crate) fn resolve_light(css: &str) -> String {
    COLOURS.iter().fold(css.to_owned(), |css, c| css.replace(&format!("var(--{})", c.name), c.light))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2's relative luminance.
    fn luminance(hex: &str) -> f64 {
        let channel = |at: usize| {
            let c = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn named(name: &str) -> &'static Colour {
        COLOURS.iter().find(|c| c.name == name).unwrap()
    }

    #[test]
    fn text_and_marks_stand_out_in_both_themes() {
        for of in [|c: &Colour| c.light, |c: &Colour| c.dark] {
            for ground in ["page", "raised"] {
                let ground = of(named(ground));
                for (name, least) in [("ink", 7.0), ("muted", 4.5), ("accent", 4.5), ("good", 4.5), ("bad", 4.5)] {
                    let found = contrast(of(named(name)), ground);
                    assert!(found >= least, "{name} on {ground}: {found:.2}");
                }
            }
            for hue in COLOURS.iter().filter(|c| c.name.starts_with('h')) {
                let found = contrast(of(hue), of(named("page")));
                assert!(found >= 4.5, "{}: {found:.2}", hue.name);
            }
            for shade in COLOURS.iter().filter(|c| c.name.starts_with('s') || c.name.starts_with("by-")) {
                let found = contrast(of(named("ink")), of(shade));
                assert!(found >= 4.5, "ink on {}: {found:.2}", shade.name);
            }
        }
    }

    #[test]
    fn a_figure_alone_has_no_properties_left() {
        assert_eq!(resolve_light("a{fill:var(--page)}b{color:var(--h5)}"), "a{fill:#ffffff}b{color:#5b4bb5}");
        let css = resolve_light(include_str!("assets/figure.css"));
        assert!(!css.contains("var("), "{css}");
    }

    #[test]
    fn the_table_has_as_many_hues_and_shades_as_it_says() {
        let count = |letter: char| COLOURS.iter().filter(|c| c.name.len() == 2 && c.name.starts_with(letter)).count();
        assert_eq!((count('h'), count('s')), (HUES, SHADES));
    }
}
