//! A step through the table costs no allocation.

#![expect(unsafe_code, reason = "plays a host in C, and counts what is allocated")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of structs and of small cases")]
#![expect(dead_code, unused_imports, reason = "a part of the host is enough here")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use logitfuse_plugin::serde_json::json;
use logitfuse_plugin::{FusedRow, RoleRow};
use logitfuse_plugin_abi::LF_OK;
use support::probe::Probe;
use support::{Loopback, with_step};

logitfuse_plugin::export!(
    meta: *b"LFMETA01{\"abi\":[1,0],\"plugin\":{\"id\":\"test\",\"version\":\"1\"},\"strategies\":[{\"id\":\"probe\",\"roles\":[]}]}\0";
    Probe
);

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, and a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: handed on.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_nothing() {
    let params = json!({});
    let info = logitfuse_plugin::FusionStrategy::info(&Probe::from_json(&params).unwrap()).clone();
    let sequence = Loopback::new("probe", &params.to_string(), info).unwrap().start_two().unwrap();
    let rows = [RoleRow::new(&[1.0, 2.0], 2.3, 0.0), RoleRow::new(&[0.0, 3.0], 3.05, 0.0)];
    let (mut logits, mut trace) = ([0.0; 2], [f64::NAN]);
    let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
    let fuse = sequence.table.fuse.unwrap();
    let counted = with_step(&rows, &[], &mut out, |step, out| {
        let mut allocations = || {
            let before = ALLOCATIONS.get();
            // SAFETY: the state is alive, and step and out are as the header asks.
            assert_eq!(unsafe { fuse(sequence.state, step, out, std::ptr::null_mut()) }, LF_OK);
            ALLOCATIONS.get() - before
        };
        [allocations(), allocations(), allocations()]
    });
    assert_eq!(counted[1..], [0, 0], "{counted:?}");
}
