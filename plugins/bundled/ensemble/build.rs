//! Writes down what the strategies say of themselves.

logitfuse_plugin::metadata!(logitfuse_ensemble::Ensemble, logitfuse_ensemble::Contrastive, logitfuse_ensemble::TriMix);
