//! The floating-point environment of a thread. Rust assumes the default one; a plugin that leaves another behind makes
//! every later sum of the process slightly wrong, and nothing would show it.

#![expect(unsafe_code, reason = "control registers can be read and written in assembly only")]

/// The floating-point control bits of a thread: rounding mode, flush-to-zero, masked exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpControl(u64);

/// Bits of MXCSR that report what happened, which every computation may set.
#[cfg(target_arch = "x86_64")]
const STICKY: u64 = 0x3f;

impl FpControl {
    /// That of this thread.
    #[cfg(target_arch = "x86_64")]
    pub fn now() -> Self {
        let mut mxcsr = 0_u32;
        // SAFETY: `stmxcsr` writes four bytes to the address it is given, which is that of a live `u32`.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
        Self(u64::from(mxcsr) & !STICKY)
    }

    /// Makes it this thread's.
    #[cfg(target_arch = "x86_64")]
    pub fn restore(self) {
        let mxcsr = u32::try_from(self.0).unwrap_or(0x1f80);
        // SAFETY: `ldmxcsr` reads four bytes from the address of a live `u32`. The value came out of `stmxcsr`, with status
        // bits cleared, so no reserved bit is set; it is the state that Rust code ran under before.
        unsafe {
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack, preserves_flags, readonly));
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

#[cfg(test)]
mod tests {
    use super::*;

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
