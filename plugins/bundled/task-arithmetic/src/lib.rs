//! Task arithmetic on logits, as a shared library; the strategy itself is `logitfuse-task-arithmetic`.

logitfuse_plugin::export!(logitfuse_task_arithmetic::TaskArithmetic);
