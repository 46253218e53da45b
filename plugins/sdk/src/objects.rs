//! An instance and a state, as core knows them.

use logitfuse_core::{
    Error, ErrorKind, FusionState, FusionStrategy, PromptReading, RoleBinding, SessionInfo, SharedVocabulary,
};

use crate::failure::Failure;

/// Behind `lf_instance`.
pub(crate) struct Instance {
    pub(crate) strategy: Box<dyn FusionStrategy>,
}

/// Behind `lf_state`.
pub(crate) struct Sequence {
    pub(crate) state: Box<dyn FusionState>,
    pub(crate) shape: Shape,
}

/// What every step of a sequence must agree with.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) columns: usize,
}

impl Instance {
    pub(crate) fn start(&self, bindings: Vec<RoleBinding>, width: u64, masked: &[u32]) -> Result<Sequence, Failure> {
        // Token ids are u32.
        let wrong = || Failure::argument(format!("lf_session.width: {width} is not the length of a row"));
        let width = u32::try_from(width).ok().filter(|&width| width > 0).ok_or_else(wrong)? as usize;
        let vocabulary = SharedVocabulary::new(width, masked.iter().copied());
        if vocabulary.width() != width {
            return Err(Failure::argument("lf_session.masked: holds the last id; rows end at an id that exists"));
        }
        if self.strategy.info().prompt != PromptReading::End {
            let what = "its parameters make it depend on how probable prompts are, which plugins are not told";
            let error = Error::new(ErrorKind::Unsupported, format!("{}: {what}", self.strategy.info().id));
            return Err(error.with_help("use the strategy that is built in, or other parameters").into());
        }
        let shape = Shape { rows: bindings.len(), width, columns: self.strategy.info().trace.len() };
        let state = self.strategy.start(&SessionInfo { bindings, vocabulary })?;
        Ok(Sequence { state, shape })
    }
}

impl Sequence {
    pub(crate) fn fork(&self) -> Result<Self, Failure> {
        Ok(Self { state: self.state.fork()?, shape: self.shape })
    }
}
