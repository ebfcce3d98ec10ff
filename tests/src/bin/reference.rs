//! `reference`: what `make docs` runs.

use std::fs;

use harness::reference;

fn main() {
    fs::write(reference::FILE, reference::generate()).expect("docs/reference.md can be written");
}
