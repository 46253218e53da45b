//! Figures as pixels, for slides and documents that take no SVG.

use logitfuse_core::{Error, ErrorKind, Result};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree},
};

/// Pixels per unit: sharp in print.
const SCALE: f32 = 2.0;

/// Draws with a font of our own, so that the pixels are the same on every machine.
pub(crate) fn rasterise(svg: &str) -> Result<Vec<u8>> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Internal, format!("a figure cannot be {what}: {e}"))
            .with_help("please report this with the run directory")
    };
    let mut options = Options { font_family: FAMILY.to_owned(), ..Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family(FAMILY);
    let tree = Tree::from_str(svg, &options).map_err(|e| failed("read", &e))?;
    let size = tree.size().to_int_size().scale_by(SCALE).unwrap_or_else(|| tree.size().to_int_size());
    let mut pixels = Pixmap::new(size.width(), size.height())
        .ok_or_else(|| failed("drawn", &format!("{} × {}", size.width(), size.height())))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| failed("encoded", &e))
}

const FAMILY: &str = "DejaVu Sans";
