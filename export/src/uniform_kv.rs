//! Key and value caches of one shape, whatever the layers' own.
//!
//! genai 0.18 can take tokens back, which its drafts need, where attention writes caches in place or where all caches have
//! the shape that its configuration states. Here the caches outside are as large as the largest layer's; inside, each layer
//! cuts out and pads its own.

use std::collections::BTreeMap;

use logitfuse_onnx_graph::{
    Initializer, Model,
    proto::{DimensionValue, Node, ValueInfo},
    rename_values,
};
use logitfuse_pipeline::model_files::CacheTensor;

use crate::models::{Fusion, Layer};

/// Heads and head size of the caches outside.
pub(crate) struct UniformShape {
    pub(crate) heads: usize,
    pub(crate) size: usize,
}

impl UniformShape {
    /// The largest of all layers' shapes; `None` where one is not known.
    pub(crate) fn of(fusion: &Fusion) -> Option<Self> {
        let known = |place: usize| fusion.caches().map(move |cache| cache.dims[place]).collect::<Option<Vec<_>>>();
        let (heads, sizes) = (known(1)?, known(3)?);
        Some(Self { heads: heads.into_iter().max()?, size: sizes.into_iter().max()? })
    }

    fn is_that_of(&self, cache: &CacheTensor) -> bool {
        cache.dims[1] == Some(self.heads) && cache.dims[3] == Some(self.size)
    }
}

/// Gives every cache of the one graph this shape.
pub(crate) fn make_uniform(graph: &mut Model, fusion: &Fusion, shape: &UniformShape) {
    let layers = fusion.models.iter().flat_map(|model| &model.layers);
    let caches = layers.flat_map(Layer::names).filter(|(cache, ..)| !shape.is_that_of(cache));
    let caches: Vec<(&CacheTensor, String, String)> = caches.collect();
    if caches.is_empty() {
        return;
    }
    let own = |name: &str| format!("{name}/own");
    let inner: BTreeMap<&str, String> =
        caches.iter().flat_map(|(_, past, present)| [past, present]).map(|name| (&**name, own(name))).collect();
    rename_values(graph.graph_mut(), &mut |name| {
        if let Some(new) = inner.get(&**name) {
            new.clone_into(name);
        }
    });
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    graph.initializers.push(Initializer::int64("uniform_kv/axes", &[2], &[1, 3]));
    graph.initializers.push(Initializer::int64("uniform_kv/starts", &[2], &[0, 0]));
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (cache, past, present) in &caches {
        let [heads, size] = [1, 3].map(|place| cache.dims[place].unwrap_or(0));
        let ends = format!("{past}/ends");
        let pads = format!("{present}/pads");
        let missing = [number(shape.heads - heads), number(shape.size - size)];
        graph.initializers.push(Initializer::int64(&ends, &[2], &[number(heads), number(size)]));
        graph.initializers.push(Initializer::int64(&pads, &[8], &[0, 0, 0, 0, 0, missing[0], 0, missing[1]]));
        let slice = ["uniform_kv/starts", &ends, "uniform_kv/axes"];
        before.push(Node::new("Slice", &[past, slice[0], slice[1], slice[2]], &[&own(past)]));
        after.push(Node::new("Pad", &[&own(present), &pads], &[present]));
    }
    let graph = graph.graph_mut();
    let outer: BTreeMap<String, &str> =
        caches.iter().flat_map(|(_, past, present)| [past, present]).map(|name| (own(name), &**name)).collect();
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(name) = outer.get(info.name()) {
            *info = reshaped(info, name, shape);
        }
    }
    before.append(&mut graph.node);
    before.append(&mut after);
    graph.node = before;
}

fn reshaped(info: &ValueInfo, name: &str, shape: &UniformShape) -> ValueInfo {
    let Some((element, dims)) = info.tensor_type() else { return info.clone() };
    let fixed = |number: usize| DimensionValue::Fixed(i64::try_from(number).unwrap_or(i64::MAX));
    let dims = dims.into_iter().enumerate().map(|(place, dim)| match place {
        1 => fixed(shape.heads),
        3 => fixed(shape.size),
        _ => dim.unwrap_or(DimensionValue::Named(format!("{name}.{place}"))),
    });
    ValueInfo::tensor(name, element, &dims.collect::<Vec<_>>())
}
