//! Ensembles, contrastive decoding and three-way mixtures, as a shared library; the strategies themselves are in `logitfuse-ensemble`.

logitfuse_plugin::export!(logitfuse_ensemble::Ensemble, logitfuse_ensemble::Contrastive, logitfuse_ensemble::TriMix);
