//! The floating-point environment of a thread. Rust assumes the default one; a plugin that leaves another behind makes
//! every later sum of the process slightly wrong, and nothing would show it. Threads that are started later inherit it, those
//! of ONNX Runtime among them.

#![expect(unsafe_code, reason = "control registers can be read and written in assembly only")]

use logitfuse_core::{Error, ErrorKind};

/// The floating-point control bits of a thread: rounding mode, flush-to-zero, masked exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpControl(u64);

/// Bits of MXCSR that report what happened, which every computation may set.
#[cfg(target_arch = "x86_64")]
const STICKY: u64 = 0x3f;
/// Where the control word of the x87 stands above MXCSR. C's `long double` is computed there.
#[cfg(target_arch = "x86_64")]
const X87: u32 = 32;

impl FpControl {
    /// Calls foreign code: what it returned, and whether it left the control bits changed, which are restored.
    pub(crate) fn guard<T>(call: impl FnOnce() -> T) -> (T, bool) {
        let before = Self::now();
        let returned = call();
        (returned, before.restore_if_changed())
    }

    /// Makes it this thread's if it is not; whether it was not.
    pub(crate) fn restore_if_changed(self) -> bool {
        let changed = Self::now() != self;
        if changed {
            self.restore();
        }
        changed
    }

    /// That of this thread.
    #[cfg(target_arch = "x86_64")]
    pub fn now() -> Self {
        let (mut mxcsr, mut x87) = (0_u32, 0_u16);
        // SAFETY: `stmxcsr` writes four bytes and `fnstcw` two to the addresses that they are given, which are those of a live
        // `u32` and a live `u16`.
        unsafe {
            std::arch::asm!(
                "stmxcsr [{}]",
                "fnstcw [{}]",
                in(reg) &raw mut mxcsr,
                in(reg) &raw mut x87,
                options(nostack, preserves_flags)
            );
        };
        Self((u64::from(mxcsr) & !STICKY) | (u64::from(x87) << X87))
    }

    /// Makes it this thread's.
    #[cfg(target_arch = "x86_64")]
    pub fn restore(self) {
        let mxcsr = u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(0x1f80);
        let x87 = u16::try_from(self.0 >> X87).unwrap_or(0x037f);
        // SAFETY: `ldmxcsr` reads four bytes and `fldcw` two from the addresses of a live `u32` and a live `u16`. The values came
        // out of `stmxcsr`, with status bits cleared, and `fnstcw`, so no reserved bit is set; it is the state that Rust code ran
        // under before. `fnclex` drops what the x87 may have pending, which would be raised where the exceptions are not masked.
        unsafe {
            std::arch::asm!(
                "ldmxcsr [{}]",
                "fnclex",
                "fldcw [{}]",
                in(reg) &raw const mxcsr,
                in(reg) &raw const x87,
                options(nostack, preserves_flags, readonly)
            );
        };
    }

    /// That of this thread.
    #[cfg(target_arch = "aarch64")]
    pub fn now() -> Self {
        let fpcr: u64;
        // SAFETY: reads a register that user code may read; touches no memory.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        Self(fpcr)
    }

    /// Makes it this thread's.
    #[cfg(target_arch = "aarch64")]
    pub fn restore(self) {
        // SAFETY: writes what `mrs` read before from the same register: the state that Rust code ran under.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) self.0, options(nomem, nostack, preserves_flags)) };
    }

    /// Elsewhere the host cannot look.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn now() -> Self {
        Self(0)
    }

    /// Elsewhere the host cannot look.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn restore(self) {}
}

/// The error of a call that left the floating-point control bits changed.
pub(crate) fn control_bits_changed() -> Error {
    Error::new(ErrorKind::Backend, "left the floating-point control bits changed (they were restored)")
        .with_help("rounding mode and flush-to-zero belong to the host; this is a fault of the plugin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_way_to_change_it_is_seen_and_undone() {
        let before = FpControl::now();
        // Rounding up, flush-to-zero, denormals-are-zero; rounding and precision of the x87.
        for bits in [0x4000_u64, 0x8000, 0x40, 0x0400 << X87, 0x0200 << X87] {
            let ((), changed) = FpControl::guard(|| FpControl(before.0 ^ bits).restore());
            assert!(changed, "{bits:x}");
            assert_eq!(FpControl::now(), before, "{bits:x}");
        }
        let (sum, changed) = FpControl::guard(|| std::hint::black_box(0.1_f64) + std::hint::black_box(0.2));
        assert!(!changed && sum > 0.3, "what computing sets is no change");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn flush_to_zero_shows_and_can_be_undone() {
        let before = FpControl::now();
        FpControl(before.0 | 0x8000).restore();
        let during = FpControl::now();
        let tiny = std::hint::black_box(f32::MIN_POSITIVE) / std::hint::black_box(2.0);
        before.restore();
        assert_ne!(during, before);
        assert_eq!(tiny.to_bits(), 0);
        assert_eq!(FpControl::now(), before);
    }
}
