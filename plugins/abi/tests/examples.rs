//! What we hand out as C and C++ compiles in every standard it names, without a warning.

#![expect(clippy::expect_used, reason = "helpers of tests fail like tests")]

mod compiler;

use std::path::Path;
use std::process::Command;

use compiler::{Unit, compile, crate_folder, include, scratch, source};

const LIBRARY: &[&str] = &["-shared", "-fPIC", "-fvisibility=hidden"];

fn root() -> std::path::PathBuf {
    crate_folder().join("../..")
}

fn builds(standard: &str, file: &Path) {
    let name = format!("{}-{standard}.so", file.file_stem().expect("a source has a name").to_string_lossy());
    compile(&Unit { standard, file, include: &include(), flags: LIBRARY }, &scratch(&name)).expect(standard);
}

#[test]
fn the_example_in_c_builds() {
    for standard in ["c99", "c11", "c17"] {
        builds(standard, &root().join("examples/plugins/c/entropy_gate.c"));
    }
}

#[test]
fn the_template_in_c_builds() {
    let template = root().join("cli/templates/plugin/c/strategy.c");
    let text = std::fs::read_to_string(template).expect("the template is there");
    let file = source("my_rule.c", &text.replace("{{name}}", "my-rule"));
    for standard in ["c99", "c11", "c17"] {
        builds(standard, &file);
    }
}

#[test]
fn the_example_in_cpp_builds() {
    for standard in ["c++17", "c++20"] {
        builds(standard, &root().join("examples/plugins/cpp/trust.cc"));
    }
}

/// `exceptions.cc` is a host and a plugin in one program, which throws all there is to throw and checks what comes out.
#[test]
fn no_exception_leaves_the_cpp_wrapper() {
    let cpp = format!("-I{}", root().join("examples/plugins/cpp").display());
    let program = scratch("exceptions");
    let unit = Unit {
        standard: "c++17",
        file: &crate_folder().join("tests/cpp/exceptions.cc"),
        include: &include(),
        flags: &[&cpp],
    };
    compile(&unit, &program).expect("the program compiles");
    let result = Command::new(program).output().expect("the program runs");
    let said = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success() && said.is_empty(), "{}: {said}", result.status);
}
