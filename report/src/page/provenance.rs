//! The manifest: what must be the same for the result to be the same.

use maud::{Markup, html};

use super::{scrolling, section};
use crate::{data::Data, number};

pub(super) fn manifest(data: &Data) -> Markup {
    let identity = &data.manifest.identity;
    let facts = [
        ("logitfuse", identity.logitfuse.as_str()),
        ("ONNX Runtime", &identity.onnxruntime),
        ("sha256 of resolved.toml", &identity.config_sha256),
        ("sha256 of the identity", &data.metrics.identity_sha256),
    ];
    section(
        "manifest",
        "Manifest",
        html! {
            p { "What the result depends on. Repeat it with " code { "logitfuse rerun" } ", check it with " code { "logitfuse verify" } "." }
            dl {
                @for (name, value) in facts { div { dt { (name) } dd { code { (value) } } } }
            }
            (scrolling("Files", html! {
                table {
                    caption { span { "Files that were read" } }
                    thead { tr {
                        th scope="col" { "File" } th scope="col" { "Kind" } th scope="col" class="number" { "Size" }
                        th scope="col" { "sha256" }
                    } }
                    tbody {
                        @for file in &identity.files {
                            tr {
                                th scope="row" class="path" { (file.path) }
                                td { (file.kind) }
                                td class="number" { (number::bytes(file.bytes)) }
                                td { code class="hash" { (file.sha256) } }
                            }
                        }
                    }
                }
            }))
            @if !data.manifest.machine.is_empty() {
                h3 { "Machine" }
                dl {
                    @for (name, value) in &data.manifest.machine { div { dt { (name.replace('_', " ")) } dd { (value) } } }
                }
            }
            details {
                summary { "resolved.toml" }
                pre tabindex="0" aria-label="resolved.toml" { (data.config) }
            }
        },
    )
}
