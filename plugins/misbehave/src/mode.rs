//! The rules that can be broken.

macro_rules! modes {
    ($($variant:ident = $name:literal,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Mode { $($variant),* }

        impl Mode {
            /// The rule of this name; what names none breaks none.
            pub(crate) fn named(name: &str) -> Self {
                match name { $($name => Self::$variant,)* _ => Self::Good }
            }
        }
    };
}

modes! {
    Good = "good",
    // create
    CreateSilent = "create-fails-without-a-message",
    CreateNothing = "create-returns-nothing",
    AcceptAnything = "accept-anything",
    RefuseValid = "refuse-valid",
    // fuse: contained by the host
    PanicGuarded = "panic-guarded",
    FuseSilent = "fuse-fails-without-a-message",
    UnknownStatus = "unknown-status",
    EscapeCodes = "escape-codes",
    Nan = "nan",
    Infinity = "infinity",
    AllMasked = "all-masked",
    FlushToZero = "flush-to-zero",
    FloodLog = "flood-log",
    // fuse: only a process of its own survives
    PanicUnguarded = "panic-unguarded",
    Abort = "abort",
    Exit = "exit",
    Loop = "loop",
    StackOverflow = "stack-overflow",
    WritePastEnd = "write-past-end",
    WriteIntoInputs = "write-into-inputs",
    ReadPastEnd = "read-past-end",
    KeepPointer = "keep-pointer",
    FreeHostMemory = "free-host-memory",
    // wrong without a crash
    Partial = "partial",
    NotIdempotent = "not-idempotent",
    RollbackIgnored = "rollback-ignored",
    ForkShares = "fork-shares",
    GlobalState = "global-state",
    Nondeterministic = "nondeterministic",
    TraceChangesRow = "trace-changes-row",
    LiesAboutShift = "lies-about-shift",
    LiesAboutIdentity = "lies-about-identity",
    LiesAboutMask = "lies-about-mask",
    Locale = "locale",
    Variable = "variable",
    WorkingDirectory = "working-directory",
    SignalHandler = "signal-handler",
    Stdout = "stdout",
    Thread = "thread",
    Leak = "leak",
    Slow = "slow",
}
