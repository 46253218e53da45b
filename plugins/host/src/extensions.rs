//! The extensions of a plugin that the host calls.

#![expect(unsafe_code, reason = "calls a function of a plugin and reads its structs")]

use std::collections::BTreeSet;

use logitfuse_core::{Error, ErrorKind, PromptReading, Result, StrategyInfo};
use logitfuse_plugin_abi::{EXT_CALIBRATION, EXT_PROMPT, end_of, lf_calibration_v1, lf_plugin_v1, lf_prompt_v1};

use crate::{
    FpControl,
    fenv::control_bits_changed,
    ffi::lend,
    library::{broken, prefix},
};

/// The functions of `lf.prompt/1` and `lf.calibration/1`; absent ones are null, those of an absent extension all are.
#[derive(Clone, Copy)]
pub(crate) struct Extensions {
    pub(crate) prompt: lf_prompt_v1,
    pub(crate) calibration: lf_calibration_v1,
}

const NONE: Extensions = Extensions {
    prompt: lf_prompt_v1 { struct_size: 0, reserved: 0, begin: None, read_prompt: None },
    calibration: lf_calibration_v1 { struct_size: 0, reserved: 0, calibrate: None },
};

impl Extensions {
    /// Asks a plugin for them.
    pub(crate) fn of(plugin: &lf_plugin_v1) -> Result<Self> {
        let mut found = NONE;
        let Some(get) = plugin.get_extension else { return Ok(found) };
        let ((prompt, calibration), changed) = FpControl::guard(|| {
            // SAFETY: a function of a library that stays loaded; the name lives for the call.
            unsafe { (get(lend(EXT_PROMPT)), get(lend(EXT_CALIBRATION))) }
        });
        if changed {
            return Err(control_bits_changed().context("get_extension"));
        }
        if !prompt.is_null() {
            // SAFETY: by the ABI the start of a constant `lf_prompt_v1` of some size, all of whose members may be zero.
            found.prompt = unsafe { prefix(prompt.cast(), end_of!(lf_prompt_v1, begin), EXT_PROMPT) }?;
            if found.prompt.begin.is_none() {
                return Err(broken(format!("{EXT_PROMPT}: the required function begin is null")));
            }
        }
        if !calibration.is_null() {
            // SAFETY: by the ABI the start of a constant `lf_calibration_v1` of some size, all of whose members may be zero.
            found.calibration =
                unsafe { prefix(calibration.cast(), end_of!(lf_calibration_v1, calibrate), EXT_CALIBRATION) }?;
            if found.calibration.calibrate.is_none() {
                return Err(broken(format!("{EXT_CALIBRATION}: the required function calibrate is null")));
            }
        }
        Ok(found)
    }

    /// The names of the functions that are there, as capabilities name them.
    pub(crate) fn present(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("begin", self.prompt.begin.is_some()),
            ("read_prompt", self.prompt.read_prompt.is_some()),
            ("calibrate", self.calibration.calibrate.is_some()),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name)
    }

    /// Those that one strategy's capabilities name.
    pub(crate) fn of_strategy(mut self, capabilities: &BTreeSet<String>) -> Self {
        let has = |name: &str| capabilities.contains(name);
        self.prompt.begin = self.prompt.begin.filter(|_| has("begin"));
        self.prompt.read_prompt = self.prompt.read_prompt.filter(|_| has("read_prompt"));
        self.calibration.calibrate = self.calibration.calibrate.filter(|_| has("calibrate"));
        self
    }

    /// Refuses a strategy that asks to be told what it has no function for.
    pub(crate) fn suffice(&self, info: &StrategyInfo) -> Result<()> {
        let lacking = match info.prompt {
            PromptReading::LogProbs | PromptReading::Rows if self.prompt.begin.is_none() => Some(("prompt", "begin")),
            PromptReading::Rows if self.prompt.read_prompt.is_none() => Some(("prompt", "read_prompt")),
            _ => None,
        };
        let calibration = info.calibration.as_ref().filter(|_| self.calibration.calibrate.is_none());
        match lacking.or(calibration.map(|_| ("calibration", "calibrate"))) {
            None => Ok(()),
            Some((key, function)) => Err(Error::new(
                ErrorKind::InvalidData,
                format!("its `{key}` needs {function}, which its extensions or its capabilities lack"),
            )
            .with_help("this is a fault of the plugin; `logitfuse plugin check` lists all that it finds")),
        }
    }
}
