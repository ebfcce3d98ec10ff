//! The reference says what the catalogue says.

use std::fs;

use harness::reference;

#[test]
fn the_reference_is_that_of_this_version() {
    let written = fs::read_to_string(reference::FILE).expect("docs/reference.md can be read");
    let made = reference::generate();
    let differs = written.lines().zip(made.lines()).find(|(written, made)| written != made);
    assert!(
        written == made,
        "docs/reference.md is out of date: run `make docs` and commit it. First difference: {differs:#?}"
    );
}
