//! The header compiles everywhere without a warning, and both compilers lay its structs out as the golden file says.

#![expect(clippy::expect_used, reason = "helpers of tests fail like tests")]

mod compiler;

use std::process::Command;

use compiler::{Unit, compile, include, scratch, source};
use logitfuse_plugin_abi::layout;

/// Sizes and offsets of ABI 1. Lines may be added at the end of a struct that may grow; none may change.
const GOLDEN: &str = include_str!("../layout/v1.txt");

fn golden_lines() -> Vec<&'static str> {
    GOLDEN.lines().filter(|line| !line.starts_with('#')).collect()
}

/// Compiles a text without linking it, padding being a fault too; in C unless the standard is one of C++.
fn compile_object(standard: &str, name: &str, text: &str) -> Result<(), String> {
    let file = source(&format!("{name}-{standard}.source"), text);
    compile(&Unit { standard, file: &file, include: &include(), flags: &["-Wpadded", "-c"] }, &file.with_extension("o"))
}

#[test]
fn rust_lays_the_structs_out_as_the_golden_file_says() {
    let mut text = String::new();
    layout::write(&mut text).expect("a string takes text");
    assert_eq!(text.lines().collect::<Vec<_>>(), golden_lines());
}

#[test]
fn c_lays_the_structs_out_as_the_golden_file_says() {
    let prints = golden_lines().into_iter().map(|line| {
        let what = line.split(' ').next().expect("a line begins with a name");
        match what.split_once('.') {
            None => format!("P(\"{what} size %u align %u\\n\", sizeof({what}), _Alignof({what}))"),
            Some((name, member)) => format!(
                "P(\"{what} offset %u size %u\\n\", offsetof({name}, {member}), sizeof((({name} *)0)->{member}))"
            ),
        }
    });
    let program = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"logitfuse_plugin.h\"\n\
         #define P(format, a, b) printf(format, (unsigned)(a), (unsigned)(b));\n\
         int main(void) {{\n{}\n  return 0;\n}}\n",
        prints.collect::<Vec<_>>().join("\n")
    );
    let (file, output) = (source("layout.c", &program), scratch("layout"));
    compile(&Unit { standard: "c11", file: &file, include: &include(), flags: &[] }, &output)
        .expect("the program compiles");
    let result = Command::new(&output).output().expect("the program runs");
    let text = String::from_utf8(result.stdout).expect("the program prints text");
    assert_eq!(text.lines().collect::<Vec<_>>(), golden_lines());
}

/// A whole plugin, so that the types of the entry and of the functions are checked and the metadata macro is expanded.
const PLUGIN: &str = r#"
#include "logitfuse_plugin.h"
LF_DEFINE_META({ "abi": [1, 0], "plugin": { "id": "org.example.none", "version": "0.1.0" }, "strategies": [] });
static const lf_plugin_v1 plugin = { sizeof(lf_plugin_v1), 0, { LF_PLUGIN_META, sizeof(LF_PLUGIN_META) - 1 }, 0, 0, 0 };
const lf_plugin_v1 *LF_CALL lf_plugin_entry_v1(const lf_host_v1 *host, lf_error *err) LF_NOEXCEPT {
  (void)err;
  return host ? &plugin : 0;
}
"#;

#[test]
fn the_header_compiles_without_a_warning_in_every_standard() {
    for standard in ["c99", "c11", "c17", "c++11", "c++17", "c++20"] {
        compile_object(standard, "plugin", PLUGIN).expect(standard);
    }
}

#[test]
fn a_function_that_may_throw_does_not_fit_into_the_table_in_cpp17() {
    let throwing = format!(
        "{PLUGIN}\nstatic void destroy(lf_instance *) {{}}\n\
         extern const lf_strategy_v1 strategy;\n\
         void assign(lf_strategy_v1 &s);\nvoid assign(lf_strategy_v1 &s) {{ s.destroy = destroy; }}\n"
    );
    assert!(compile_object("c++17", "throwing", &throwing).is_err());
    let marked = throwing.replace("destroy(lf_instance *) {", "destroy(lf_instance *) noexcept {");
    compile_object("c++17", "marked", &marked).expect("noexcept fits");
}

#[test]
fn constants_are_those_of_the_header() {
    let define = |name: &str| {
        let line = logitfuse_plugin_abi::HEADER.lines().find(|l| l.split_whitespace().nth(1) == Some(name));
        let value = line.and_then(|l| l.split_whitespace().nth(2)).expect(name);
        value.trim_end_matches('u').trim_matches('"').to_owned()
    };
    macro_rules! same {
        ($($name:ident),*) => { $(assert_eq!(define(stringify!($name)), logitfuse_plugin_abi::$name.to_string());)* };
    }
    same!(LF_OK, LF_E_ARGUMENT, LF_E_CONFIG, LF_E_INCOMPATIBLE, LF_E_UNSUPPORTED, LF_E_STATE, LF_E_NUMERIC);
    same!(LF_E_CANCELLED, LF_E_IO, LF_E_INTERNAL, LF_E_PANIC);
    same!(LF_LOG_ERROR, LF_LOG_WARN, LF_LOG_INFO, LF_LOG_DEBUG, LF_LOG_TRACE);
    assert_eq!(define("LF_ABI_MAJOR"), logitfuse_plugin_abi::ABI_MAJOR.to_string());
    assert_eq!(define("LF_ABI_MINOR"), logitfuse_plugin_abi::ABI_MINOR.to_string());
    assert_eq!(define("LF_EXT_CONFIG"), logitfuse_plugin_abi::EXT_CONFIG);
    assert_eq!(define("LF_EXT_BATCH"), logitfuse_plugin_abi::EXT_BATCH);
    assert_eq!(define("LF_EXT_PROMPT"), logitfuse_plugin_abi::EXT_PROMPT);
    assert_eq!(define("LF_EXT_CALIBRATION"), logitfuse_plugin_abi::EXT_CALIBRATION);
}
